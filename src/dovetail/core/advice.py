"""Which hardware suits a job, and why. What cannot be told is ``None``, and never counts as met."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dovetail.core.estimate import Estimate
from dovetail.core.prediction import Binds


class Standing(StrEnum):
    """Whether a requirement is met by what is known of an interval."""

    SURE = "sure yes"
    LIKELY = "likely yes"
    UNLIKELY = "likely no"
    NO = "sure no"
    UNKNOWN = "cannot tell"

    @property
    def excludes(self) -> bool:
        """Whether a device is out by it."""
        return self in (Standing.UNLIKELY, Standing.NO)


def at_most(found: Estimate | None, bound: float) -> Standing:
    """Sure when even the high end is within the bound, likely when the value is; the other way round for no."""
    if found is None:
        return Standing.UNKNOWN
    if found.high <= bound:
        return Standing.SURE
    if found.value <= bound:
        return Standing.LIKELY
    return Standing.UNLIKELY if found.low <= bound else Standing.NO


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One requirement on one device.

    Attributes:
        requirement: key of the job file.
        standing: the answer.
        why: what was compared, or which number is missing.
    """

    requirement: str
    standing: Standing
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A number of devices of one kind that would do a job.

    Attributes:
        device: its name; ``kind`` what it is.
        precision: that the model computes in.
        devices: how many are needed.
        group: of them that share one copy of the model.
        count_by: what sets their number.
        latency_s: of a call; of language models between output tokens.
        first_token_s: of language models; ``None`` for others.
        throughput_per_s: of all devices.
        duration_s: of a training run; ``None`` for inference.
        memory_bytes: on each device.
        most_w: of all devices at their maximum.
        average_w: of all devices at the job's rate.
        usd_per_month: of all devices, electricity included where they are bought.
        usd_per_million: of a million units of work at the job's rate, at full use where the job names none.
        usd_total: of a training run.
        purchase_usd: of all devices.
        basis: ``rented``, ``bought`` or ``unknown``.
        binds: what limits the time of a call.
        deployment: 1 to 5, as in ``docs/devices.md``.
        judged: every requirement of the job.
        notes: what was assumed, and why what is missing is missing.
        front: no other option that meets the job is better in latency, cost and power at once.
    """

    device: str
    kind: str
    precision: str
    devices: Estimate | None
    group: int
    count_by: str
    latency_s: Estimate | None
    first_token_s: Estimate | None
    throughput_per_s: Estimate | None
    duration_s: Estimate | None
    memory_bytes: Estimate | None
    most_w: Estimate | None
    average_w: Estimate | None
    usd_per_month: Estimate | None
    usd_per_million: Estimate | None
    usd_total: Estimate | None
    purchase_usd: Estimate | None
    basis: str
    binds: Binds | None
    deployment: int | None
    judged: tuple[Judged, ...] = ()
    notes: tuple[str, ...] = ()
    front: bool = False

    @property
    def standing(self) -> Standing:
        """Of the whole: out by any requirement, else not to be told by any, else as sure as the least sure one."""
        found = {item.standing for item in self.judged}
        order = (Standing.NO, Standing.UNLIKELY, Standing.UNKNOWN, Standing.LIKELY)
        return next((standing for standing in order if standing in found), Standing.SURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of the model or of how it is run, predicted again.

    Attributes:
        device: that it was predicted on.
        what: the change.
        gain: time of a unit of work before over after; above 1 is faster.
        memory_gain: memory before over after; ``None`` when not known.
        binds_before: limit before; ``binds_after`` likewise.
        note: what it costs elsewhere.
    """

    device: str
    what: str
    gain: float
    memory_gain: float | None
    binds_before: Binds | None
    binds_after: Binds | None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The answer to a job.

    Attributes:
        job: its name.
        unit: what is counted: ``samples``, ``output tokens``, ``tokens``.
        prefer: what the list is ordered by.
        ranked: options that meet every requirement, the best first.
        unknown: options that nothing excludes, but that lack a number.
        excluded: options with a requirement that they do not meet.
        changes: design advice for the best.
        notes: assumptions about the job.
    """

    job: str
    unit: str
    prefer: str
    ranked: tuple[Option, ...]
    unknown: tuple[Option, ...]
    excluded: tuple[Option, ...]
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()

    def option(self, device: str) -> Option:
        """The option of that device.

        Raises:
            KeyError: there is none.
        """
        for item in (*self.ranked, *self.unknown, *self.excluded):
            if item.device == device:
                return item
        raise KeyError(device)
