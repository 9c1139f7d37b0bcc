"""Kernel times as told by other networks alone, so that errors on calibrated networks are those on one that comes later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dovetail.predict.kernel_model import KernelModel, LearnedKernels, learn_kernels
from dovetail.predict.traced import Kernels

FOLDS = 4
"""Parts that the networks are dealt into. More would judge models nearer to the whole one, and take longer to learn."""


class CrossFit:
    """Models that have each not seen one part of the networks; each is learned when it is asked for.

    What is chosen once for all of them is what :class:`dovetail.predict.kernel_model.Choice` holds, by likelihood.

    Args:
        kernels: with their measured times, of at least two networks.
        networks: of each trace.
        whole: learned from all of them.
    """

    def __init__(self, kernels: Kernels, networks: Sequence[str], whole: LearnedKernels) -> None:
        self._kernels, self._whole = kernels, whole
        names = list(dict.fromkeys(networks))
        self.folds = range(min(FOLDS, len(names)))
        self._fold = {name: index % len(self.folds) for index, name in enumerate(names)}
        self._of_trace = np.array([self._fold[name] for name in networks])
        self._models: dict[int, KernelModel] = {}

    def fold(self, network: str) -> int:
        """The part that a network is in; one without kernels is in the first."""
        return self._fold.get(network, 0)

    def without(self, fold: int) -> KernelModel:
        """Learned from the other parts."""
        if fold not in self._models:
            kept = np.flatnonzero(self._of_trace[self._kernels.traces] != fold)
            some = self._kernels.some(kept)
            self._models[fold] = KernelModel(learn_kernels(some.labels, some.x, some.times, some.traces, like=self._whole))
        return self._models[fold]
