"""``dovetail doctor``: what this machine and installation can and cannot do."""

from __future__ import annotations

from typing import Annotated

import typer

from dovetail.cli import common

EXAMPLES = """Examples:

  dovetail doctor

  dovetail doctor --json
"""


def command(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say what this machine and installation can and cannot do: runtimes, extras, instruction sets, compiler, drivers."""
    from dovetail.core.serial import encode
    from dovetail.devices.doctor import diagnose
    from dovetail.pipeline.describe import cache_folder
    from dovetail.report.terminal import render_doctor

    checks = diagnose(cache_folder())
    if json:
        common.print_json([encode(check) for check in checks])
    else:
        render_doctor(checks, common.console())
