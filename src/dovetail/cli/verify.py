"""``dovetail verify``: a gate for continuous integration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dovetail.cli import common

EXAMPLES = """Examples:

  dovetail verify fit/                                       (hashes and speed)

  dovetail verify fit/ --data data.npz --metric accuracy     (quality too)

  dovetail verify fit/ --against previous/ --junit verify.xml
"""


def command(
    artifact: Annotated[Path, typer.Argument(help="Folder that `dovetail optimize` wrote.")],
    data: Annotated[str | None, typer.Option(help="Samples to judge quality on.")] = None,
    job: Annotated[Path | None, typer.Option(help="Job file that says how to read the data.")] = None,
    metric: Annotated[str | None, typer.Option(help="Metric, where it is not the artifact's own.")] = None,
    max_drop: Annotated[str | None, typer.Option(help="Permitted drop, where it is not the artifact's own.")] = None,
    against: Annotated[Path | None, typer.Option(help="Another artifact; this one must not be slower.")] = None,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Fresh processes a side; a claim needs 6.")] = 6,
    junit: Annotated[Path | None, typer.Option(help="Write the checks as JUnit XML.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Check an artifact again: files, speed here, and quality where data are given. Exits with 1 when a check fails."""
    from dovetail.pipeline.verify import verify
    from dovetail.report import verification

    shown = common.progress(quiet, None)
    try:
        report = verify(
            artifact, data=data, job=job, metric=metric, max_drop=max_drop, against=against, rounds=rounds, progress=shown
        )
    finally:
        shown.close()
    if junit is not None:
        common.write_text(junit, verification.to_junit(report), force=True)
    if json:
        common.print_json(verification.to_json(report))
    else:
        verification.render(report, common.console())
    if not report.passed:
        raise typer.Exit(1)
