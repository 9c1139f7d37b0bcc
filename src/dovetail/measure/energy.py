"""Energy of calls: blocks of calls under a meter, idle power measured before and told apart."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence

from dovetail.core.energy import EnergyReading, MeasuredEnergy
from dovetail.core.measurement import Interval
from dovetail.core.protocols import Meter

BLOCKS = 6
IDLE_BLOCKS = 4
IDLE_S = 0.5
CONFIDENCE = 0.95

Sleep = Callable[[float], None]


def idle_power(
    meter: Meter, *, blocks: int = IDLE_BLOCKS, seconds: float = IDLE_S, sleep: Sleep = time.sleep
) -> Interval | None:
    """Watts while nothing of ours runs, over blocks; ``None`` when the meter fails."""
    found: list[float] = []
    for _ in range(blocks):
        meter.start()
        sleep(seconds)
        reading = meter.stop()
        if reading is None:
            return None
        found.append(reading.power_w)
    return mean_interval(found)


def measured_energy(
    meter: Meter, block: Callable[[], int], samples_per_call: int, idle_w: Interval | None, *, blocks: int = BLOCKS
) -> MeasuredEnergy | None:
    """Energy of one sample.

    Args:
        meter: what sees the energy.
        block: runs calls for a while; returns how many.
        samples_per_call: the batch.
        idle_w: power when nothing runs; ``None`` when not known.
        blocks: at least 2, for an interval.

    Returns:
        ``None`` when the meter fails.
    """
    readings: list[tuple[EnergyReading, int]] = []
    for _ in range(blocks):
        meter.start()
        try:
            calls = block()
        finally:
            reading = meter.stop()
        if reading is None or calls < 1:
            return None
        readings.append((reading, calls * samples_per_call))
    per_sample = mean_interval([reading.energy_j / samples for reading, samples in readings])
    energy_j, seconds = (sum(getattr(reading, name) for reading, _ in readings) for name in ("energy_j", "seconds"))
    return MeasuredEnergy(
        per_sample_j=per_sample,
        above_idle_j=None if idle_w is None else _above(readings, idle_w),
        power_w=energy_j / seconds,
        idle_power_w=idle_w,
        blocks=blocks,
        calls=sum(samples for _, samples in readings) // samples_per_call,
        meter=meter.name,
        scope=meter.scope,
    )


def _above(readings: Sequence[tuple[EnergyReading, int]], idle_w: Interval) -> Interval:
    """What came on top of idle power. Errors of blocks and of the idle power are independent: their halves add in squares."""
    own = mean_interval([(r.energy_j - idle_w.point * r.seconds) / samples for r, samples in readings])
    seconds = statistics.fmean(r.seconds / samples for r, samples in readings)
    low = math.hypot(own.point - own.low, seconds * (idle_w.high - idle_w.point))
    high = math.hypot(own.high - own.point, seconds * (idle_w.point - idle_w.low))
    return Interval(point=own.point, low=own.point - low, high=own.point + high, confidence=CONFIDENCE)


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean with Student's interval; of a single value the ends are NaN, unknown.

    Raises:
        ValueError: no values.
    """
    from scipy import stats

    point = statistics.fmean(values)
    if len(values) < 2:
        return Interval(point=point, low=math.nan, high=math.nan, confidence=confidence)
    spread = statistics.stdev(values) / math.sqrt(len(values))
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * spread
    return Interval(point=point, low=point - half, high=point + half, confidence=confidence)
