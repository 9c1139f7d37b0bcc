"""What a model takes of a device's memory, and whether that is there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.core import units
from dovetail.core.constraint import Answer
from dovetail.core.device import Device, Fact, Kind
from dovetail.predict.op_table import OpTable
from dovetail.predict.rates import Rates

Floats = NDArray[np.float64]

PLANNED, LOOSE = 1.1, 1.5
"""Activations that a runtime holds over those that are live at a time: what it plans for, and at most (assumed)."""
MOST_FLASH_BYTES = 6.4e7
"""No microcontroller here has more flash than that (assumed); where its size is not known, weights beyond it do not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Bytes on ``d`` devices.

    Attributes:
        weights: ``[d]``.
        activations: ``[d]`` live at a time; NaN when a shape is unknown.
        runtime: ``[d]`` that a runtime takes beside them.
    """

    weights: Floats
    activations: Floats
    runtime: Floats

    @property
    def value(self) -> Floats:
        """``[d]``; ``low`` and ``high`` likewise."""
        return self.weights + PLANNED * self.activations + self.runtime

    @property
    def low(self) -> Floats:
        """Nothing beside the model."""
        return self.weights + self.activations

    @property
    def high(self) -> Floats:
        """With everything twice or so."""
        return 1.2 * self.weights + LOOSE * self.activations + 2 * self.runtime


def need(table: OpTable, rates: Rates, batch: int) -> Need:
    """Memory of a call of ``batch`` samples."""
    live = np.nan if table.peak_activations is None else table.peak_activations * batch / table.batch
    return Need(
        weights=table.params * rates.element_bytes,
        activations=live * rates.element_bytes,
        runtime=rates.of_priors("runtime_bytes"),
    )


def fits(need: Need, devices: Sequence[Device]) -> tuple[Answer, ...]:
    """Whether it fits each device; unknown where the interval holds the capacity, or that is not known."""
    ends = zip(need.weights.tolist(), need.low.tolist(), need.high.tolist(), strict=True)
    return tuple(_fits(device, *bounds) for device, bounds in zip(devices, ends, strict=True))


def _fits(device: Device, weights: float, low: float, high: float) -> Answer:
    """The weights alone decide where activations are not known; a microcontroller's weights may lie in its flash."""
    capacity = device.capacity_bytes
    if device.kind is Kind.MCU:
        return _fits_mcu(device, weights, low - weights, high - 1.2 * weights)
    if capacity is None:
        return Answer.UNKNOWN
    if high <= capacity.value:
        return Answer.YES
    return Answer.NO if low > capacity.value or weights > capacity.value else Answer.UNKNOWN


def _fits_mcu(device: Device, weights: float, low: float, high: float) -> Answer:
    """``low`` and ``high`` are of what lies in working memory beside the weights."""
    flash, capacity = _flash(device), device.capacity_bytes
    if weights > (flash.value if flash else MOST_FLASH_BYTES):
        return Answer.NO
    if capacity is None or math.isnan(low):
        return Answer.UNKNOWN
    if high <= capacity.value and (flash or high + 1.2 * weights <= capacity.value):
        return Answer.YES
    return Answer.NO if low > capacity.value else Answer.UNKNOWN


def _flash(device: Device) -> Fact | None:
    """Capacity of a microcontroller's second tier, which holds its weights."""
    return device.memory[1].capacity_bytes if device.kind is Kind.MCU and len(device.memory) > 1 else None


def reason(device: Device, need: Need, i: int, answer: Answer) -> str:
    """Why it fits or not, in words."""
    flash, capacity = _flash(device), device.capacity_bytes
    whole, weights = float(need.value[i]), float(need.weights[i])
    taken = f"{units.size(weights)} of weights" if math.isnan(whole) else units.size(whole)
    room = "memory of unknown size" if capacity is None else units.size(capacity.value)
    if device.kind is Kind.MCU and weights > (flash.value if flash else MOST_FLASH_BYTES):
        where = f"its flash holds {units.size(flash.value)}" if flash else "no microcontroller's flash holds that"
        return f"the weights take {units.size(weights)}; {where}"
    if flash is not None:
        taken = f"{units.size(whole - weights)} beside weights in flash"
    verdict = {Answer.YES: "fits", Answer.NO: "does not fit", Answer.UNKNOWN: "may or may not fit"}[answer]
    return f"{taken} {verdict} in {room}"
