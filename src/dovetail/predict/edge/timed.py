"""What the models of edge accelerators answer: seconds a frame with their interval, and what they are spent on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

KNOWN, BARE, NEW = "known", "bare", "new device"
"""Whose errors an interval is made of: networks of known kind on fitted devices; networks of which only sizes are known;
devices that no row was fitted to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Of ``n`` networks.

    Attributes:
        seconds: ``[n]`` of one frame when frames follow each other.
        low: ``[n]`` lower end of the 90 % interval; ``high`` likewise.
        shares: term → ``[n]`` its share of the time.
    """

    seconds: Floats
    low: Floats
    high: Floats
    shares: Mapping[str, Floats]


def timed(
    log_seconds: Floats, floor_s: Floats, shares: Mapping[str, Floats], spreads: Mapping[str, Any], *, bare: Flags, new: Flags
) -> Timed:
    """Adds the interval.

    Args:
        log_seconds: ``[n]``.
        floor_s: ``[n]`` operations over the peak: no frame takes less.
        shares: of the terms.
        spreads: kind of prediction (:data:`KNOWN`, …) → factors of the interval's ends, or ``None`` where no row told.
        bare: ``[n]`` only sizes are known.
        new: ``[n]`` on a device that was not fitted.
    """
    seconds = np.maximum(np.exp(log_seconds), floor_s)
    low, high = (np.full(seconds.shape, spreads[KNOWN][end]) for end in (0, 1))
    for kind, rows in ((BARE, bare), (NEW, new)):
        found = spreads.get(kind) or spreads[KNOWN]
        low = np.where(rows, np.minimum(low, found[0]), low)
        high = np.where(rows, np.maximum(high, found[1]), high)
    return Timed(seconds=seconds, low=np.maximum(seconds * low, floor_s), high=seconds * high, shares=shares)
