"""How often a certification set has been looked at, counted by its content across runs.

Every look at held-out data spends some of its worth: choices made after it are no longer independent of it. The count is an
append-only file, so that no run can take a look back.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from dovetail.data.dataset import storing

_FILE = "looks.jsonl"


def record_look(cache_dir: Path, content_hash: str) -> int:
    """Counts one look and returns how many there have been, this one included.

    Raises:
        StorageError: the cache folder cannot be written.
    """
    path = cache_dir / _FILE
    line = json.dumps({"hash": content_hash, "time": datetime.now(UTC).isoformat(timespec="seconds")})
    with storing(cache_dir):
        cache_dir.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    return looks(cache_dir, content_hash)


def looks(cache_dir: Path, content_hash: str) -> int:
    """Looks counted so far; a line cut short by a killed run is passed over."""
    path = cache_dir / _FILE
    if not path.exists():
        return 0
    quoted = json.dumps(content_hash)
    return sum(f'"hash": {quoted}' in line for line in path.read_text(encoding="utf-8").splitlines())
