"""Intervals on devices that no row was fitted to: rows of one device err together, so devices are counted, not rows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from published.table import Floats

COVERAGE = 0.9


def on_new_device(log_errors: Floats, devices: NDArray[np.str_]) -> tuple[float, float] | None:
    """Factors of the ends of an interval; ``None`` where fewer than two devices tell.

    The median error of a device is taken as normal around none, with Student's t for the few devices there are; how its rows
    lie around that median is added in quadrature.

    Args:
        log_errors: ``[n]`` ln of measured over predicted, each by a fit without the row's device.
        devices: ``[n]``.
    """
    names = sorted(set(devices))
    if len(names) < 2:
        return None
    middle = {name: float(np.median(log_errors[devices == name])) for name in names}
    around = np.abs(log_errors - np.array([middle[name] for name in devices]))
    between = math.sqrt(float(np.mean(np.square(list(middle.values())))))
    far = float(stats.t.isf((1 - COVERAGE) / 2, len(names))) * between
    half = math.hypot(far, float(np.quantile(around, COVERAGE)))
    return round(math.exp(-half), 4), round(math.exp(half), 4)
