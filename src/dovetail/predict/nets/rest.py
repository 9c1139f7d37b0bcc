"""Operators beside those that another model tells: what the sums of networks in PyTorch say of them, without the trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.core.device import Device
from dovetail.predict.nets.model import NEW
from dovetail.predict.nets.on_device import on_device
from dovetail.predict.nets.quantities import FIXED, Counted, summed
from dovetail.predict.nets.setting import Setting as Way
from dovetail.predict.nets.specialist import model
from dovetail.predict.nets.terms import TERMS, limits, terms_s
from dovetail.predict.setting import Setting

Floats = NDArray[np.float64]

PRECISIONS = {"fp16": "amp", "bf16": "bf16"}
"""Type → how PyTorch is told to compute in it."""
_OTHER_MAKERS = (0.5, 2.0)
"""Ends of the interval on GPUs that are not NVIDIA's, of which no network was measured (assumed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """On one device.

    Attributes:
        seconds: of a call.
        limits: ``[3]`` of them that go into operations, traffic and launches.
        spread: factors of the interval of a whole network on a device that was not fitted.
        sure: whether they come from errors.
        way: how it runs; ``weights`` ``[TERMS]`` of all devices that run that way.
        batch: samples a call; ``analysed`` those that the operators are of.
    """

    seconds: float
    limits: Floats
    spread: tuple[float, float]
    sure: bool
    way: Way
    weights: Floats
    batch: float
    analysed: float

    def per_operator(self, calls: Floats) -> tuple[Floats, NDArray[np.intp]]:
        """Seconds a call of operators ``[n, QUANTITIES]``, and the limit of each; together :attr:`seconds`."""
        n = len(calls)
        each = np.where(FIXED, calls, calls / self.analysed)
        parts = terms_s(each, np.full(n, self.batch), [self.way] * n) * self.weights
        parts[:, TERMS.index("step")] /= max(n, 1)
        seconds = np.maximum(parts.sum(axis=1), 1e-15)
        return seconds * self.seconds / max(seconds.sum(), 1e-15), limits(parts / seconds[:, None], each).argmax(axis=1)


def rest_of(
    operators: Sequence[tuple[str, Counted]],
    analysed: float,
    devices: Sequence[Device],
    dtypes: Sequence[str],
    setting: Setting,
) -> tuple[Rest, ...]:
    """What some operators take on devices whose peak and bandwidth are known.

    Args:
        operators: name and what is counted of each, in a call of ``analysed`` samples.
        analysed: samples.
        devices: ``[d]``.
        dtypes: ``[d]`` that each computes in, of :data:`PRECISIONS`.
        setting: batch, and whether it runs eager.
    """
    ways = [
        way
        for device, dtype in zip(devices, dtypes, strict=True)
        if (way := on_device(device, compiled=not setting.eager, precision=PRECISIONS[dtype]))
    ]
    call = summed((counted for _, counted in operators), 0.0)
    one = np.where(FIXED, call, call / analysed)[None].repeat(len(ways), axis=0)
    batch = np.full(len(ways), float(setting.batch))
    weights = model().of_way(ways[0])
    parts = terms_s(one, batch, ways) * weights * (batch[:, None] if operators else 0.0)
    seconds = parts.sum(axis=1)
    shares = limits(parts / np.maximum(seconds, 1e-15)[:, None], one)
    return tuple(
        Rest(
            seconds=float(seconds[k]),
            limits=shares[k] * seconds[k],
            spread=model().spread(way.way, NEW) if device.vendor == "NVIDIA" else _OTHER_MAKERS,
            sure=device.vendor == "NVIDIA",
            way=way,
            weights=weights,
            batch=float(setting.batch),
            analysed=analysed,
        )
        for k, (way, device) in enumerate(zip(ways, devices, strict=True))
    )
