"""What a probe finds of the machine beside its processor's numbers. What cannot be read is ``None``."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from dovetail.core.gpu import Gpu


class Senses(StrEnum):
    """What a sensor tells."""

    ENERGY = "energy"
    POWER = "power"
    TEMPERATURE = "temperature"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One sensor, read once.

    Attributes:
        name: of what is sensed (``package-0``, ``VDD_IN``).
        driver: that tells it (``rapl``, ``ina3221``, ``battery``, ``thermal``).
        senses: decides the unit of ``value``: joules since the counter last began, watts, or degrees Celsius.
        value: ``None`` when it cannot be read; ``reason`` says why.
        place: file that it is read from.
    """

    name: str
    driver: str
    senses: Senses
    value: float | None
    reason: str = ""
    place: str = ""

    def __post_init__(self) -> None:
        if self.value is None and not self.reason:
            raise ValueError(f"{self.name}: a value that is not known has a reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """One kind of cache.

    Attributes:
        name: ``L1d``, ``L1i``, ``L2``, ``L3``.
        size_bytes: of one of them.
        shared_by: logical processors that share one; ``None`` when not told.
    """

    name: str
    size_bytes: float
    shared_by: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaNode:
    """Processors with memory of their own.

    Attributes:
        number: as the kernel counts.
        processors: logical ones.
        memory_bytes: near them; ``None`` when not told.
    """

    number: int
    processors: int
    memory_bytes: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """How the processor is built and clocked; ``None`` or empty for what the kernel does not tell.

    Attributes:
        processors: logical ones that are online.
        cores: physical ones among them.
        threads_per_core: 2 with simultaneous multithreading, 1 without.
        sockets: packages.
        numa: nodes.
        caches: of the first processor, the nearest first.
        governor: that sets the clock; several names when the cores differ.
        least_hz: lowest clock that may be chosen; ``most_hz`` the highest.
        boost: whether clocks above the nominal one are allowed.
    """

    processors: int | None = None
    cores: int | None = None
    threads_per_core: int | None = None
    sockets: int | None = None
    numa: tuple[NumaNode, ...] = ()
    caches: tuple[Cache, ...] = ()
    governor: str | None = None
    least_hz: float | None = None
    most_hz: float | None = None
    boost: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What control groups leave to this process.

    Attributes:
        version: of the control groups, 1 or 2; ``None`` when none is mounted.
        cores: processors' worth of time; ``None`` without a limit.
        memory_bytes: ``None`` without a limit.
    """

    version: int | None = None
    cores: float | None = None
    memory_bytes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A block device.

    Attributes:
        name: ``nvme0n1``.
        model: as it calls itself, empty when it does not.
        size_bytes: ``None`` when not told.
        rotates: whether heads move; ``None`` when not told.
    """

    name: str
    model: str = ""
    size_bytes: float | None = None
    rotates: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """All that a probe finds.

    Attributes:
        gpus: NVIDIA's; ``None`` when that cannot be told, and ``gpus_reason`` says why.
        sensors: read once, those that cannot be read included.
    """

    topology: Topology
    limits: Limits
    disks: tuple[Disk, ...] = ()
    gpus: tuple[Gpu, ...] | None = None
    gpus_reason: str = ""
    sensors: tuple[Reading, ...] = field(default_factory=tuple)
