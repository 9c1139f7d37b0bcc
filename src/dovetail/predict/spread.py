"""Intervals of predictions from the errors made on rows that were not fitted.

Split conformal prediction (Vovk et al. 2005; Lei et al., JASA 113, 2018): if new errors are exchangeable with those seen, an
interval between their corrected order statistics covers at least the stated share of new rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dovetail.core.estimate import Estimate

Floats = NDArray[np.float64]

BATCH_WIDENS = 0.1
"""Calibrations hold single samples. For calls of more, which caches hold less of, the ends of an interval move out by the
number of samples to this power (assumed: 1.23 for 8, 1.52 for 64)."""


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


FEWEST = 19
"""Errors that a 90 % interval needs: its ends are two of them, and outside the least and the greatest of n lie 2 / (n + 1)."""


def conformal(log_errors: Floats, coverage: float = 0.9) -> Spread:
    """The spread that held ``coverage`` of the given errors, widened for their number.

    Too few of them hold less: the interval from the least to the greatest of n is made to hold ``(n − 1) / (n + 1)``, and says
    so.

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
    reached = (ordered.size - 1) / (ordered.size + 1)
    return Spread(low=min(1.0, math.exp(low)), high=max(1.0, math.exp(high)), coverage=min(coverage, reached))


def widened(found: Estimate, factor: float) -> Estimate:
    """The same estimate, its interval's ends moved out by a factor of at least 1."""
    return replace(found, low=found.low / factor, high=found.high * factor)
