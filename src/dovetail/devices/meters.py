"""Meters of what the processor or the whole board draws, from the kernel's sensors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from dovetail.core.energy import EnergyReading
from dovetail.core.machine import Senses
from dovetail.core.protocols import Meter
from dovetail.devices.probe import ROOT
from dovetail.devices.sampling import Counter, Integral, Sampler
from dovetail.devices.sensors import BATTERY, IIO, RAPL, Sensor, sensors

COUNTER_PERIOD_S = 1.0
"""RAPL's counters turn over after 65 kJ at the earliest: two minutes at 500 W."""
POWER_PERIOD_S = 0.1
_BOARDS = frozenset({"ina219", "ina226", "ina238", "ina260", "ina3221", IIO, "power_meter"})
"""Drivers of parts that measure a supply. Other drivers tell what a graphics card, a disk or a network card draws."""
_WHOLE = ("VDD_IN", "POM_5V_IN", "SYS_5V0", "VDD_5V_IN")
"""Rails that feed a whole module, as boards call them; the others feed parts of it."""

Clock = Callable[[], float]


class _SensorMeter(Meter):
    """What meters of sensors have in common.

    Args:
        root: where ``sys`` is mounted.
        clock: seconds, never going back.
    """

    none: ClassVar[str]
    """Said where there is no such sensor."""

    def __init__(self, root: Path = ROOT, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._chosen = tuple(self._choose(sensors(root)))
        self._failed = False
        self._started_s = 0.0
        self._sampler: Sampler | None = None

    @property
    def scope(self) -> str:
        """What it sees."""
        return ", ".join(sensor.name for sensor in self._chosen)

    def missing(self) -> str | None:
        """``None`` where it can be read."""
        if not self._chosen:
            return self.none
        return next((reading.reason for s in self._chosen if (reading := s.read()).value is None), None)

    def _begin(self, action: Callable[[], None], period_s: float) -> None:
        self._failed = False
        self._started_s = self._clock()
        self._sampler = Sampler(action, period_s)
        self._sampler.start()

    def _end(self) -> float:
        """Stops sampling; seconds since it began."""
        assert self._sampler is not None, "a meter is started before it is stopped"
        self._sampler.stop()
        self._sampler = None
        return self._clock() - self._started_s

    def _values(self) -> list[float]:
        """Of all sensors; empty when one of them fails."""
        values = [reading.value for sensor in self._chosen if (reading := sensor.read()).value is not None]
        self._failed |= len(values) < len(self._chosen)
        return [] if self._failed else values

    def _choose(self, found: Sequence[Sensor]) -> Sequence[Sensor]:
        raise NotImplementedError


class RaplMeter(_SensorMeter):
    """Processor packages, and their memory where that is told apart (Intel's and AMD's running average power limit)."""

    name = "rapl"
    preference = 10
    none = "no RAPL counter under sys/class/powercap"

    def start(self) -> None:
        """Reads the counters, and again every second."""
        self._counters = [Counter(sensor.wraps_at) for sensor in self._chosen]
        self._begin(self._count, COUNTER_PERIOD_S)

    def stop(self) -> EnergyReading | None:
        """Joules of all counters since the start; ``None`` when one of them could not be followed."""
        seconds = self._end()
        energy_j = sum(counter.total for counter in self._counters)
        return None if self._failed or math.isnan(energy_j) else EnergyReading(energy_j=energy_j, seconds=seconds)

    def _count(self) -> None:
        for counter, value in zip(self._counters, self._values(), strict=False):
            counter.add(value)

    def _choose(self, found: Sequence[Sensor]) -> Sequence[Sensor]:
        """Packages hold cores and uncore; memory is a zone of its own, and the platform (psys) holds all of them."""
        zones = [s for s in found if s.driver == RAPL]
        return [s for s in zones if s.name.startswith("package") and s.name.rpartition(" ")[2] not in ("core", "uncore")]


class _PowerMeter(_SensorMeter):
    """Integrates power that is sampled ten times a second."""

    def start(self) -> None:
        """Samples from now on."""
        self._integral, self._last_s = Integral(), 0.0
        self._begin(self._sample, POWER_PERIOD_S)

    def stop(self) -> EnergyReading | None:
        """Joules since the start; ``None`` when a reading failed."""
        self._end()
        seconds = self._last_s - self._started_s
        if self._failed or self._integral.samples < 2 or seconds <= 0:
            return None
        return EnergyReading(energy_j=self._integral.total, seconds=seconds)

    def _sample(self) -> None:
        if values := self._values():
            self._last_s = self._clock()
            if self._integral.samples == 0:
                self._started_s = self._last_s
            self._integral.add(self._last_s, sum(values))


class BoardMeter(_PowerMeter):
    """The supply of a board or module that has a part which measures it (INA3221 on Jetson, ACPI power meters)."""

    name = "board"
    preference = 20
    none = "no power sensor of a board under sys/class/hwmon or sys/bus/i2c"

    def _choose(self, found: Sequence[Sensor]) -> Sequence[Sensor]:
        rails = [s for s in found if s.senses is Senses.POWER and s.driver in _BOARDS]
        whole = [s for s in rails if s.name in _WHOLE]
        single = [s for s in rails if s.driver not in ("ina3221", IIO)]
        return (whole or single)[:1]


class BatteryMeter(_PowerMeter):
    """What a machine without mains takes from its batteries, screen and all."""

    name = "battery"
    preference = 30
    none = "no battery under sys/class/power_supply"

    def _choose(self, found: Sequence[Sensor]) -> Sequence[Sensor]:
        return [s for s in found if s.driver == BATTERY]
