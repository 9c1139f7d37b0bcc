"""At what rates devices work in a precision: numbers of their data sheets as arrays, ready for the roofline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.core.device import STORED_BYTES, Device, Fact, Kind
from dovetail.predict.priors import Prior, prior

Floats = NDArray[np.float64]

_WIDER = {
    "int4": ("int8", "fp16", "bf16", "fp32"),
    "int8": ("fp16", "bf16", "fp32"),
    "fp8": ("fp16", "bf16", "fp32"),
    "fp16": ("bf16", "fp32"),
    "bf16": ("fp16", "fp32"),
    "tf32": ("fp32",),
    "fp32": ("fp64",),
    "fp64": (),
}
"""Types that a type is computed in where it has no peak of its own, the best first; 16-bit types stand for each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Of ``d`` devices in one precision.

    Attributes:
        precision: of each, after falling back to a type that it has; empty when it has none.
        peak: ``[d]`` FLOP/s; NaN when not known. ``bandwidth`` in bytes/s likewise.
        element_bytes: ``[d]`` that an element takes.
        launch_s: ``[d]``.
        priors: class of each device.
        notes: of each device.
    """

    precision: tuple[str, ...]
    peak: Floats
    bandwidth: Floats
    element_bytes: Floats
    launch_s: Floats
    priors: tuple[Prior, ...]
    notes: tuple[tuple[str, ...], ...]

    def of_priors(self, name: str) -> Floats:
        """``[d]`` one number of each device's class."""
        return np.array([getattr(item, name) for item in self.priors], dtype=np.float64)


def rates(devices: Sequence[Device], wanted: str | None, model_dtype: str, threads: int | None = None) -> Rates:
    """Reads devices.

    Args:
        devices: ``[d]``.
        wanted: precision asked for; ``None`` takes the model's own, or the widest that a device has where it has only narrower
            ones.
        model_dtype: the model's own.
        threads: on processors, how many of their cores work; ``None`` for all.
    """
    found = [computed_in(device, wanted, model_dtype) for device in devices]
    shares = [_threads(device, threads) for device in devices]
    classes = tuple(prior(device) for device in devices)
    return Rates(
        precision=tuple(dtype for dtype, _ in found),
        peak=np.array([_value(device.peak_flop_per_s.get(dtype)) for device, (dtype, _) in zip(devices, found, strict=True)])
        * [share for share, _ in shares],
        bandwidth=np.array([_value(device.bandwidth_bytes_per_s) for device in devices])
        * [min(1.0, 2 * share) for share, _ in shares],
        element_bytes=np.array([STORED_BYTES[dtype or wanted or model_dtype] for dtype, _ in found]),
        launch_s=np.array([_value(d.launch_s, item.launch_s) for d, item in zip(devices, classes, strict=True)]),
        priors=classes,
        notes=tuple(
            tuple(filter(None, (note, said, _missing(device, dtype))))
            for device, (dtype, note), (_, said) in zip(devices, found, shares, strict=True)
        ),
    )


def _value(fact: Fact | None, absent: float = np.nan) -> float:
    return absent if fact is None else fact.value


def computed_in(device: Device, wanted: str | None, own: str) -> tuple[str, str]:
    """The type that it computes in, empty for none, and a note where that is not what was asked."""
    asked = wanted or own
    if not device.peak_flop_per_s:
        return "", ""
    if asked in device.peak_flop_per_s:
        return asked, ""
    for wider in _WIDER[asked]:
        if wider in device.peak_flop_per_s:
            return wider, f"it has no known {asked} rate: computed in {wider}"
    widest = next(iter(sorted(device.peak_flop_per_s, key=lambda dtype: -STORED_BYTES[dtype])))
    if wanted is None:
        return widest, f"it has no known {asked} rate: the model must be brought to {widest}"
    return "", f"it has no known rate in {asked} or a wider type; it has one in {', '.join(sorted(device.peak_flop_per_s))}"


def _threads(device: Device, threads: int | None) -> tuple[float, str]:
    """Share of a processor's cores that work; memory bandwidth is taken to be reached with half of them."""
    if threads is None or device.kind is not Kind.CPU:
        return 1.0, ""
    if device.cores is None:
        return 1.0, "the number of its cores is not known: all of them are taken to work"
    return min(1.0, threads / device.cores.value), ""


def _missing(device: Device, dtype: str) -> str:
    if not device.peak_flop_per_s:
        return "no time can be told: none of its peaks is known"
    if not dtype:
        return "no time can be told in this precision"
    return "" if device.bandwidth_bytes_per_s else "its memory bandwidth is not known: memory is left out of the times"
