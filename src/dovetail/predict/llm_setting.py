"""What a language model is served on and how: one device's facts and the server's settings, one element a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dovetail.core.device import Device, Fact
from dovetail.core.errors import InputError

Floats = NDArray[np.float64]

_ASSUMED_LINK = 32e9
"""Bytes per second, one direction, of what connects devices of which neither a link nor the host's is known (assumed: PCIe 4.0
x16)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Facts of one device, each ``[n]``.

    Attributes:
        bandwidth_bytes_per_s: of its memory.
        capacity_bytes: of its memory; infinite where unknown.
        peak_flop_per_s: for the type that weights are multiplied in.
        peak16_flop_per_s: for 16-bit floats.
        pair_bytes_per_s: from one device to one other, one direction.
        all_bytes_per_s: out of one device to more than one at once.
    """

    bandwidth_bytes_per_s: Floats
    capacity_bytes: Floats
    peak_flop_per_s: Floats
    peak16_flop_per_s: Floats
    pair_bytes_per_s: Floats
    all_bytes_per_s: Floats

    def link_bytes_per_s(self, group: Floats) -> Floats:
        """Out of one device of a group, ``[n]``: all its links, as far as they lead to others of the group.

        Two devices without a switch share one link: 64 GB/s of the 448 GB/s of an MI300X.
        """
        several = np.minimum(self.all_bytes_per_s, (group - 1) * self.pair_bytes_per_s)
        return np.where(group > 2, several, self.pair_bytes_per_s)


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
    table = np.array(rows, dtype=np.float64).reshape(-1, len(fields(Machine)))[pick]
    return Machine(**{item.name: table[:, column] for column, item in enumerate(fields(Machine))})


def _facts(device: Device, dtype: str) -> tuple[float, ...]:
    if device.bandwidth_bytes_per_s is None:
        raise InputError(
            f"the memory bandwidth of {device.name} is unknown", hint="decoding is bound by it; add it to the device"
        )
    pair, whole = _links(device)
    return (
        device.bandwidth_bytes_per_s.value,
        device.capacity_bytes.value if device.capacity_bytes else np.inf,
        peak(device, dtype),
        peak(device, "fp16"),
        pair,
        whole,
    )


def _links(device: Device) -> tuple[float, float]:
    """Rates to one other and to several at once. Without a link, devices talk over the host's; a bridge joins two alone."""
    pair, whole = _stated(device)
    around, _ = _around(device)
    if pair is None:
        return (whole, whole) if whole else (around, around)
    return pair, whole or (around if _bridged(device) else pair)


def _stated(device: Device) -> tuple[float | None, float | None]:
    """What is known of the link between devices: to one other, and to several at once."""
    link = device.link
    if link is None:
        return None, None
    pair, whole = link.pair_bytes_per_s, link.all_bytes_per_s
    return pair.value if pair else None, whole.value if whole else None


def _bridged(device: Device) -> bool:
    return device.link is not None and "bridge" in device.link.name.lower()


def _around(device: Device) -> tuple[float, str]:
    """Rate of the way over the host, and which that is."""
    host = device.host_link and device.host_link.pair_bytes_per_s
    return (host.value, "the host's link") if host else (_ASSUMED_LINK, "PCIe 4.0 x16")


def link_note(device: Device, group: float) -> str:
    """What is assumed of the link between the devices that share a model; empty for nothing."""
    pair, whole = _stated(device)
    if group <= 1 or (pair and (whole or group <= 2 or not _bridged(device))):
        return ""
    if whole:
        return "its rate to one other is not known: taken as that to all"
    rate, over = _around(device)
    why = "its bridge joins two" if pair else "no link between several of it is known"
    return f"{why}: they are taken to talk over {over}, {rate / 1e9:g} GB/s (assumed)"


_STANDS_IN = {
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
    found: list[Fact] = [device.peak_flop_per_s[name] for name in _STANDS_IN[dtype] if name in device.peak_flop_per_s]
    if not found:
        raise InputError(f"no peak of {device.name} is known for {dtype} or a wider type", hint="add one to the device")
    return found[0].value
