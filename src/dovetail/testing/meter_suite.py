"""What every meter of energy must hold. Subclass :class:`MeterConformance` in your tests and say how yours is made."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod

from dovetail.core.protocols import Meter


class MeterConformance(ABC):
    """Tests of a meter that can be read where the tests run."""

    @abstractmethod
    def meter(self) -> Meter:
        """A fresh one."""

    def draw(self) -> None:
        """Something that takes energy; meters of a replay move it on here."""
        time.sleep(0.05)

    def test_it_can_be_read_and_says_what_it_sees(self) -> None:
        """It has a name, a scope, and nothing is missing."""
        meter = self.meter()
        assert meter.name and meter.scope
        assert meter.missing() is None

    def test_energy_is_positive_and_lasts_as_long_as_the_block(self) -> None:
        """Joules and seconds are finite; seconds do not exceed what passed."""
        meter = self.meter()
        started = time.perf_counter()
        meter.start()
        self.draw()
        reading = meter.stop()
        passed = time.perf_counter() - started
        assert reading is not None
        assert math.isfinite(reading.energy_j) and reading.energy_j > 0
        assert 0 < reading.seconds <= passed

    def test_blocks_do_not_add_up(self) -> None:
        """A second block begins at nothing: it takes less than a hundred times the first."""
        meter, found = self.meter(), []
        for _ in range(2):
            meter.start()
            self.draw()
            reading = meter.stop()
            assert reading is not None
            found.append(reading.energy_j)
        assert found[1] < 100 * found[0]
