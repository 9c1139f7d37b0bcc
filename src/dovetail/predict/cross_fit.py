"""Kernel times as told by other networks alone, so that errors on calibrated networks are those on one that comes later."""

from __future__ import annotations

from collections.abc import Sequence

from dovetail.core.profile import KernelTime
from dovetail.predict.kernel_model import KernelModel

FOLDS = 4
"""Parts that the networks are dealt into. More would judge models nearer to the whole one, and take longer to learn."""


class CrossFit:
    """Models that have each not seen one part of the networks; each is learned when it is asked for.

    What is chosen once for all of them are a length scale and a correlation, by likelihood.

    Args:
        kernels: with their measured times.
        networks: that each belongs to; at least two different ones.
        whole: learned from all of them.
    """

    def __init__(self, kernels: Sequence[KernelTime], networks: Sequence[str], whole: KernelModel) -> None:
        self._kernels, self._networks, self._whole = kernels, networks, whole
        names = list(dict.fromkeys(networks))
        self.folds = range(min(FOLDS, len(names)))
        self._fold = {name: index % len(self.folds) for index, name in enumerate(names)}
        self._models: dict[int, KernelModel] = {}

    def fold(self, network: str) -> int:
        """The part that a network is in; one without kernels is in the first."""
        return self._fold.get(network, 0)

    def without(self, fold: int) -> KernelModel:
        """Learned from the other parts."""
        if fold not in self._models:
            kept = [i for i, network in enumerate(self._networks) if self._fold[network] != fold]
            some = [self._kernels[i] for i in kept], [self._networks[i] for i in kept]
            self._models[fold] = KernelModel(*some, like=self._whole)
        return self._models[fold]
