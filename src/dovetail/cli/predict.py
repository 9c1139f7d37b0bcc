"""``dovetail predict``: how long a model will take, before it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dovetail.cli import common

EXAMPLES = """Examples:

  dovetail devices probe --calibrate                         (once: up to five minutes)

  dovetail predict model.onnx                                (every calibrated way to run it here)

  dovetail predict model.onnx --runtime openvino --threads 1 --precision bf16

  dovetail predict model.onnx --device jetson-orin-nano --precision fp16

  dovetail predict model.onnx --calibration board.json       (a machine that was calibrated elsewhere)
"""


def command(
    model: Annotated[Path, typer.Argument(help="An .onnx or .tflite file.")],
    device: Annotated[str | None, typer.Option(help="A device of the catalogue; without it, this machine.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Build it in this runtime, and predict from what that executes.")] = None,
    precision: Annotated[str | None, typer.Option(help="Numeric type, for example bf16; on a device fp16, int8, …")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads inside an operator.")] = None,
    batch: Annotated[int, typer.Option(help="Samples a call.")] = 1,
    shape: Annotated[list[str] | None, typer.Option(help="Shape of an input, NAME=1,3,224,224; repeatable.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Calibration file of whatever machine.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Predict latency and throughput with an interval: on this machine from its calibration, elsewhere from data sheets."""
    from dovetail.core.serial import encode
    from dovetail.pipeline import predicting
    from dovetail.report import predicted

    shapes = dict(common.shape(text) for text in shape or [])
    if device is not None:
        found = predicting.predict_on(model, device, precision, shapes, batch=batch)
        if json:
            common.print_json(predicted.to_json("device", encode(found)))
        else:
            predicted.render_device(found, common.console())
        return
    known = predicting.calibration_of_this_machine(calibration)
    if runtime is None:
        rows = predicting.predict_here(model, shapes, known, precision=precision, threads=threads, batch=batch)
        if json:
            common.print_json(predicted.to_json("settings", encode(rows)))
        else:
            predicted.render_settings(rows, common.console())
        return
    options = {key: value for key, value in (("threads", threads), ("precision", precision)) if value is not None}
    built = predicting.predict_built(model, runtime, options, known, batch=batch)
    if json:
        common.print_json(predicted.to_json("built", encode(built)))
    else:
        predicted.render_built(built, common.console())
