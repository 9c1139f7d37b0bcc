"""Parameters fitted to published measurements: a JSON file for each set, written by ``benchmarks/validate.py --fit``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "fitted"


@cache
def parameters(name: str) -> Mapping[str, Any]:
    """The parameters of one family, as its ``fit`` in ``benchmarks/published`` returned them."""
    document = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    found: Mapping[str, Any] = document["parameters"]
    return found
