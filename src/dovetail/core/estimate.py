"""A predicted number. Never evidence: a measurement is another type (:mod:`dovetail.core.measurement`)."""

from __future__ import annotations

from dataclasses import dataclass

from dovetail.core.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A prediction with its interval, in the SI unit that the holder's name states.

    Attributes:
        coverage: share of true values that the interval is made to hold; ``None`` where its ends are assumed, not derived from
            errors.
    """

    value: float
    low: float
    high: float
    source: Source
    coverage: float | None = 0.9

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"an estimate lies in its interval: {self.low} <= {self.value} <= {self.high} does not hold")


def joint_coverage(*found: Estimate | None) -> float | None:
    """What an interval made of the ends of others may state: the least of theirs, nothing where one of them states nothing."""
    stated = [item.coverage for item in found if item is not None]
    known = [coverage for coverage in stated if coverage is not None]
    return min(known) if known and len(known) == len(stated) else None
