"""Energy of a sample from blocks under a meter, with real arithmetic over a meter that replays."""

import math

import pytest

from dovetail.core.energy import EnergyReading
from dovetail.core.measurement import Interval
from dovetail.core.protocols import Meter
from dovetail.measure.energy import idle_power, mean_interval, measured_energy


class Replay(Meter):
    """Gives readings one after the other."""

    name = "replay"
    scope = "a box"

    def __init__(self, *readings: tuple[float, float] | None) -> None:
        self._readings = iter(readings)

    def missing(self) -> None:
        return None

    def start(self) -> None:
        pass

    def stop(self) -> EnergyReading | None:
        reading = next(self._readings)
        return None if reading is None else EnergyReading(energy_j=reading[0], seconds=reading[1])


def test_idle_power_is_a_mean_over_blocks() -> None:
    slept: list[float] = []
    found = idle_power(Replay((5.0, 0.5), (6.0, 0.5), (7.0, 0.5)), blocks=3, sleep=slept.append)
    assert found is not None and found.point == pytest.approx(12.0)
    # Student's t for two degrees of freedom is 4.3027; the powers 10, 12 and 14 have a standard error of 2/√3.
    assert found.high - found.point == pytest.approx(4.3027 * 2 / math.sqrt(3), rel=1e-4)
    assert slept == [0.5] * 3
    assert idle_power(Replay((5.0, 0.5), None), blocks=2, sleep=slept.append) is None


def test_energy_of_a_sample_and_what_is_above_idle() -> None:
    meter = Replay((30.0, 1.0), (32.0, 1.0), (34.0, 1.0))
    idle = Interval(point=10.0, low=9.0, high=11.0)
    found = measured_energy(meter, lambda: 50, 2, idle, blocks=3)
    assert found is not None
    assert found.per_sample_j.point == pytest.approx(0.32)
    assert found.power_w == pytest.approx(32.0)
    assert (found.blocks, found.calls, found.meter, found.scope) == (3, 150, "replay", "a box")
    above = found.above_idle_j
    assert above is not None and above.point == pytest.approx(0.22)
    own = 4.3027 * 0.02 / math.sqrt(3)
    assert above.point - above.low == pytest.approx(math.hypot(own, 0.01), rel=1e-4)


def test_blocks_of_different_length_count_by_their_own_samples() -> None:
    calls = iter([10, 20])
    found = measured_energy(Replay((1.0, 0.1), (4.0, 0.2)), lambda: next(calls), 1, None, blocks=2)
    assert found is not None and found.per_sample_j.point == pytest.approx((0.1 + 0.2) / 2)
    assert found.above_idle_j is None and found.idle_power_w is None


@pytest.mark.parametrize("readings", [(None,), ((1.0, 1.0), None)])
def test_a_meter_that_fails_gives_nothing(readings: tuple[tuple[float, float] | None, ...]) -> None:
    assert measured_energy(Replay(*readings), lambda: 1, 1, None, blocks=2) is None


def test_the_meter_is_stopped_when_the_block_fails() -> None:
    meter = Replay((1.0, 1.0))

    def block() -> int:
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError):
        measured_energy(meter, block, 1, None)
    with pytest.raises(StopIteration):
        meter.stop()


def test_one_value_has_no_interval() -> None:
    assert math.isnan(mean_interval([3.0]).low) and mean_interval([3.0]).point == 3.0
