"""What a language model is served on and how: one device's facts and the server's settings, one element a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.core.device import Device, Fact
from dovetail.core.errors import InputError

Floats = NDArray[np.float64]

_SLOWEST_LINK = 32e9
"""Bytes per second, one direction, of what connects devices of which no link is known: PCIe 4.0 x16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Facts of one device, each ``[n]``.

    Attributes:
        bandwidth_bytes_per_s: of its memory.
        capacity_bytes: of its memory; infinite where unknown.
        peak_flop_per_s: for the type that weights are multiplied in.
        peak16_flop_per_s: for 16-bit floats.
        link_bytes_per_s: out of one device to all others at once, one direction.
    """

    bandwidth_bytes_per_s: Floats
    capacity_bytes: Floats
    peak_flop_per_s: Floats
    peak16_flop_per_s: Floats
    link_bytes_per_s: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a model is stored, cut and asked, each ``[n]``.

    Attributes:
        devices: over which every layer is cut (tensor or expert parallel).
        stages: of layers one after the other, each of that many devices.
        replicated: every device has all of the attention and takes its share of the sequences (attention data parallel).
        concurrency: requests in the server at any time.
        prompt: tokens of a request.
        output: tokens it is answered with.
        common_bytes: of one weight outside experts; ``expert_bytes`` of one in them; ``cache_bytes`` of one key or value.
    """

    devices: Floats
    stages: Floats
    replicated: NDArray[np.bool_]
    concurrency: Floats
    prompt: Floats
    output: Floats
    common_bytes: Floats
    expert_bytes: Floats
    cache_bytes: Floats


def machine(devices: Sequence[Device], dtypes: Sequence[str]) -> Machine:
    """The facts of the given devices in their order.

    Args:
        devices: one a prediction.
        dtypes: of :data:`dovetail.core.device.DTYPES`: what weights are multiplied in.

    Raises:
        InputError: a device lacks a bandwidth, or a peak for the type or a wider one.
    """
    known: dict[tuple[str, str], int] = {}
    rows: list[tuple[float, ...]] = []
    for device, dtype in zip(devices, dtypes, strict=True):
        if (device.name, dtype) not in known:
            known[device.name, dtype] = len(rows)
            rows.append(_facts(device, dtype))
    pick = np.array([known[device.name, dtype] for device, dtype in zip(devices, dtypes, strict=True)], dtype=np.intp)
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)[pick]
    names = ("bandwidth_bytes_per_s", "capacity_bytes", "peak_flop_per_s", "peak16_flop_per_s", "link_bytes_per_s")
    return Machine(**{name: table[:, column] for column, name in enumerate(names)})


def _facts(device: Device, dtype: str) -> tuple[float, ...]:
    if device.bandwidth_bytes_per_s is None:
        raise InputError(
            f"the memory bandwidth of {device.name} is unknown", hint="decoding is bound by it; add it to the device"
        )
    link = device.link
    rate = link and (link.all_bytes_per_s or link.pair_bytes_per_s)
    return (
        device.bandwidth_bytes_per_s.value,
        device.capacity_bytes.value if device.capacity_bytes else np.inf,
        peak(device, dtype),
        peak(device, "fp16"),
        rate.value if rate else _SLOWEST_LINK,
    )


_WIDER = {
    "int4": ("int4", "fp8", "int8", "fp16", "bf16", "fp32"),
    "fp8": ("fp8", "int8", "fp16", "bf16", "fp32"),
    "int8": ("int8", "fp8", "fp16", "bf16", "fp32"),
    "fp16": ("fp16", "bf16", "fp32"),
    "bf16": ("bf16", "fp16", "fp32"),
}
"""Type → types whose peak stands for its own, the first known."""


def peak(device: Device, dtype: str) -> float:
    """FLOP/s that a device reaches at most in a type or, where that is unknown, in the next wider one.

    Raises:
        InputError: none is known.
    """
    found: list[Fact] = [device.peak_flop_per_s[name] for name in _WIDER[dtype] if name in device.peak_flop_per_s]
    if not found:
        raise InputError(f"no peak of {device.name} is known for {dtype} or a wider type", hint="add one to the device")
    return found[0].value
