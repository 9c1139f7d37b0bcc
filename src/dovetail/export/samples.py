"""Which samples a fit used, as the evidence keeps them: hashes of feeds, from which no sample can be had back."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.core.errors import InputError
from dovetail.core.protocols import Array
from dovetail.export.artifact import EVIDENCE

_KIND = "samples"


def samples_row(split: str, digests: Array) -> dict[str, Any]:
    """A row of the evidence: the samples of one split.

    Args:
        split: its name.
        digests: ``[n]`` uint64, a hash of each sample's feeds.
    """
    text = base64.b64encode(digests.astype("<u8").tobytes()).decode()
    return {"kind": _KIND, "split": split, "n": len(digests), "digests": text}


def recorded_samples(folder: Path) -> Mapping[str, Array]:
    """Split name → hashes of its samples; empty for a fit without data and for artifacts that record none.

    Raises:
        InputError: the evidence is damaged.
    """
    path = folder / EVIDENCE
    try:
        with path.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines if f'"{_KIND}"' in line]
        return {row["split"]: np.frombuffer(base64.b64decode(row["digests"]), "<u8") for row in rows if row["kind"] == _KIND}
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise InputError(f"the evidence cannot be read: {exc}", where=str(path)) from exc
