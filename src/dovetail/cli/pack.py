"""``dovetail pack``: a model in a small file, its weights entropy-coded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """Examples:

  dovetail pack model.onnx                           (writes model.dtvw)

  dovetail pack fit/ --out model.dtvw
"""


def command(
    model: Annotated[str, typer.Argument(help="An .onnx file, or an artifact (FOLDER or FOLDER@VARIANT).")],
    out: Annotated[Path | None, typer.Option(help="File to write; by default the model's name beside you.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Pack a model without loss; weights that share values (pass cluster_weights), are zero or have 8 bits pack best."""
    from dovetail.core import units
    from dovetail.pipeline.packing import SUFFIX, pack

    name = Path(model.partition("@")[0]).stem or "model"
    made = pack(model, out or Path(f"{name}{SUFFIX}"), force=force)
    sizes = f"{units.size(made.size_bytes)}, {units.ratio(made.ratio)} smaller than {units.size(made.onnx_bytes)}"
    typer.echo(f"{made.path} written, {sizes}; it unpacks to the same file, byte for byte")
