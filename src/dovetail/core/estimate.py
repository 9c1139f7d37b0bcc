"""A predicted number. Never evidence: a measurement is another type (:mod:`dovetail.core.measurement`)."""

from __future__ import annotations

from dataclasses import dataclass

from dovetail.core.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A prediction with its interval, in the SI unit that the holder's name states."""

    value: float
    low: float
    high: float
    source: Source
    coverage: float = 0.9

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"an estimate lies in its interval: {self.low} <= {self.value} <= {self.high} does not hold")
