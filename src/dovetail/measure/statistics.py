"""Order statistics and steadiness: what latency samples allow to be said, without a distribution assumed.

Intervals of quantiles are pairs of order statistics (Hahn & Meeker, *Statistical Intervals*, 1991, chapter 5): they hold for
any distribution of independent samples, and do not exist below a sample size that grows with the quantile. Calls of one process
are not quite independent; blocks and fresh processes are what claims rest on (:mod:`dovetail.core.measurement`).

scipy is imported where it is used: every measured process loads this module for :func:`is_steady`, and would pay a second and
tens of megabytes for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from dovetail.core.measurement import Interval

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
"""Quantiles worth showing, in rising order of the samples they need."""

STEADY_TOLERANCE = 0.02
STEADY_WINDOW = 3


def min_samples(quantile: float, confidence: float = 0.95) -> int:
    """Fewest samples for which an equal-tailed two-sided interval of a quantile exists.

    The farther tail decides: the greatest of ``n`` samples lies below the ``q`` quantile with probability ``q**n``, which must
    not exceed ``(1 - confidence) / 2``. At 95 %: median 6, p90 36, p95 72, p99 368, p99.9 3,688.

    Raises:
        ValueError: the quantile or the confidence does not lie between 0 and 1.
    """
    if not (0 < quantile < 1 and 0 < confidence < 1):
        raise ValueError(f"a quantile and a confidence lie between 0 and 1, not {quantile} and {confidence}")
    return math.ceil(math.log((1 - confidence) / 2) / math.log(max(quantile, 1 - quantile)))


def supported_quantiles(n: int, confidence: float = 0.95) -> tuple[float, ...]:
    """Those of :data:`QUANTILES` that ``n`` samples can carry."""
    return tuple(q for q in QUANTILES if n >= min_samples(q, confidence))


def quantile_interval(samples: ArrayLike, quantile: float, confidence: float = 0.95) -> Interval | None:
    """Distribution-free interval of a quantile from order statistics.

    Args:
        samples: independent samples ``[n]``, any unit.
        quantile: 0.5 for the median.
        confidence: two-sided; each tail errs with at most half the rest.

    Returns:
        The interval in the samples' unit, or ``None`` below :func:`min_samples`: a percentile is refused, not guessed.
    """
    from scipy import stats

    ordered = np.sort(np.asarray(samples, dtype=np.float64).ravel())
    n = len(ordered)
    if n < min_samples(quantile, confidence):
        return None
    tail = (1 - confidence) / 2
    # The rank of the quantile is binomial. Each rank below is the innermost one whose tail stays within its share.
    low_rank = int(stats.binom.ppf(tail, n, quantile))
    high_rank = int(stats.binom.isf(tail, n, quantile)) + 1
    low, high = ordered[max(low_rank, 1) - 1], ordered[min(high_rank, n) - 1]
    point = float(np.clip(np.quantile(ordered, quantile), low, high))
    return Interval(point=point, low=float(low), high=float(high), confidence=confidence)


def is_steady(block_medians_s: Sequence[float], tolerance: float = STEADY_TOLERANCE, window: int = STEADY_WINDOW) -> bool:
    """Whether warm-up is over: the last blocks agree with those before them.

    Steady means that the medians of the last two windows of blocks differ by at most ``tolerance`` (relative); fewer than two
    windows are never steady.
    """
    if len(block_medians_s) < 2 * window:
        return False
    before = float(np.median(block_medians_s[-2 * window : -window]))
    after = float(np.median(block_medians_s[-window:]))
    return abs(after - before) <= tolerance * before
