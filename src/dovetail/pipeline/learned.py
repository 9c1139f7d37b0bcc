"""What was learned from a calibration, kept in the cache: learning takes seconds, and would be done at every command."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dovetail.core.errors import InputError
from dovetail.pipeline import calibrate
from dovetail.predict.learned_file import SCHEMA, from_json, to_json
from dovetail.predict.machine_model import Learned, learn

KEPT = 4
"""Files in the cache, the latest used."""


def learned(path: Path, cache: Path, progress: Callable[[float, str], None] = lambda share, text: None) -> Learned:
    """Reads what was learned from a calibration, or learns it and keeps it.

    Args:
        path: of the calibration.
        cache: folder that keeps what was learned from one or another; a full or read-only disk only costs time.
        progress: called with the share done while something is learned.

    Raises:
        InputError: there is no calibration in that file, or one of another version.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError("no calibration can be read from it", where=str(path)) from error
    kept = cache / f"learned-{hashlib.sha256(content).hexdigest()[:16]}-{SCHEMA}.json"
    with suppress(OSError, ValueError):
        found = from_json(json.loads(kept.read_text(encoding="utf-8")))
        with suppress(OSError):
            kept.touch()
        return found
    found = learn(calibrate.load(path), progress)
    with suppress(OSError):
        _keep(found, kept)
    return found


def _keep(found: Learned, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(to_json(found)), encoding="utf-8")
    partial.replace(path)
    files = sorted(path.parent.glob("learned-*.json"), key=lambda file: file.stat().st_mtime)
    for old in files[:-KEPT]:
        old.unlink()
