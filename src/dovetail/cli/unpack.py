"""``dovetail unpack``: the ONNX file that was packed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """Examples:

  dovetail unpack model.dtvw                         (writes model.onnx)

  dovetail unpack model.dtvw --out app/model.onnx
"""


def command(
    file: Annotated[Path, typer.Argument(help="A .dtvw file that `dovetail pack` wrote.")],
    out: Annotated[Path | None, typer.Option(help="File to write; by default the file's name beside you.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Give back the ONNX file that `dovetail pack` was given, byte for byte."""
    from dovetail.core import units
    from dovetail.pipeline.packing import unpack

    made = unpack(file, out or Path(f"{file.stem}.onnx"), force=force)
    typer.echo(f"{made} written, {units.size(made.stat().st_size)}")
