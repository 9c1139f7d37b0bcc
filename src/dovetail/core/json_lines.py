"""Files of JSON objects, a line each, that are appended to and may be torn by a kill."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def whole_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows before the first line that a torn write or another program left, and the bytes that they take."""
    rows: list[dict[str, Any]] = []
    end = 0
    for line in path.read_bytes().splitlines(keepends=True):
        row = _parsed(line)
        if row is None:
            break
        rows.append(row)
        end += len(line)
    return rows, end


def resume(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a file, which is cut off behind them, so that what is appended starts a line; none without a file."""
    if not path.exists():
        return []
    rows, end = whole_rows(path)
    if end < path.stat().st_size:
        os.truncate(path, end)
    return rows


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
