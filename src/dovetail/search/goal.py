"""What a search optimises, and how it walks the space of recipes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from dovetail.core.outcome import CandidateRecord


class Strategy(StrEnum):
    """How the space is walked: ``race`` is the product, the others are what it is compared with."""

    RACE = "race"
    RANDOM = "random"
    EXHAUSTIVE = "exhaustive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What the search optimises.

    Attributes:
        objectives: of ``latency``, ``throughput``, ``size`` and ``memory``, the one that decides first.
        margin: permitted drop in the metric's unit; ``None`` when quality cannot be judged.
        certification_units: independent units that will certify.
        feasible: judges a record against the user's limits (``False`` when it surely breaks one).
    """

    objectives: tuple[str, ...] = ("latency",)
    margin: float | None = None
    certification_units: int = 0
    feasible: Callable[[CandidateRecord], bool] = lambda record: True

    @property
    def timed(self) -> bool:
        """Whether speed is all that is wanted."""
        return set(self.objectives) <= {"latency", "throughput"}

    def cost(self, record: CandidateRecord, objective: str = "") -> float:
        """Lower is better; infinite for what has no number. By the first objective unless one is named."""
        objective = objective or self.objectives[0]
        if objective == "size":
            value = record.size_bytes
        elif objective == "memory":
            value = record.memory_bytes
        else:
            value = None if record.speedup is None else 1.0 / record.speedup.point
        return math.inf if value is None or not math.isfinite(value) else value
