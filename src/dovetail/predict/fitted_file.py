"""Parameters fitted to published measurements: a JSON file for each set, written by ``benchmarks/validate.py --fit``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dovetail.core.source import Source, SourceKind

FOLDER = Path(__file__).parent / "fitted"
SCHEMA = 1
"""Of the files."""


@cache
def parameters(name: str) -> Mapping[str, Any]:
    """The parameters of one family, as its ``fit`` in ``benchmarks/published`` returned them."""
    document = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    if document["schema"] != SCHEMA:
        raise ValueError(f"{name}.json is of schema {document['schema']}, not {SCHEMA}; fit it again")
    found: Mapping[str, Any] = document["parameters"]
    return found


@cache
def source(name: str) -> Source:
    """Of estimates by one family's parameters."""
    return Source(kind=SourceKind.DERIVED, ref=f"fitted to published rows: predict/fitted/{name}.json")
