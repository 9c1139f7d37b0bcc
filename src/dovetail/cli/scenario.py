"""``dovetail scenario``: factors of acceleration, composed honestly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dovetail.cli import common

EXAMPLES = """Examples:

  dovetail scenario examples/scenario/cluster.yaml           (commented: copy it and change the numbers)

  dovetail scenario examples/scenario/cluster.yaml --json > scenario.json
"""


def command(
    file: Annotated[Path, typer.Argument(help="A scenario file, see docs/scenario.md.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compose acceleration factors with Amdahl, communication and overlap, beside their naive product."""
    from dovetail.pipeline.scenarios import compose_file
    from dovetail.report.scenario import render_terminal, to_json

    found = compose_file(file)
    if json:
        common.print_json(to_json(found))
    else:
        render_terminal(found, common.console())
