"""Energy and money of one inference, from its time and what a device draws and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.core.device import IDLE_SHARE, Device, Fact

Floats = NDArray[np.float64]

HOURS = 3 * 8760.0
"""Life of a bought device in full use (assumed: three years)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """Values with their intervals, each ``[d]``; NaN where nothing can be told."""

    value: Floats
    low: Floats
    high: Floats


def energy(seconds: Bands, busy: Floats, devices: Sequence[Device]) -> Bands:
    """Joules of one sample: idle power, and the rest up to the maximum by how busy the device is; at most the maximum.

    Args:
        seconds: of one sample.
        busy: ``[d]`` share of the time in which it computes or moves data.
        devices: without a maximum power nothing is told.
    """
    most = _known([device.power_w for device in devices])
    idle = _known([device.idle_power_w for device in devices])
    guessed = [np.where(np.isnan(idle), most * share, idle) for share in IDLE_SHARE]
    value, low, high = (
        np.minimum(most, at_rest + np.maximum(0.0, most - at_rest) * level)
        for at_rest, level in zip(guessed, (busy, 0.5 * busy, np.minimum(1.0, 0.3 + busy)), strict=True)
    )
    low, high = np.minimum(low, value), np.maximum(high, value)
    return Bands(value=value * seconds.value, low=low * seconds.low, high=high * seconds.high)


def usd_per_million(seconds: Bands, devices: Sequence[Device], life_h: float = HOURS) -> Bands:
    """Of a million samples: rent, or the purchase price over the hours of its life; electricity apart."""
    rent = _known([device.price_usd_per_h for device in devices])
    bought = _known([device.price_usd for device in devices]) / life_h
    per_second = np.where(np.isnan(rent), bought, rent) / 3600 * 1e6
    return Bands(value=per_second * seconds.value, low=per_second * seconds.low, high=per_second * seconds.high)


def _known(facts: Sequence[Fact | None]) -> Floats:
    return np.array([np.nan if fact is None else fact.value for fact in facts])
