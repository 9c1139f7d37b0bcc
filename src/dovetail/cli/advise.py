"""``dovetail advise``: which hardware suits a job, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dovetail.cli import common

EXAMPLES = """Examples:

  dovetail advise model.onnx                                 (every device, the cheapest first)

  dovetail advise examples/advise/shop-video.yaml            (a job with its limits; keys: docs/advise.md)

  dovetail advise job.yaml --all --html advice.html

  dovetail advise job.yaml --json
"""


def command(
    model_or_job: Annotated[Path, typer.Argument(help="An .onnx or .tflite file, or a job file (.yaml).")],
    every: Annotated[bool, typer.Option("--all", help="Show all devices of each list.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the answer as a page with plots.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rank the catalogue's hardware for a job: what binds, cost, watts, what excludes the rest, what to change."""
    from dovetail.pipeline import advising
    from dovetail.report import advice

    found = advising.advise(model_or_job)
    if html is not None:
        advice.write_html(found, html)
    if json:
        common.print_json(advice.to_json(found))
    else:
        advice.render(found, common.console(), every=every)
