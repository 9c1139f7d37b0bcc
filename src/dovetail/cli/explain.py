"""``dovetail explain``: why one run is slower or faster than another."""

from __future__ import annotations

from typing import Annotated

import typer

from dovetail.cli import common

EXAMPLES = """Examples:

  dovetail explain model.onnx@onnxruntime model.onnx@openvino

  dovetail explain fit/@original fit/                        (an artifact's answer against its original)

  dovetail explain model.onnx model_int8.onnx --data data.npz
"""


def command(
    baseline: Annotated[str, typer.Argument(help="MODEL[@RUNTIME[:OPTION=VALUE,…]] or ARTIFACT[@VARIANT].")],
    candidate: Annotated[str, typer.Argument(help="The run to explain, written the same way.")],
    data: Annotated[str | None, typer.Option(help="Samples to time on; random ones by default.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two runs operator by operator and name what the time goes into."""
    from dovetail.core.serial import encode
    from dovetail.pipeline.bench import explain
    from dovetail.report.terminal import render_explanation

    explanation = explain(baseline, candidate, data=data)
    if json:
        common.print_json(encode(explanation))
    else:
        render_explanation(explanation, common.console())
