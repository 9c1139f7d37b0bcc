"""A data set in memory, for passes that calibrate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dovetail.core.protocols import Array, Feeds, Sample


class MemoryDataset:
    """Implements :class:`dovetail.core.protocols.Dataset` over a list of feeds; every sample is its own group."""

    name = "memory"
    content_hash = "memory"

    def __init__(self, feeds: Sequence[Feeds], labels: Array | None = None) -> None:
        self._feeds = feeds
        self.labels = labels
        self.groups: Array = np.arange(len(feeds))

    def __len__(self) -> int:
        return len(self._feeds)

    def sample(self, index: int) -> Sample:
        """One sample."""
        return Sample(feeds=self._feeds[index], label=None if self.labels is None else self.labels[index])

    def batch(self, indices: Sequence[int]) -> Feeds | None:
        """Samples joined along their leading axis."""
        names = self._feeds[0].keys()
        return {name: np.concatenate([self._feeds[i][name] for i in indices]) for name in names}
