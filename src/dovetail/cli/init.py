"""``dovetail init``: a commented job file for a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dovetail.cli import common

EXAMPLES = """Examples:

  dovetail init model.onnx                                   (writes fit.yaml)

  dovetail init model.onnx --out jobs/model.yaml
"""


def command(
    model: Annotated[Path, typer.Argument(help="An .onnx or .tflite file.")],
    out: Annotated[Path, typer.Option(help="Job file to write.")] = Path("fit.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Write a commented job file that declares the model's inputs, to be completed and given to `optimize --job`."""
    from dovetail.data.template import job_template
    from dovetail.pipeline.describe import onnx_form
    from dovetail.workloads.load import load_onnx, signature

    inputs, outputs = signature(load_onnx(onnx_form(model), weights=False))
    common.write_text(out, job_template(inputs, outputs, str(model)), force=force)
    typer.echo(f"{out} written; fill in `data:` and run: dovetail optimize --job {out}")
