"""Predicts networks in PyTorch from sums over their operators; fitted by ``benchmarks/published/vision.py`` to timm's rows.

Each way to run has non-negative weights for the times that a network's operations, traffic and launches would take at the data
sheet's rates; trees learned a factor from what these leave. Neither looks at a network's name: any analysed model can be
predicted. A setting that was not fitted takes the weights of the most similar one on its device, else those of all devices of
its way together, with a wider interval. Known to be off: devices whose power limit lowers their clocks (weights of other
devices make them too fast), and caches that hold what is counted as memory traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.nets.setting import Setting
from dovetail.predict.nets.terms import composition, terms_s
from dovetail.predict.trees import Trees

Floats = NDArray[np.float64]

FITTED, SIMILAR, NEW = "fitted", "similar", "new device"
_TRAINING = 3.0
"""Times the work of inference: the way back computes two products for each of the way there."""
_WIDEST = (0.35, 2.8)
"""Factors of an interval that no left-out row told; assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetTimes:
    """Of ``n`` networks: seconds a sample and the ends of their interval, each ``[n]``; ``[n, TERMS]`` what they go into."""

    seconds: Floats
    low_s: Floats
    high_s: Floats
    shares: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Which weights a setting takes, and how near they are."""

    values: Floats
    near: str


class NetModel:
    """See the module.

    Args:
        parameters: ``settings`` (with their weights), ``ways`` (weights), ``trees``, ``spreads``; without ``trees`` the sums
            stand alone.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._fitted: dict[tuple[str, str], list[tuple[Setting, Floats]]] = {}
        for item in parameters["settings"]:
            own = Setting(**item["setting"])
            self._fitted.setdefault((own.device, own.way), []).append((own, np.array(item["weights"])))
        self._ways = {way: np.array(weights) for way, weights in parameters["ways"].items()}
        self._trees = Trees.of_json(parameters["trees"]) if "trees" in parameters else None
        self._spreads: Mapping[str, Sequence[float]] = parameters.get("spreads", {})

    @property
    def ways(self) -> frozenset[str]:
        """To run networks, that were fitted on some device."""
        return frozenset(self._ways)

    def fitted(self, device: str, way: str) -> list[Setting]:
        """Settings of one way that were fitted on a device."""
        return [setting for setting, _ in self._fitted.get((device, way), [])]

    def predict(self, quantities: Floats, batch: Floats, pixels: Floats, settings: Sequence[Setting]) -> NetTimes:
        """Seconds a sample.

        Args:
            quantities: ``[n, QUANTITIES]`` of one sample (:mod:`dovetail.predict.nets.quantities`).
            batch: ``[n]`` samples a step.
            pixels: ``[n]`` side of the input image.
            settings: ``[n]``.
        """
        found = {setting.key: self.weights(setting) for setting in set(settings)}
        logs, shares = self.sums(quantities, batch, settings, found)
        if self._trees is not None:
            logs = logs + self._trees(tree_features(shares, quantities, batch, pixels, settings))
        ends = np.array([self.spread(setting.way, found[setting.key].near) for setting in settings]).reshape(-1, 2)
        seconds = np.exp(logs)
        return NetTimes(seconds=seconds, low_s=seconds * ends[:, 0], high_s=seconds * ends[:, 1], shares=shares)

    def weights(self, setting: Setting) -> Weights:
        """Of the setting, of the most similar one on the device, of its way, or of any way, whichever is known first."""
        same = self._fitted.get((setting.device, setting.way))
        if same:
            other, values = max(same, key=lambda item: setting.likeness(item[0]))
            return Weights(values=values, near=FITTED if other.key == setting.key else SIMILAR)
        return Weights(values=self.of_way(setting), near=NEW)

    def of_way(self, setting: Setting) -> Floats:
        """Weights of all devices together that run that way."""
        if setting.way in self._ways:
            return self._ways[setting.way]
        if setting.training:
            return _TRAINING * self.of_way(replace(setting, training=False))
        return np.asarray(np.mean(list(self._ways.values()), axis=0))

    def sums(
        self, quantities: Floats, batch: Floats, settings: Sequence[Setting], weights: Mapping[str, Weights]
    ) -> tuple[Floats, Floats]:
        """``[n]`` ln of the weighted sums, and ``[n, TERMS]`` the share of each term."""
        parts = terms_s(quantities, batch, settings) * np.array([weights[setting.key].values for setting in settings])
        total = np.maximum(parts.sum(axis=1), 1e-12)
        return np.log(total), parts / total[:, None]

    def spread(self, way: str, near: str) -> tuple[float, float]:
        """Factors of the interval."""
        low, high = self._spreads.get(f"{way}, {near}") or (near != NEW and self._spreads.get(near)) or _WIDEST
        return low, high


def tree_features(shares: Floats, quantities: Floats, batch: Floats, pixels: Floats, settings: Sequence[Setting]) -> Floats:
    """``[n, features]``: where the time goes, what the network is made of, how it runs."""
    flags = np.array([setting.flags() for setting in settings])
    return np.concatenate([shares, composition(quantities, batch, pixels), flags], axis=1)
