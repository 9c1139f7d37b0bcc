"""Units: the least things that pruning can take. One unit is one position of one axis; units that are joined go together."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dovetail.core.protocols import Array

Labels = Array
"""``int64[n]``: the unit at each position of an axis of size n. The same unit may appear more than once."""


class Units:
    """A disjoint-set forest of units (Tarjan 1975), with the reason why a unit has to stay where there is one."""

    def __init__(self) -> None:
        self._parent: Array = np.zeros(0, np.int64)
        self._kept: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._parent)

    def new(self, count: int) -> Labels:
        """``count`` units that nothing is joined to yet."""
        labels = np.arange(len(self._parent), len(self._parent) + count, dtype=np.int64)
        self._parent = np.concatenate([self._parent, labels])
        return labels

    def roots(self, labels: Labels) -> Labels:
        """The representative of each unit: equal where units are joined. Keeps the shape of ``labels``."""
        found = self._parent[labels]
        while True:
            above = self._parent[found]
            if np.array_equal(above, found):
                break
            found = above
        self._parent[labels] = found
        return found

    def join(self, first: Labels, second: Labels) -> None:
        """Joins units position by position; both have the same shape."""
        a, b = self.roots(first).ravel(), self.roots(second).ravel()
        for x, y in zip(a[a != b].tolist(), b[a != b].tolist(), strict=True):
            self._join(x, y)

    def tie(self, labels: Array) -> Labels:
        """Joins all rows of ``int64[rows, n]`` to the first, which is returned: n units."""
        self.join(labels[1:], np.broadcast_to(labels[0], labels[1:].shape))
        first: Labels = labels[0]
        return first

    def keep(self, labels: Labels, reason: str) -> None:
        """Units that have to stay; the first reason given is the one that is told."""
        for root in np.unique(self.roots(labels)).tolist():
            self._kept.setdefault(root, reason)

    def reasons(self) -> dict[int, str]:
        """Root → why its units have to stay."""
        found: dict[int, str] = {}
        for unit, reason in self._kept.items():
            found.setdefault(int(self.roots(np.array([unit]))[0]), reason)
        return found

    def marked(self, units: Iterable[int]) -> set[int]:
        """Roots of units that were remembered before later joins."""
        return set(self.roots(np.fromiter(units, np.int64)).tolist())

    def _join(self, x: int, y: int) -> None:
        parent = self._parent
        while parent[x] != x:
            x = int(parent[x])
        while parent[y] != y:
            y = int(parent[y])
        if x != y:
            parent[max(x, y)] = min(x, y)
