"""Intervals of predictions from the errors made on rows that were not fitted.

Split conformal prediction (Vovk et al. 2005; Lei et al., JASA 113, 2018): if new errors are exchangeable with those seen, an
interval between their corrected order statistics covers at least the stated share of new rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Factors that a predicted time is multiplied with for the ends of its interval.

    Attributes:
        low: at most 1.
        high: at least 1.
        coverage: share of new rows that the interval is made to hold.
    """

    low: float
    high: float
    coverage: float = 0.9


def conformal(log_errors: Floats, coverage: float = 0.9) -> Spread:
    """The spread that held ``coverage`` of the given errors, widened for their number.

    Args:
        log_errors: ``[n]`` natural logarithm of measured over predicted, of rows that were not fitted.
        coverage: of the interval; half of the rest is left out on either side.

    Raises:
        ValueError: no errors are given.
    """
    if log_errors.size == 0:
        raise ValueError("an interval needs the errors of at least one row that was not fitted")
    ordered = np.sort(log_errors)
    tail = (1 - coverage) / 2
    rank = math.ceil((ordered.size + 1) * (1 - tail)) - 1
    high = ordered[min(rank, ordered.size - 1)]
    low = ordered[max(ordered.size - 1 - rank, 0)]
    return Spread(low=min(1.0, math.exp(low)), high=max(1.0, math.exp(high)), coverage=coverage)
