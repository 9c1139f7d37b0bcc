"""The drop of one candidate against the original, with bounds at any error level.

Metrics of 0/1 outcomes are judged by Tango's score limits (:mod:`dovetail.certify.paired`), all others by a paired bootstrap
(:mod:`dovetail.certify.bootstrap`). The unit is the row: what is independent is decided where rows are made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dovetail.certify.bootstrap import (
    FEW_CHANGED,
    RESAMPLES,
    PairedBootstrap,
    Rows,
    bootstrap_contrast,
    bootstrap_mean,
)
from dovetail.certify.paired import PairedCounts, count_pairs
from dovetail.core.constraint import DropKind, MaxDrop
from dovetail.core.errors import DataError
from dovetail.core.measurement import Interval
from dovetail.core.protocols import Metric

POWER = 0.8
"""Chance of success at which "needs about" is reckoned, the convention of sample-size planning (Cohen 1988)."""

ASSUMED_DISCORDANCE = 0.02
"""Share of units an 8-bit candidate typically changes; says how much data is needed before enough changes were seen."""

_ENOUGH_DISCORDANT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DropStudy:
    """What the data say of one candidate's drop.

    Attributes:
        n: units.
        reference: the original's metric.
        value: the candidate's.
        drop: how much worse the candidate is, in the metric's unit, whatever the metric's direction.
        margin: the permitted drop in the same unit.
        offset: added to the bounds; the margin where they are of "drop minus relative margin", else 0.
        bounds: the procedure's limits.
        method: its name and source.
    """

    n: int
    reference: float
    value: float
    drop: float
    margin: float
    offset: float
    bounds: PairedCounts | PairedBootstrap
    method: str

    @property
    def undefined(self) -> int:
        """Resamples on which the metric was NaN."""
        return self.bounds.undefined if isinstance(self.bounds, PairedBootstrap) else 0

    def interval(self, alpha: float) -> Interval:
        """Bounds of the drop, each at one-sided level ``alpha``."""
        low, high = self.bounds.lower(alpha) + self.offset, self.bounds.upper(alpha) + self.offset
        return Interval(point=self.drop, low=min(low, self.drop), high=max(high, self.drop), confidence=1 - 2 * alpha)

    def p_value(self) -> float:
        """One-sided p-value of "the drop exceeds the margin"."""
        return self.bounds.p_value(self.margin - self.offset)

    def needed(self, alpha: float) -> float:
        """About how many units the claim needs if what was seen is the truth; infinite where the drop reaches the margin."""
        if self.drop >= self.margin:
            return math.inf
        assumed = max(self.drop, 0.0)
        if isinstance(self.bounds, PairedCounts):
            discordant = self.bounds.b + self.bounds.c
            share = discordant / self.n if discordant >= _ENOUGH_DISCORDANT else ASSUMED_DISCORDANCE
            variance = max(share - assumed**2, 0.0)
        else:
            variance = self.bounds.unit_variance
        needed = needed_n(variance, assumed, self.margin, alpha=alpha)
        if variance == 0:
            # Nothing changed: the bound is that of unseen changes, which shrinks with 1/n.
            needed = self.n * (self.interval(alpha).high - assumed) / (self.margin - assumed)
        return max(needed, self.bounds.min_units)


def needed_n(unit_variance: float, drop: float, margin: float, *, alpha: float = 0.05, power: float = POWER) -> float:
    """Units for which a true ``drop`` below ``margin`` is certified with probability ``power``.

    Normal approximation ``(z_alpha + z_power)² · variance / (margin - drop)²``. For paired 0/1 outcomes the variance of one
    unit is the discordant share less the squared drop.

    Returns:
        A real number, infinite where the drop reaches the margin.
    """
    if drop >= margin:
        return math.inf
    z = float(stats.norm.isf(alpha) + stats.norm.isf(1 - power))
    return z * z * unit_variance / (margin - drop) ** 2


def study_drop(
    metric: Metric,
    rows_original: ArrayLike,
    rows_candidate: ArrayLike,
    *,
    max_drop: MaxDrop | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> DropStudy:
    """Studies the drop of one candidate.

    Args:
        metric: name, direction, and ``value`` of rows.
        rows_original: ``[n, k]`` as made by the metric, one row per independent unit.
        rows_candidate: the same units.
        max_drop: the limit; ``None`` studies the drop itself.
        resamples: bootstrap resamples.
        seed: of the bootstrap.

    Raises:
        DataError: the rows do not belong together, or there are fewer than two.
    """
    original, candidate = _paired_rows(rows_original, rows_candidate)
    limit = max_drop or MaxDrop(value=0.0)
    sign = 1.0 if metric.higher_is_better else -1.0
    reference, value = float(metric.value(original)), float(metric.value(candidate))
    counts = _counts(metric, original, candidate, limit)
    bounds = counts or _bootstrap(metric, original, candidate, limit, resamples, seed)
    shifted = counts is None and limit.kind is DropKind.RELATIVE
    return DropStudy(
        n=len(original),
        reference=reference,
        value=value,
        drop=sign * (reference - value),
        margin=limit.margin(reference),
        offset=limit.margin(reference) if shifted else 0.0,
        bounds=bounds,
        method=bounds.method,
    )


def lone_drop(metric: Metric, rows_original: ArrayLike, rows_candidate: ArrayLike) -> tuple[float, float, Interval]:
    """The metric of original and candidate on a single unit, and its drop, which may be anything within the metric's own size.

    Raises:
        DataError: the rows do not belong together.
    """
    original, candidate = _same_shape(rows_original, rows_candidate)
    reference, value = float(metric.value(original)), float(metric.value(candidate))
    drop = reference - value if metric.higher_is_better else value - reference
    width = max(1.0, abs(reference))
    return reference, value, Interval(point=drop, low=drop - width, high=drop + width)


def _same_shape(rows_original: ArrayLike, rows_candidate: ArrayLike) -> tuple[Rows, Rows]:
    original, candidate = (np.asarray(r, dtype=np.float64) for r in (rows_original, rows_candidate))
    if original.shape != candidate.shape:
        raise DataError(f"rows of the same units are compared, but shapes are {original.shape} and {candidate.shape}")
    return original, candidate


def _paired_rows(rows_original: ArrayLike, rows_candidate: ArrayLike) -> tuple[Rows, Rows]:
    original, candidate = _same_shape(rows_original, rows_candidate)
    if original.ndim not in (1, 2) or len(original) < 2:
        raise DataError(f"a drop is judged on rows [n, k] of at least two units, not on {original.shape}")
    return original.reshape(len(original), -1), candidate.reshape(len(candidate), -1)


def _counts(metric: Metric, original: Rows, candidate: Rows, limit: MaxDrop) -> PairedCounts | None:
    """Discordant counts where the score limits apply, else ``None``.

    With a relative limit the observed reference stands in for the true one. Where more is better this makes the variance, and
    so the bound, slightly too large; where less is better it would make it too small, and the bootstrap judges instead.
    """
    zero_one = original.shape[1] == 1 and bool(np.isin(original, (0, 1)).all() and np.isin(candidate, (0, 1)).all())
    if not (metric.binary and zero_one):
        return None
    if metric.higher_is_better:
        return count_pairs(original, candidate)
    return count_pairs(candidate, original) if limit.kind is DropKind.ABSOLUTE else None


def _bootstrap(metric: Metric, original: Rows, candidate: Rows, limit: MaxDrop, resamples: int, seed: int) -> PairedBootstrap:
    """Bootstrap of the drop, or of the drop minus its relative margin with the reference resampled too."""
    sign = 1.0 if metric.higher_is_better else -1.0
    relative = limit.value if limit.kind is DropKind.RELATIVE else 0.0

    def excess(one: Rows, other: Rows) -> float:
        reference = metric.value(one)
        return sign * (reference - metric.value(other)) - relative * abs(reference)

    changed = int((original != candidate).any(axis=1).sum())
    if changed >= FEW_CHANGED and _is_mean(metric, original) and _is_mean(metric, candidate):
        toward = math.copysign(relative, metric.value(original))
        parts = sign * (original - candidate) - toward * original
        if np.ptp(parts) > 0:
            return bootstrap_mean(parts[:, 0], resamples=resamples, seed=seed)
    return bootstrap_contrast(excess, original, candidate, resamples=resamples, seed=seed)


def _is_mean(metric: Metric, rows: Rows) -> bool:
    """Whether the metric is the mean of a single column, told from its values on random subsets."""
    if rows.shape[1] != 1:
        return False
    rng = np.random.default_rng(0)
    subsets = [rows, *(rows[rng.integers(0, len(rows), max(len(rows) // k, 2))] for k in (1, 2, 3))]
    return all(math.isclose(metric.value(s), float(s.mean()), rel_tol=1e-9, abs_tol=1e-12) for s in subsets)
