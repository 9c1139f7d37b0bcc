"""``dovetail analyze``: what a model asks of the hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dovetail.cli import common

EXAMPLES = """Examples:

  dovetail analyze model.onnx

  dovetail analyze model.onnx --shape input=8,3,224,224 --per-op

  dovetail analyze model.onnx --json > workload.json
"""


def command(
    model: Annotated[Path, typer.Argument(help="An .onnx or .tflite file.")],
    shape: Annotated[list[str] | None, typer.Option(help="Shape of an input, NAME=1,3,224,224; repeatable.")] = None,
    per_op: Annotated[bool, typer.Option("--per-op", help="List every operator.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count FLOPs, bytes, parameters and peak memory, operator by operator."""
    from dovetail.pipeline.describe import analyze_file
    from dovetail.report.analysis import render_terminal, to_json

    workload = analyze_file(model, dict(common.shape(text) for text in shape or []))
    if json:
        common.print_json(to_json(workload))
    else:
        render_terminal(workload, common.console(), per_op=per_op)
