"""k-means of numbers on a line, solved exactly by dynamic programming.

Wang and Song, "Ckmeans.1d.dp: Optimal k-means Clustering in One Dimension by Dynamic Programming", The R Journal 3(2), 2011:
with sorted values, the best split of the first ``i`` into ``q`` clusters is the best split of some first ``j`` into ``q - 1``
and one cluster of the rest. The best ``j`` never falls as ``i`` grows, so rows are solved from coarse to fine, each between the
answers of its neighbours (the divide and conquer of the package's version 4): ``O(k n log n)``, whole levels at once in numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dovetail.core.protocols import Array

EXACT_WORK = 1_600_000
"""Different values times clusters up to which the answer is optimal: 100,000 values for 16 clusters, some seconds. More values
are first put into bins."""
BINS = 16_384
"""Most bins of the histogram that stands in for more values; only its edges can then part clusters."""
REFINEMENTS = 50
TINY = 1e-30
"""Keeps rounding from dividing by zero."""


def codebook(values: Array, k: int, weights: Array | None = None) -> Array:
    """The ``k`` numbers that values are best replaced by, each by its nearest: least weighted sum of squared errors.

    Args:
        values: finite numbers, any shape.
        k: clusters, from 1.
        weights: importance of each value, not negative, same shape; equal by default.

    Returns:
        ``float64[≤ k]``, ascending; all different values where there are no more than ``k``.
    """
    points, inverse = np.unique(np.asarray(values, np.float64).ravel(), return_inverse=True)
    each = np.ones(inverse.size) if weights is None else np.asarray(weights, np.float64).ravel()
    mass: Array = np.bincount(inverse, each, len(points))
    if len(points) <= k:
        return points
    heaviest = mass.max()
    # a weight of zero would leave a value nowhere to go
    mass = np.maximum(mass / heaviest, 1e-9) if heaviest > 0 else np.ones(len(points))
    if len(points) * k <= EXACT_WORK:
        return _centers(points, mass, _best_splits(points, mass, k))
    coarse, coarse_mass = _binned(points, mass, min(BINS, max(4 * k, EXACT_WORK // k)))
    return _refined(points, mass, _centers(coarse, coarse_mass, _best_splits(coarse, coarse_mass, k)))


def nearest(values: Array, centers: Array) -> Array:
    """Index of the nearest of ascending ``centers`` to each value, ``int64`` of the values' shape."""
    return np.searchsorted((centers[1:] + centers[:-1]) / 2, values, side="left")


@dataclass(frozen=True, slots=True)
class _Sums:
    """Running sums over sorted points, which give the cost of any run of them in one step."""

    mass: Array
    first: Array
    second: Array

    @classmethod
    def of(cls, points: Array, mass: Array) -> _Sums:
        centred = points - np.average(points, weights=mass)  # small numbers, so that differences of squares keep their digits
        sums = [np.concatenate([[0.0], np.cumsum(mass * centred**power)]) for power in (0, 1, 2)]
        return cls(*sums)

    def leading(self) -> Array:
        """Weighted sum of squares about the mean of the first ``i + 1`` points, for every ``i``."""
        costs: Array = np.maximum(self.second[1:] - self.first[1:] ** 2 / np.maximum(self.mass[1:], TINY), 0.0)
        return costs


def _best_splits(points: Array, mass: Array, k: int) -> Array:
    """First index of each cluster, and the number of points: ``int64[k + 1]``."""
    n, sums = len(points), _Sums.of(points, mass)
    best = sums.leading()
    choices = []
    for clusters in range(2, k + 1):
        best, start = _next_row(best, sums, clusters)
        choices.append(start)
    edges = [n]
    for start in reversed(choices):
        edges.append(int(start[edges[-1] - 1]))
    return np.array([0, *edges[::-1]])


def _next_row(before: Array, sums: _Sums, clusters: int) -> tuple[Array, Array]:
    """Least cost of the first ``i + 1`` points in so many clusters, and where the last of them starts, for every ``i``."""
    n, least = len(before), clusters - 1
    best, start = np.full(n, np.inf), np.full(n, least)
    # what a start costs but for what its end decides: cost(start, end) = second[end] - second[start] - Δfirst² / Δmass
    opening = np.concatenate([[np.inf], before]) - sums.second
    step = 1 << (n - least).bit_length()
    while step := step // 2:
        rows = np.arange(least + step - 1, n, 2 * step)
        low = np.where(rows - step >= least, start[np.maximum(rows - step, 0)], least)
        high = np.where(rows + step < n, start[np.minimum(rows + step, n - 1)], rows)
        best[rows], start[rows] = _best_between(opening, sums, rows, low, np.minimum(high, rows))
    return best, start


def _best_between(opening: Array, sums: _Sums, rows: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """For each row, the start from ``low`` to ``high`` of the last cluster that costs least."""
    lengths = high - low + 1
    offsets = np.cumsum(lengths) - lengths
    starts = np.arange(lengths.sum()) + np.repeat(low - offsets, lengths)
    mass = np.repeat(sums.mass[rows + 1], lengths)
    mass -= sums.mass[starts]
    first = np.repeat(sums.first[rows + 1], lengths)
    first -= sums.first[starts]
    first *= first
    first /= np.maximum(mass, TINY, out=mass)
    costs = opening[starts]
    costs -= first
    best = np.minimum.reduceat(costs, offsets)
    hits = np.flatnonzero(costs == np.repeat(best, lengths))
    return np.maximum(best + sums.second[rows + 1], 0.0), starts[hits[np.searchsorted(hits, offsets)]]


def _centers(points: Array, mass: Array, edges: Array) -> Array:
    return np.add.reduceat(points * mass, edges[:-1]) / np.add.reduceat(mass, edges[:-1])


def _binned(points: Array, mass: Array, count: int) -> tuple[Array, Array]:
    """Mean and mass of each occupied bin: half of the bins are equally wide, half hold equally many values."""
    wide = np.linspace(points[0], points[-1], count // 2)[1:-1]
    full = points[np.linspace(0, len(points) - 1, count // 2).astype(np.int64)][1:-1]
    bins = np.searchsorted(np.union1d(wide, full), points, side="right")
    total, weighted = np.bincount(bins, mass), np.bincount(bins, mass * points)
    occupied = total > 0
    return weighted[occupied] / total[occupied], total[occupied]


def _refined(points: Array, mass: Array, centers: Array) -> Array:
    """Lloyd's iteration on the values themselves, from where the bins led."""
    total, weighted = (np.concatenate([[0.0], np.cumsum(a)]) for a in (mass, mass * points))
    for _ in range(REFINEMENTS):
        edges = np.concatenate([[0], np.searchsorted(points, (centers[1:] + centers[:-1]) / 2), [len(points)]])
        share = np.diff(total[edges])
        moved = np.where(share > 0, np.diff(weighted[edges]) / np.maximum(share, 1e-300), centers)
        if np.array_equal(moved, centers):
            break
        centers = moved
    return centers
