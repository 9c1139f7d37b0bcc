"""Energy from counters that begin anew and from power that is sampled, over trees of files that change meanwhile."""

import itertools
import math
from pathlib import Path

import pytest
from fake_sysfs import JETSON, RAPL, tree

from dovetail.devices.meters import BatteryMeter, BoardMeter, RaplMeter
from dovetail.devices.sampling import Counter, Integral, PowerLog

PACKAGE = "sys/class/powercap/intel-rapl:0/energy_uj"
DRAM = "sys/class/powercap/intel-rapl:0:1/energy_uj"


def test_a_counter_goes_on_behind_its_end() -> None:
    counter = Counter(100.0)
    for value in (90.0, 95.0, 3.0, 3.0, 99.0, 1.0):
        counter.add(value)
    assert counter.total == 5 + 8 + 0 + 96 + 2


def test_a_counter_of_unknown_end_that_went_back_is_lost() -> None:
    counter = Counter(None)
    for value in (1.0, 5.0, 2.0):
        counter.add(value)
    assert math.isnan(counter.total)


def test_power_is_integrated_by_trapezoids() -> None:
    integral = Integral()
    for at_s, power_w in ((0.0, 10.0), (1.0, 20.0), (3.0, 20.0), (4.0, 0.0)):
        integral.add(at_s, power_w)
    assert integral.total == 15 + 40 + 10
    assert integral.samples == 4


def test_rapl_counts_packages_and_memory_but_neither_cores_nor_platform(tmp_path: Path) -> None:
    root = tree(tmp_path, RAPL)
    meter = RaplMeter(root)
    assert meter.missing() is None
    assert meter.scope == "package-0, package-0 dram"
    meter.start()
    (root / PACKAGE).write_text("1671150\n")  # behind its end: 0.328850 J up to there, 1.671150 J after
    (root / DRAM).write_text("5500000\n")
    (root / "sys/class/powercap/intel-rapl:0:0/energy_uj").write_text("900000000\n")
    (root / "sys/class/powercap/intel-rapl:1/energy_uj").write_text("900000000\n")
    found = meter.stop()
    assert found is not None and found.energy_j == pytest.approx(2.0 + 0.5, abs=1e-6)
    assert found.seconds > 0


def test_a_counter_that_is_gone_gives_no_energy(tmp_path: Path) -> None:
    root = tree(tmp_path, RAPL)
    meter = RaplMeter(root)
    meter.start()
    (root / PACKAGE).unlink()
    assert meter.stop() is None
    assert "cannot be read" in (meter.missing() or "")


def test_a_meter_can_be_used_again(tmp_path: Path) -> None:
    root = tree(tmp_path, RAPL)
    meter = RaplMeter(root)
    for _ in range(2):
        before = int((root / DRAM).read_text())
        meter.start()
        (root / DRAM).write_text(str(before + 3_000_000))
        found = meter.stop()
        assert found is not None and found.energy_j == pytest.approx(3.0)


def test_a_board_s_supply_is_the_rail_that_feeds_the_others(tmp_path: Path) -> None:
    ticks = itertools.count()
    meter = BoardMeter(tree(tmp_path, JETSON), clock=lambda: 0.25 * next(ticks))
    assert meter.missing() is None and meter.scope == "VDD_IN"
    meter.start()
    found = meter.stop()
    assert found is not None and found.power_w == pytest.approx(9.0)
    assert found.energy_j == pytest.approx(9.0 * found.seconds)


def test_rails_that_feed_a_part_are_no_supply(tmp_path: Path) -> None:
    parts = {path: text for path, text in JETSON.items() if "1_" not in path}
    assert BoardMeter(tree(tmp_path, parts)).missing() == BoardMeter.none


def test_meters_without_sensors_say_so(tmp_path: Path) -> None:
    for meter in (RaplMeter(tmp_path), BoardMeter(tmp_path), BatteryMeter(tmp_path)):
        assert meter.missing() == meter.none


def test_a_battery_that_charges_measures_nothing(tmp_path: Path) -> None:
    folder = "sys/class/power_supply/BAT0"
    root = tree(tmp_path, {f"{folder}/type": "Battery", f"{folder}/power_now": "7000000", f"{folder}/status": "Charging"})
    meter = BatteryMeter(root)
    assert "discharging" in (meter.missing() or "")
    (root / folder / "status").write_text("Discharging")
    assert meter.missing() is None
    meter.start()
    (root / folder / "status").write_text("Charging")
    assert meter.stop() is None


def test_a_power_log_keeps_what_is_told() -> None:
    answers = iter([100.0, None, 300.0])
    log = PowerLog(lambda: next(answers, 300.0), period_s=1e-3)
    with log:
        pass
    assert log.samples[0][1] == 100.0
    assert log.last(0.0) == log.samples[-1][1]
    assert PowerLog(lambda: None).last(1.0) is None
