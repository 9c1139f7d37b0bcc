"""``dovetail scenario``: what factors of acceleration come to when they are put together."""

from __future__ import annotations

from pathlib import Path

from dovetail.advise.compose import compose
from dovetail.advise.scenario_file import load_scenario
from dovetail.core.scenario import Composition


def compose_file(path: Path) -> Composition:
    """Puts the factors of a scenario file together.

    Raises:
        InputError: the file is not as it should be.
    """
    return compose(load_scenario(path))
