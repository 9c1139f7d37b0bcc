"""Predicts matrix products in 16-bit floats on GPUs; fitted by ``benchmarks/published/gemm.py`` to vidur's published profiles.

Tiles in waves first (:mod:`dovetail.predict.gemm.tiles`), then a factor that trees learned from what those leave. A device that
no row was fitted to gets the mean factor of the fitted ones, and a wider interval; so does a product whose role in the network
nobody said. Known to be off: clocks that a power limit lowers differ between machines of one type, by up to 8 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.gemm.features import work_features
from dovetail.predict.gemm.shapes import ROLES, Gemms, Gpus
from dovetail.predict.gemm.tiles import TileModel
from dovetail.predict.trees import Trees, mean

Floats = NDArray[np.float64]

FITTED, NEW = "fitted", "new device"
TOKENS = (128, 1024)
"""Rows ``m`` up to which products are known well, badly, and above which well again: few tiles are sure to be one wave, many
fill waves whatever the tiles, and in between the library's choice of tiles decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmTimes:
    """Of ``n`` products: seconds, and the ends of their interval; each ``[n]``."""

    seconds: Floats
    low_s: Floats
    high_s: Floats


class GemmModel:
    """See the module.

    Args:
        parameters: ``tiles``, ``devices`` fitted, ``trees``, ``spreads``; without ``trees`` the tile
            model stands alone.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._tiles = TileModel.of_json(parameters["tiles"])
        self._devices: tuple[str, ...] = tuple(parameters["devices"])
        self._trees = Trees.of_json(parameters["trees"]) if "trees" in parameters else None
        self._given: dict[tuple[str, str], Trees] = {}
        self._spreads: Mapping[str, Any] = parameters.get("spreads", {FITTED: [(1.0, 1.0)] * 3, NEW: (1.0, 1.0)})

    def predict(self, gemms: Gemms, gpus: Gpus) -> GemmTimes:
        """Seconds of each product, never less than its operations take at peak."""
        logs = self._tiles.log_seconds(gemms, gpus)
        if self._trees is not None:
            logs = logs + self._factor(work_features(gemms, gpus, logs), gemms.role, gpus.name)
        floor = gemms.flop / gpus.peak_flop_per_s
        seconds = np.maximum(np.exp(logs), floor)
        ends = np.array(self._spreads[FITTED])[np.searchsorted(TOKENS, gemms.m)]
        ends[np.array([name not in self._devices for name in gpus.name], dtype=bool)] = self._spreads[NEW]
        return GemmTimes(seconds=seconds, low_s=np.maximum(seconds * ends[:, 0], floor), high_s=seconds * ends[:, 1])

    @property
    def devices(self) -> tuple[str, ...]:
        """That rows were fitted to."""
        return self._devices

    def _factor(self, work: Floats, roles: Sequence[str], devices: Sequence[str]) -> Floats:
        """``[n]`` ln of the trees' factor, the mean over what is not known of device and role."""
        asked = [
            (device if device in self._devices else "", role if role in ROLES else "")
            for device, role in zip(devices, roles, strict=True)
        ]
        flags = np.zeros((len(work), len(self._devices) + len(ROLES)))
        found, x = np.zeros(len(work)), np.concatenate([flags, work], axis=1)
        for key in set(asked):
            rows = np.array([one == key for one in asked], dtype=bool)
            found[rows] = self._of(*key)(x[rows])
        return found

    def _of(self, device: str, role: str) -> Trees:
        """The trees of a device and a role, and their mean over all of those that an empty name stands for."""
        assert self._trees is not None
        if (device, role) not in self._given:
            which = product([device] if device else self._devices, [role] if role else ROLES)
            columns = (*self._devices, *ROLES)
            flagged = [{i: float(name in pair) for i, name in enumerate(columns)} for pair in which]
            self._given[device, role] = mean([self._trees.given(values) for values in flagged])
        return self._given[device, role]
