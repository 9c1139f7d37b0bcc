"""What is known of a piece of hardware. Every number carries its source; what nobody stated is absent, never zero."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum

from dovetail.core.source import Source

DTYPES = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "int4")
"""Types of peaks, widest first. ``int4`` stands for 4-bit integers and floats alike."""

STORED_BYTES = {"fp64": 8.0, "fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}
"""Bytes that one element takes in memory."""


class Kind(StrEnum):
    """What a device is."""

    CPU = "cpu"
    GPU = "gpu"
    TPU = "tpu"
    FPGA = "fpga"
    ASIC = "asic"
    NPU = "npu"
    EDGE = "edge"
    MCU = "mcu"


DEPLOYMENT = {
    1: "install a package",
    2: "a driver and a framework built for it",
    3: "export the model and compile it with the vendor's compiler",
    4: "a fixed toolchain: quantised, only its operators",
    5: "design hardware, or a closed service",
}
"""What it takes to get a model onto a device; explained in ``docs/devices.md``."""
LEAST_DEPLOYMENT = {Kind.NPU: 3, Kind.FPGA: 4, Kind.MCU: 4}
"""Levels that a kind has at least: a library that runs on a processor as it is still needs a compiler there."""
IDLE_SHARE = (0.25, 0.05, 0.6)
"""Idle power over the maximum where it is not known: value and ends of a range (assumed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One number about a device, in the SI unit that its holder's name states, and where it comes from."""

    value: float
    source: Source

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or self.value <= 0:
            raise ValueError(f"a number of a device is finite and above zero, not {self.value}; leave out what is unknown")
        if not self.source.ref:
            raise ValueError(f"the number {self.value:g} names no source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """One memory tier, the fastest that holds data from call to call first.

    Attributes:
        name: ``HBM``, ``GDDR``, ``DRAM``, ``SRAM``; ``memory`` when the kind is not stated.
    """

    name: str
    capacity_bytes: Fact | None = None
    bandwidth_bytes_per_s: Fact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A connection to devices of the same kind or to the host, one direction.

    Attributes:
        name: ``NVLink4``, ``PCIe4x16``.
        pair_bytes_per_s: between two neighbours alone.
        all_bytes_per_s: out of one device when it talks to all its neighbours at once.
    """

    name: str
    pair_bytes_per_s: Fact | None = None
    all_bytes_per_s: Fact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One piece of hardware.

    Attributes:
        name: unique in a catalogue.
        peak_flop_per_s: type of :data:`DTYPES` → dense peak; a multiply-add counts as 2, integers alike.
        memory: tiers; the first is the one that weights and activations stream from.
        power_w: what it draws at most by its maker's word (TDP, board power).
        idle_power_w: what it draws when nothing runs.
        launch_s: time from one operator's end to the next one's start that no computation hides, where measured.
        link: to its like; ``host_link`` to the machine around it.
        price_usd: to buy one; ``price_usd_per_h`` to rent one.
        software: what runs on it, as the stacks call themselves.
        deployment: what it takes to get a model onto it, 1 (install a package) to 5 (design hardware); the scale is in
            ``docs/devices.md``.
        cores: independent processors that one model can be spread over.
    """

    name: str
    vendor: str
    kind: Kind
    year: int | None = None
    peak_flop_per_s: Mapping[str, Fact] = field(default_factory=dict)
    memory: tuple[Memory, ...] = ()
    power_w: Fact | None = None
    idle_power_w: Fact | None = None
    launch_s: Fact | None = None
    link: Link | None = None
    host_link: Link | None = None
    price_usd: Fact | None = None
    price_usd_per_h: Fact | None = None
    software: tuple[str, ...] = ()
    deployment: Fact | None = None
    cores: Fact | None = None
    aliases: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = set(self.peak_flop_per_s) - set(DTYPES)
        if unknown:
            raise ValueError(f"{self.name}: no such type of peak: {', '.join(sorted(unknown))}; known: {', '.join(DTYPES)}")
        bare = [name for name, number in self.numbers() if not isinstance(number, Fact)]
        if bare:
            raise TypeError(f"{self.name}: {', '.join(bare)} carries no source")

    @property
    def capacity_bytes(self) -> Fact | None:
        """Of the first memory tier."""
        return self.memory[0].capacity_bytes if self.memory else None

    @property
    def bandwidth_bytes_per_s(self) -> Fact | None:
        """Of the first memory tier."""
        return self.memory[0].bandwidth_bytes_per_s if self.memory else None

    def numbers(self) -> Iterator[tuple[str, Fact]]:
        """Name and fact of every number that is known, in the order of the fields."""
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "peak_flop_per_s":
                yield from ((f"peak_flop_per_s.{dtype}", value[dtype]) for dtype in DTYPES if dtype in value)
            elif isinstance(value, Link):
                yield from _inside(item.name, value)
            elif item.name == "memory":
                for tier in value:
                    yield from _inside(f"memory.{tier.name}", tier)
            elif value is not None and item.name not in _WORDS:
                yield item.name, value


_WORDS = frozenset({"name", "vendor", "kind", "year", "software", "aliases", "notes"})


def _inside(prefix: str, holder: Memory | Link) -> Iterator[tuple[str, Fact]]:
    for item in fields(holder):
        value = getattr(holder, item.name)
        if item.name != "name" and value is not None:
            yield f"{prefix}.{item.name}", value
