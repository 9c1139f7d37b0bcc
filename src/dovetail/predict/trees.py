"""Sums of oblivious decision trees: all nodes of one level ask the same question, so a tree is a table of ``2^depth`` leaves.

Boosted trees of this shape overfit less than free ones and are read without branches (Prokhorenkova et al., "CatBoost:
unbiased boosting with categorical features", NeurIPS 2018, section 3).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_STEPS = 32767
"""Leaves are stored as whole steps of their greatest magnitude over this: a smaller file, and errors below 1e-4 of a leaf."""
_ROWS = 512
"""Rows that are answered at a time: what is held meanwhile stays in the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trees:
    """``T`` trees of depth ``D``.

    Attributes:
        start: what is said before any tree.
        features: ``[T, D]`` column that a level asks about.
        thresholds: ``[T, D]``; a level answers yes above it.
        leaves: ``[T, 2^D]`` what each tree adds; the first level is the highest bit of the index.
    """

    start: float
    features: Indices
    thresholds: Floats
    leaves: Floats
    _cuts: Mapping[int, Floats] = field(init=False, repr=False, compare=False)
    _ranks: NDArray[np.integer[Any]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        depth = self.features.shape[1]
        if self.thresholds.shape != self.features.shape or self.leaves.shape != (len(self.features), 1 << depth):
            raise ValueError(f"trees of depth {depth} have {depth} thresholds and {1 << depth} leaves each")
        cuts = {int(column): np.unique(self.thresholds[self.features == column]) for column in np.unique(self.features)}
        ranks = np.zeros(self.features.shape, dtype=np.min_scalar_type(max(map(len, cuts.values()), default=0)))
        for column, cut in cuts.items():
            asked = self.features == column
            ranks[asked] = np.searchsorted(cut, self.thresholds[asked])
        object.__setattr__(self, "_cuts", cuts)
        object.__setattr__(self, "_ranks", ranks)

    def __call__(self, x: Floats) -> Floats:
        """``[n]`` from ``[n, columns]``."""
        return np.concatenate([self._some(x[first : first + _ROWS]) for first in range(0, len(x), _ROWS)] or [np.zeros(0)])

    def _some(self, x: Floats) -> Floats:
        """All trees at once: a value is above a threshold when more thresholds of its column lie below it than precede that."""
        above = np.zeros((x.shape[1], len(x)), dtype=self._ranks.dtype)
        for column, cut in self._cuts.items():
            above[column] = np.searchsorted(cut, x[:, column])
        leaf = np.zeros((len(self.features), len(x)), dtype=np.min_scalar_type(self.leaves.shape[1] - 1))
        for level in range(self.features.shape[1]):
            leaf += leaf
            leaf += above[self.features[:, level]] > self._ranks[:, level, None]
        added: Floats = np.take_along_axis(self.leaves, leaf.astype(np.intp), axis=1).sum(axis=0)
        return self.start + added

    def given(self, values: Mapping[int, float]) -> Trees:
        """The same trees where some columns are known: no level depends on them any more."""
        depth = self.features.shape[1]
        columns, bits = list(values), 1 << np.arange(depth - 1, -1, -1)
        known = np.isin(self.features, columns)
        of = np.zeros(max([*columns, int(self.features.max(initial=0))]) + 1)
        of[columns] = list(values.values())
        yes = known & (of[self.features] > self.thresholds)
        free, fixed = ~(known * bits).sum(axis=1), (yes * bits).sum(axis=1)
        taken = (np.arange(1 << depth) & free[:, None]) | fixed[:, None]
        leaves = np.take_along_axis(self.leaves, taken, axis=1)
        thresholds = np.where(known, np.inf, self.thresholds)
        return Trees(start=self.start, features=self.features, thresholds=thresholds, leaves=leaves)

    def to_json(self) -> dict[str, Any]:
        """JSON values: numbers packed as base64 of little-endian bytes."""
        scale = float(np.abs(self.leaves).max(initial=0.0)) / _STEPS or 1.0
        return {
            "start": float(self.start),
            "depth": int(self.features.shape[1]),
            "features": _packed(self.features, "<u1"),
            "thresholds": _packed(self.thresholds, "<f8"),
            "leaf_step": scale,
            "leaves": _packed(np.rint(self.leaves / scale), "<i2"),
        }

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Trees:
        """What :meth:`to_json` wrote."""
        depth = int(values["depth"])
        leaves = _unpacked(values["leaves"], "<i2").astype(np.float64) * float(values["leaf_step"])
        return cls(
            start=float(values["start"]),
            features=_unpacked(values["features"], "<u1").astype(np.intp).reshape(-1, depth),
            thresholds=_unpacked(values["thresholds"], "<f8").astype(np.float64).reshape(-1, depth),
            leaves=leaves.reshape(-1, 1 << depth),
        )


def mean(trees: Sequence[Trees]) -> Trees:
    """One whose answer is the mean of several that ask the same."""
    first, *others = trees
    if any(not np.array_equal(first.thresholds, other.thresholds) for other in others):
        raise ValueError("only trees that ask the same have a mean")
    leaves = np.mean([one.leaves for one in trees], axis=0)
    return Trees(start=first.start, features=first.features, thresholds=first.thresholds, leaves=leaves)


def _packed(values: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values.astype(dtype)).tobytes()).decode("ascii")


def _unpacked(text: str, dtype: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=dtype)
