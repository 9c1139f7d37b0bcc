"""``dovetail bench``: time models and runtimes against each other."""

from __future__ import annotations

from typing import Annotated

import typer

from dovetail.cli import common

EXAMPLES = """Examples:

  dovetail bench model.onnx                                  (ONNX Runtime against OpenVINO, defaults)

  dovetail bench model.onnx@onnxruntime:threads=1 model.onnx@openvino:precision=f32

  dovetail bench fit/ fit/@original --data data.npz          (an artifact's answer against its original)
"""


def command(
    runs: Annotated[
        list[str], typer.Argument(help="MODEL[@RUNTIME[:OPTION=VALUE,…]] or ARTIFACT[@VARIANT]; the first is the baseline.")
    ],
    data: Annotated[str | None, typer.Option(help="Samples to time on; random ones by default.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples per call.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Fresh processes a side; a claim needs 6.")] = 6,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Time runs against each other: fresh processes, interleaved blocks, ratios with intervals."""
    from dovetail.pipeline.bench import bench
    from dovetail.report.bench import render_terminal, to_json

    shown = common.progress(quiet, None)
    try:
        result = bench(runs, data=data, batch=batch, rounds=rounds, progress=shown)
    finally:
        shown.close()
    if json:
        common.print_json(to_json(result))
    else:
        render_terminal(result, common.console())
