"""``dovetail export``: a model in the format of another system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """Examples:

  dovetail export model.onnx --to litert                     (writes model.tflite)

  dovetail export quantised_qdq.onnx --to litert --out app/model.tflite

  dovetail export model.onnx --to litert --size batch=1 --size tokens:1=128

  dovetail export fit/ --to litert --out model.tflite
"""


def command(
    model: Annotated[str, typer.Argument(help="An .onnx file, or an artifact (FOLDER or FOLDER@VARIANT).")],
    to: Annotated[str, typer.Option(help="Format: litert.")] = "litert",
    out: Annotated[Path | None, typer.Option(help="File to write; by default the model's name beside you.")] = None,
    size: Annotated[
        list[str] | None, typer.Option(help="NAME=SIZE of a symbolic dimension, or INPUT:AXIS=SIZE; repeatable.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Translate a model, compare it with the original on this machine, and write it."""
    from dovetail.core import units
    from dovetail.pipeline.exporting import TARGETS, export

    name = Path(model.partition("@")[0]).stem or "model"
    target = out or Path(f"{name}.{TARGETS.get(to, to)}")
    made = export(model, to, target, dims=size or (), force=force)
    typer.echo(f"{made.path} written, {units.size(made.size_bytes)}; outputs agree with ONNX Runtime's")
    for note in made.notes:
        typer.echo(f"adjusted: {note}")
