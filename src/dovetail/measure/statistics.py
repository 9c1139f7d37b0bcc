"""Order statistics, steadiness and racing bounds: what latency samples allow to be said, without a distribution assumed.

Intervals of quantiles are pairs of order statistics (Hahn & Meeker, *Statistical Intervals*, 1991, chapter 5): they hold for
any distribution of independent samples, and do not exist below a sample size that grows with the quantile. Calls of one process
are not quite independent; blocks and fresh processes are what claims rest on (:mod:`dovetail.core.measurement`).

scipy is imported where it is used: every measured process loads this module for :func:`is_steady`, and would pay a second and
tens of megabytes for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dovetail.core.measurement import Interval

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
"""Quantiles worth showing, in rising order of the samples they need."""

PROCESS_SPREAD = 0.02
"""Relative half-width below which blocks of a single process per side tell nothing: processes differ from start to start."""

STEADY_TOLERANCE = 0.02
STEADY_WINDOW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSummary:
    """One block of calls, in seconds per call: median, quartiles and the number of calls."""

    median_s: float
    lower_quartile_s: float
    upper_quartile_s: float
    calls: int


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


def median_interval(samples: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """:func:`quantile_interval` of the median; ``None`` below 6 samples at 95 %."""
    return quantile_interval(samples, 0.5, confidence)


def summarize_block(samples_s: ArrayLike) -> BlockSummary:
    """Robust summary of one block of calls; a preempted call moves none of it.

    Raises:
        ValueError: the block is empty.
    """
    samples = np.asarray(samples_s, dtype=np.float64).ravel()
    if not samples.size:
        raise ValueError("a block has at least one call")
    lower, median, upper = np.quantile(samples, (0.25, 0.5, 0.75))
    return BlockSummary(
        median_s=float(median), lower_quartile_s=float(lower), upper_quartile_s=float(upper), calls=int(samples.size)
    )


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


def racing_interval(
    candidate_s: Sequence[float],
    baseline_s: Sequence[float],
    *,
    confidence: float = 0.95,
    looks: int = 1,
    process_spread: float = PROCESS_SPREAD,
) -> Interval | None:
    """Interval of candidate time over baseline time from a few blocks, wide enough to drop a candidate by.

    Student's interval of the difference of mean log block medians (Welch 1947), at a level shared among the ``looks``
    (Bonferroni), so that a race which looks after every block still errs within ``1 - confidence``. ``process_spread`` is
    added in quadrature, because blocks of one process cannot show how much the next process would differ.

    Args:
        candidate_s: block medians of the candidate, seconds per call.
        baseline_s: block medians of what it races against.
        confidence: two-sided, over all looks together.
        looks: how often the race will be looked at.
        process_spread: relative half-width of the process-to-process effect.

    Returns:
        The interval of the ratio (above 1: the candidate is slower), or ``None`` with fewer than two blocks on a side.
    """
    from scipy import stats

    if min(len(candidate_s), len(baseline_s)) < 2:
        return None
    candidate, baseline = np.log(candidate_s), np.log(baseline_s)
    shares = np.array([_mean_variance(candidate), _mean_variance(baseline)])
    half = process_spread
    if shares.sum() > 0:
        freedom = shares.sum() ** 2 / (shares**2 / np.array([len(candidate) - 1, len(baseline) - 1])).sum()
        quantile = stats.t.isf((1 - confidence) / (2 * looks), freedom)
        half = math.hypot(process_spread, float(quantile) * math.sqrt(shares.sum()))
    middle = float(candidate.mean() - baseline.mean())
    return Interval(point=math.exp(middle), low=math.exp(middle - half), high=math.exp(middle + half), confidence=confidence)


def _mean_variance(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1)) / len(values)


def dominated(candidate: Interval, other: Interval) -> bool:
    """Whether a candidate is out of the race: all of its interval lies above all of the other's (less is better)."""
    return candidate.low > other.high
