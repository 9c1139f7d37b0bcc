"""Which samples make up which batch: seeded, by whole pairs where asked, alike in shape or in length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array, Dataset

_POOL = 50
"""Batches' worth of samples that are sorted by length together: long enough for little padding, short enough to stay random."""
_MOST_HELD_OUT = 1000
"""Held-out samples at most: the standard error of an accuracy of 0.9 is then 1 percentage point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """The batches of every epoch.

    Attributes:
        items: ``[m, k]`` sample numbers; the ``k`` of a row stay together.
        size: samples per batch at most.
        seed: of the orders.
        shapes: ``[m]`` number of the shape of each row's samples; only equal ones share a batch. ``None`` when all are alike.
        lengths: ``[m]`` by which rows are sorted, so that batches need little padding; ``None`` without padding.
    """

    items: Array
    size: int
    seed: int = 0
    shapes: Array | None = None
    lengths: Array | None = None

    @property
    def rows(self) -> int:
        """Rows of ``items`` per batch."""
        return max(1, self.size // int(self.items.shape[1]))

    def epoch(self, number: int) -> list[Array]:
        """Sample numbers of every batch of an epoch, the same for the same seed and number.

        Batches are full, unless there are fewer samples than fill one, or shapes keep samples apart.
        """
        rng = np.random.default_rng((self.seed, 1, number))
        order = rng.permutation(len(self.items))
        if self.shapes is not None:
            return self._shuffled(self._by_shape(order, self.shapes), rng)
        if self.lengths is not None:
            pool = _POOL * self.rows
            pools = [order[at : at + pool] for at in range(0, len(order), pool)]
            order = np.concatenate([p[np.argsort(self.lengths[p], kind="stable")] for p in pools])
            return self._shuffled(self._cut(order), rng)
        return [self.items[rows].ravel() for rows in self._cut(order)]

    def in_order(self) -> list[Array]:
        """Sample numbers of batches that hold every sample once, those of like shape or length together."""
        order = np.arange(len(self.items))
        if self.shapes is not None:
            return [self.items[rows].ravel() for rows in self._by_shape(order, self.shapes)]
        if self.lengths is not None:
            order = np.argsort(self.lengths, kind="stable")
        return [self.items[order[at : at + self.rows]].ravel() for at in range(0, len(order), self.rows)]

    def count(self) -> int:
        """Batches per epoch."""
        if self.shapes is not None:
            _, members = np.unique(self.shapes, return_counts=True)
            return int(sum(-(-m // self.rows) for m in members))
        return max(1, len(self.items) // self.rows)

    def _cut(self, order: Array) -> list[Array]:
        return [order[at * self.rows : (at + 1) * self.rows] for at in range(max(1, len(order) // self.rows))]

    def _by_shape(self, order: Array, shapes: Array) -> list[Array]:
        batches = []
        for shape in np.unique(shapes):
            members = order[shapes[order] == shape]
            batches += [members[at : at + self.rows] for at in range(0, len(members), self.rows)]
        return batches

    def _shuffled(self, batches: Sequence[Array], rng: np.random.Generator) -> list[Array]:
        return [self.items[batches[i]].ravel() for i in rng.permutation(len(batches))]


def split_off(groups: Array, share: float, seed: int) -> tuple[Array, Array]:
    """Sample numbers that train and that judge; samples of one group stay together.

    Args:
        groups: ``[n]`` integers.
        share: of the groups that judge; at most so many as hold 1,000 samples, and at least one where the share is above zero.
        seed: the same seed and groups give the same split.
    """
    names, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if not share or len(names) < 2:
        return np.arange(len(groups)), np.empty(0, dtype=np.int64)
    order = np.random.default_rng((seed, 2)).permutation(len(names))
    wanted = min(max(1, round(share * len(names))), len(names) - 1)
    fit = int(np.searchsorted(np.cumsum(sizes[order]), _MOST_HELD_OUT, side="right"))
    chosen = np.isin(inverse, order[: max(1, min(wanted, fit))])
    judges = np.flatnonzero(chosen)
    if len(judges) > _MOST_HELD_OUT:  # one large group, such as a speaker
        judges = judges[np.linspace(0, len(judges) - 1, _MOST_HELD_OUT).astype(int)]
    return np.flatnonzero(~chosen), judges


def items_of(indices: Array, groups: Array, *, pairs: bool) -> Array:
    """Rows ``[m, k]`` of samples that stay together: single samples, or the pairs of a group in their order.

    Raises:
        DataError: pairs are asked for, and a group holds another number of samples.
    """
    if not pairs:
        return indices[:, None]
    _, inverse, sizes = np.unique(groups[indices], return_inverse=True, return_counts=True)
    if set(sizes.tolist()) != {2}:
        raise DataError(
            f"a loss on pairs needs two samples in every group; groups hold {', '.join(map(str, sorted(set(sizes.tolist()))))}",
            where="training data",
            hint="give both samples of a pair the same group",
        )
    return indices[np.argsort(inverse, kind="stable")].reshape(-1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Shapes of the samples of a data set.

    Attributes:
        shapes: ``[n]`` number of each sample's shapes.
        lengths: ``[n]`` elements of each sample's largest feed.
        alike: whether all samples have one shape.
    """

    shapes: Array
    lengths: Array
    alike: bool


def sizes_of(dataset: Dataset) -> Sizes:
    """Looks at every sample, unless the data set says that all are alike."""
    none = np.zeros(len(dataset), dtype=np.int64)
    if getattr(dataset, "uniform", False):
        return Sizes(shapes=none, lengths=none, alike=True)
    numbers: dict[tuple[tuple[int, ...], ...], int] = {}
    shapes, lengths = none.copy(), none.copy()
    for index in range(len(dataset)):
        feeds = dataset.sample(index).feeds
        shape = tuple(feed.shape for feed in feeds.values())
        shapes[index] = numbers.setdefault(shape, len(numbers))
        lengths[index] = max((feed.size for feed in feeds.values()), default=0)
    return Sizes(shapes=shapes, lengths=lengths, alike=len(numbers) <= 1)
