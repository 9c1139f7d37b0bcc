"""Limits a user sets, and the three answers to 'does it hold'."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Answer(StrEnum):
    """A missing number satisfies nothing: it is ``unknown``."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """``metric <= bound`` (``metric >= bound`` when ``at_least``), on a quantile where one is named.

    Attributes:
        metric: ``latency_s``, ``throughput_per_s``, ``memory_bytes``, ``size_bytes``.
        bound: in the unit of the metric's name.
        quantile: 0.99 for a p99 limit; ``None`` for the median.
    """

    metric: str
    bound: float
    quantile: float | None = None
    at_least: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.bound) or self.bound <= 0:
            raise ValueError(f"a limit on {self.metric} is a positive number, not {self.bound}")
        if self.quantile is not None and not 0 < self.quantile < 1:
            raise ValueError(f"a quantile lies between 0 and 1, not {self.quantile}")

    def satisfied_by(self, low: float | None, high: float | None) -> Answer:
        """Judges an interval: ``yes`` when all of it holds, ``no`` when none does, else ``unknown``.

        Args:
            low: lower end of what is known of the metric; ``None`` or NaN when nothing is.
            high: upper end.
        """
        if low is None or high is None or math.isnan(low) or math.isnan(high):
            return Answer.UNKNOWN
        if self.at_least:
            low, high = -high, -low
            bound = -self.bound
        else:
            bound = self.bound
        if high <= bound:
            return Answer.YES
        return Answer.NO if low > bound else Answer.UNKNOWN


class DropKind(StrEnum):
    """How a permitted quality drop is written."""

    ABSOLUTE = "absolute"
    RELATIVE = "relative"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxDrop:
    """The permitted loss of quality against the original: ``1pp`` absolute, ``1%`` relative, ``0.5`` in the metric's unit."""

    value: float
    kind: DropKind = DropKind.ABSOLUTE

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or self.value < 0:
            raise ValueError(f"a permitted drop is zero or more, not {self.value}")

    def margin(self, reference: float) -> float:
        """The drop in the metric's own unit, given the original's value; safe at zero and below."""
        return self.value * abs(reference) if self.kind is DropKind.RELATIVE else self.value

    def __str__(self) -> str:
        return f"{self.value * 100:g} %" if self.kind is DropKind.RELATIVE else f"{self.value:g}"
