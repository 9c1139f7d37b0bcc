"""Half precision as storage: which constants lose nothing in it."""

from __future__ import annotations

import numpy as np

from dovetail.core.protocols import Array

_PROBE = 256
"""Elements that are looked at first; weights that are no half-precision numbers show it there."""


def fits(value: Array) -> bool:
    """Whether every number of a float array is one of half precision."""
    if value.dtype != np.float32:
        return bool(value.dtype == np.float16)
    flat = value.reshape(-1)
    return _same(flat[:_PROBE]) and _same(flat)


def _same(value: Array) -> bool:
    with np.errstate(over="ignore"):
        return bool((value.astype(np.float16) == value).all())
