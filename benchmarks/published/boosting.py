"""Fits sums of oblivious trees by gradient boosting (Friedman, Annals of Statistics 29, 2001) on histograms of the features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.trees import Trees
from published.table import Floats, Indices

_BINS = 64
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Boosting:
    """How trees are fitted.

    Attributes:
        trees: how many.
        depth: of each.
        rate: share of a tree's answer that is taken.
        shrink: rows without error that each leaf is taken to hold beside its own.
        clip: residuals count with at most this magnitude, so that no row pulls harder than another.
        columns: share of the features that a tree may ask about; ``rows`` share of the rows that it is fitted to.
    """

    trees: int
    depth: int
    rate: float
    shrink: float
    clip: float
    columns: float = 0.3
    rows: float = 0.7

    def fit(self, x: Floats, y: Floats) -> Trees:
        """Trees for ``y`` ``[n]`` from features ``[n, columns]``."""
        rng = np.random.default_rng(_SEED)
        edges = [_edges(column) for column in x.T]
        codes = np.stack([np.searchsorted(edge, column, side="left") for edge, column in zip(edges, x.T, strict=True)])
        useful = np.flatnonzero([len(edge) > 0 for edge in edges])
        start = float(np.median(y))
        said = np.full(len(y), start)
        asked, limits, leaves = [], [], []
        for _ in range(self.trees):
            pull = np.clip(y - said, -self.clip, self.clip)
            rows = rng.permutation(len(y))[: max(1, int(self.rows * len(y)))]
            columns = rng.permutation(useful)[: max(1, int(self.columns * len(useful)))]
            levels = self._levels(codes[np.ix_(columns, rows)], pull[rows])
            features, bins = columns[[level[0] for level in levels]], [level[1] for level in levels]
            place = _leaf(codes[features], bins)
            values = self.rate * self._leaves(place[rows], pull[rows])
            said += values[place]
            asked.append(features)
            limits.append([edges[feature][b] for feature, b in zip(features, bins, strict=True)])
            leaves.append(values)
        return Trees(start=start, features=np.array(asked), thresholds=np.array(limits), leaves=np.array(leaves))

    def _levels(self, codes: NDArray[np.intp], pull: Floats) -> list[tuple[int, int]]:
        """Column and bin that each level asks about: the pair that leaves the least squared error over all leaves."""
        leaf, found = np.zeros(len(pull), dtype=np.intp), []
        for depth in range(self.depth):
            gain = self._gains(codes, leaf, pull, 1 << depth)
            column, edge = np.unravel_index(int(gain.argmax()), gain.shape)
            found.append((int(column), int(edge)))
            leaf = 2 * leaf + (codes[column] > edge)
        return found

    def _gains(self, codes: NDArray[np.intp], leaf: Indices, pull: Floats, leaves: int) -> Floats:
        """``[columns, bins - 1]`` squared error that a question takes away."""
        shape = (len(codes), leaves, _BINS)
        place = ((np.arange(len(codes))[:, None] * leaves + leaf) * _BINS + codes).ravel()
        sums = np.bincount(place, np.broadcast_to(pull, codes.shape).ravel(), minlength=int(np.prod(shape))).reshape(shape)
        counts = np.bincount(place, minlength=int(np.prod(shape))).reshape(shape)
        below, n_below = sums.cumsum(axis=2)[..., :-1], counts.cumsum(axis=2)[..., :-1]
        above, n_above = sums.sum(axis=2, keepdims=True) - below, counts.sum(axis=2, keepdims=True) - n_below
        gain = below**2 / (n_below + self.shrink) + above**2 / (n_above + self.shrink)
        return np.asarray(gain.sum(axis=1))

    def _leaves(self, place: Indices, pull: Floats) -> Floats:
        sums = np.bincount(place, pull, minlength=1 << self.depth)
        return np.asarray(sums / (np.bincount(place, minlength=1 << self.depth) + self.shrink))


def _edges(column: Floats) -> Floats:
    """At most ``_BINS - 1`` limits between values that occur."""
    values = np.unique(column)
    if len(values) <= _BINS:
        return np.asarray(values[:-1])
    return np.unique(np.quantile(column, np.linspace(0, 1, _BINS + 1)[1:-1]))


def _leaf(codes: NDArray[np.intp], bins: Sequence[int]) -> Indices:
    leaf = np.zeros(codes.shape[1], dtype=np.intp)
    for code, edge in zip(codes, bins, strict=True):
        leaf = 2 * leaf + (code > edge)
    return leaf
