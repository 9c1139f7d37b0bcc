"""Energy that was measured, never predicted."""

from __future__ import annotations

from dataclasses import dataclass

from dovetail.core.measurement import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyReading:
    """What a meter saw between start and stop."""

    energy_j: float
    seconds: float

    @property
    def power_w(self) -> float:
        """Mean."""
        return self.energy_j / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredEnergy:
    """Energy of one sample, over blocks of calls.

    Attributes:
        per_sample_j: all that the meter saw, idle power included.
        above_idle_j: what came on top of the idle power; ``None`` when that was not measured.
        power_w: mean while calls ran.
        idle_power_w: mean before, when nothing ran; ``None`` when not measured.
        blocks: that the intervals rest on.
        calls: in all.
        meter: registry name.
        scope: what the meter sees.
    """

    per_sample_j: Interval
    above_idle_j: Interval | None
    power_w: float
    idle_power_w: Interval | None
    blocks: int
    calls: int
    meter: str
    scope: str
