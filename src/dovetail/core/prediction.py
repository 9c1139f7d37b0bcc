"""What is predicted of a model on a device. Never evidence; what cannot be told is ``None``, never zero."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dovetail.core.constraint import Answer
from dovetail.core.estimate import Estimate


class Binds(StrEnum):
    """What a call is limited by."""

    COMPUTE = "compute"
    BANDWIDTH = "memory bandwidth"
    OVERHEAD = "per-operator overhead"
    MEMORY = "memory size"
    LINK = "link"
    INPUT = "input"


@dataclass(frozen=True, slots=True, kw_only=True)
class PerOp:
    """Times of the operators, summed to the latency before what is known of whole models corrects it.

    Attributes:
        names: of the operators.
        time_s: of each, seconds a call.
        binds: limit of each.
    """

    names: tuple[str, ...]
    time_s: tuple[float, ...]
    binds: tuple[Binds, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One model on one device.

    Attributes:
        device: its name.
        precision: type that it computes in, of :data:`dovetail.core.device.DTYPES`; empty when it has none that does.
        batch: samples a call.
        latency_s: of a call.
        throughput_per_s: samples a second when calls follow each other.
        memory_bytes: weights, activations and what a runtime takes beside them.
        fits: whether that much memory is there; ``fits_reason`` says why or why not.
        energy_j: of one sample.
        cost_usd_per_million: of a million samples.
        binds: what limits it; ``None`` when no time can be told.
        model: what told the time, in words; empty when none can be told.
        notes: what was assumed, and why what is missing is missing.
    """

    device: str
    precision: str
    batch: int
    latency_s: Estimate | None
    throughput_per_s: Estimate | None
    memory_bytes: Estimate | None
    fits: Answer
    fits_reason: str
    energy_j: Estimate | None
    cost_usd_per_million: Estimate | None
    binds: Binds | None
    model: str = ""
    per_op: PerOp | None = None
    notes: tuple[str, ...] = ()
