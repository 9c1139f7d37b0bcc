"""How a model is to be run, and what is told by those who know a kind of device better than its data sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dovetail.core.device import DTYPES, Device
from dovetail.core.errors import InputError
from dovetail.core.prediction import Binds, PerOp
from dovetail.core.source import Source
from dovetail.predict.cost import HOURS
from dovetail.predict.op_table import OpTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a model is run.

    Attributes:
        precision: type to compute in; ``None`` for the model's own, or the nearest that a device has.
        batch: samples a call.
        threads: of a processor; ``None`` for all its cores.
        input_per_s: samples a second that the pipeline before the model delivers; ``None`` when that is no limit.
        life_h: hours in use over which a purchase price is spread.
        eager: on a GPU, PyTorch operator by operator; compiled otherwise.
    """

    precision: str | None = None
    batch: int = 1
    threads: int | None = None
    input_per_s: float | None = None
    life_h: float = HOURS
    eager: bool = False

    def __post_init__(self) -> None:
        if self.precision is not None and self.precision not in DTYPES:
            raise InputError(f"{self.precision!r} is no precision", hint=f"one of: {', '.join(DTYPES)}")
        for name in ("batch", "threads", "input_per_s", "life_h"):
            value = getattr(self, name)
            if value is not None and (not math.isfinite(value) or value <= 0):
                raise InputError(f"{name} is above zero, not {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A value and its 90 % interval."""

    value: float
    low: float
    high: float

    def inverse(self, factor: float = 1.0) -> Band:
        """``factor`` over it: seconds to a rate."""
        return Band(value=factor / self.value, low=factor / self.high, high=factor / self.low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a specialist says.

    Attributes:
        precision: that the device computes in.
        seconds: of one sample when samples follow each other.
        latency_s: of a call; ``None`` where only rates are known.
        binds: what limits it.
        source: of the estimate.
        energy_j: of one sample; ``None`` leaves it to power and time.
        streams: whether it holds the weights that exceed its memory elsewhere, so that it runs in any case.
        note: said beside it.
        model: which one told it, in words.
        sure: whether the ends of the intervals come from errors; otherwise they are assumed.
        per_op: times of the operators, where the model adds them up; called when they are wanted.
    """

    precision: str
    seconds: Band
    latency_s: Band | None
    binds: Binds
    source: Source
    energy_j: Band | None = None
    streams: bool = False
    note: str = ""
    model: str = "a fitted model"
    sure: bool = True
    per_op: Callable[[], PerOp] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """Why a specialist that knows a device does not tell a workload on it.

    Attributes:
        model: its name, in words.
        reason: a clause about the workload or the setting.
    """

    model: str
    reason: str


class Specialist(Protocol):
    """Predicts the devices that it knows, by a model fitted to measurements of whole networks."""

    def knows(self, device: Device) -> bool:
        """Whether the device is of its kind."""
        ...

    def tell(self, table: OpTable, devices: Sequence[Device], setting: Setting) -> Sequence[Told | Declined | None]:
        """What it says of a workload on devices that it knows; where it does not, the next one that knows them is asked."""
        ...
