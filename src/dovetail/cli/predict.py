"""``dovetail predict``: how long a model will take, before it is run."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from dovetail.cli import common

EXAMPLES = """Examples:

  dovetail devices probe --calibrate                         (once: up to five minutes)

  dovetail predict model.onnx                                (every calibrated way to run it here)

  dovetail predict model.onnx --runtime openvino --threads 1 --precision bf16

  dovetail predict model.onnx --device jetson-orin-nano --precision fp16

  dovetail predict model.onnx --device rtx4090 --precision fp16 --batch 256 --eager

  dovetail predict model.onnx --device cuda:0 --batch 32     (a GPU that was calibrated)

  dovetail predict model.onnx --calibration board.json       (a machine that was calibrated elsewhere)
"""


def command(
    model: Annotated[Path, typer.Argument(help="An .onnx or .tflite file.")],
    device: Annotated[str | None, typer.Option(help="A device of the catalogue, or a calibrated cuda:0.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Build it in this runtime, and predict from what that executes.")] = None,
    precision: Annotated[str | None, typer.Option(help="float, int8, int8-dynamic, bf16; on a device fp16, int8, …")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads inside an operator.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples a call; the model's or the shapes' own by default.")] = None,
    eager: Annotated[bool, typer.Option("--eager", help="On a GPU: PyTorch without torch.compile.")] = False,
    shape: Annotated[list[str] | None, typer.Option(help="Shape of an input, NAME=1,3,224,224; repeatable.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Calibration file of whatever machine.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Predict latency and throughput with an interval: here from a calibration, elsewhere from published measurements."""
    from dovetail.core.serial import encode
    from dovetail.pipeline import predicting, probing
    from dovetail.report import predicted

    shapes = dict(common.shape(text) for text in shape or [])
    _check(device=device, runtime=runtime, shape=shape, eager=eager)
    if device is not None:
        found = predicting.predict_on(
            model, device, precision, shapes, threads=threads, batch=batch, eager=eager, calibration=calibration
        )
        if json:
            common.print_json(predicted.to_json("device", encode(found)))
        else:
            predicted.render_device(found, common.console())
        return
    with closing(common.progress(json, None)) as told:
        known = predicting.calibration_of_this_machine(calibration, probing.shown(told, "learn from the calibration"))
    if runtime is None:
        rows = predicting.predict_here(model, shapes, known, precision=precision, threads=threads, batch=batch)
        if json:
            common.print_json(predicted.to_json("settings", encode(rows)))
        else:
            predicted.render_settings(rows, common.console())
        return
    options = {key: value for key, value in (("threads", threads), ("precision", precision)) if value is not None}
    built = predicting.predict_built(model, runtime, options, known, batch=batch or 1)
    if json:
        common.print_json(predicted.to_json("built", encode(built)))
    else:
        predicted.render_built(built, common.console())


def _check(*, device: str | None, runtime: str | None, shape: list[str] | None, eager: bool) -> None:
    """Raises an :class:`InputError` where an option would be ignored."""
    from dovetail.core.errors import InputError

    if device is not None and runtime is not None:
        raise InputError("on a --device nothing is built, so that no --runtime can be told", hint="leave one of the two out")
    if runtime is not None and shape:
        what = "a built model is predicted at the shapes that it is built for: --runtime takes no --shape"
        raise InputError(what, hint="leave one of the two out, or give the number of samples with --batch")
    if eager and device is None:
        raise InputError("--eager is about GPUs", hint="name one with --device")
