"""The best that any kernel of a calibration reached."""

from __future__ import annotations

import math

from dovetail.core.calibration import Calibration
from dovetail.predict.kernel_work import work

RATE_FROM_S = 5e-5
"""Shorter kernels are not told precisely enough for a rate."""


def best_rates(calibration: Calibration) -> dict[str, float]:
    """FLOP/s by numeric type, as runtimes call it, and bytes/s of what only moves data: names → rates."""
    best: dict[str, float] = {}
    for trace in calibration.traces:
        for kernel in trace.kernels:
            if kernel.time_s < RATE_FROM_S:
                continue
            found = work(kernel)
            moves = found.family == "move"
            name = "moved_bytes_per_s" if moves else f"{kernel.dtype}_flop_per_s"
            rate = (found.read_bytes + found.written_bytes if moves else found.flop) / kernel.time_s
            if math.isfinite(rate):
                best[name] = max(best.get(name, 0.0), rate)
    return best
