"""Energy of inferences: measured where a meter can be read, unknown with the reason where not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dovetail.core.energy import EnergyReading, MeasuredEnergy
from dovetail.core.measurement import Interval
from dovetail.core.protocols import Meter, Model
from dovetail.core.recipe import Recipe
from dovetail.devices.meters import RaplMeter
from dovetail.measure import energy
from dovetail.measure.arena import Conditions, Contestant
from dovetail.pipeline import metering
from dovetail.report.phrases import energy_words
from dovetail.report.progress import SilentProgress


class Steady(Meter):
    """Sees 2 J in every block, whatever runs, and 1 W while nothing does."""

    name = "steady"
    scope = "a box"

    def __init__(self) -> None:
        self.blocks = 0

    def missing(self) -> None:
        return None

    def start(self) -> None:
        self.blocks += 1

    def stop(self) -> EnergyReading:
        idle = self.blocks <= energy.IDLE_BLOCKS
        return EnergyReading(energy_j=1.0 if idle else 2.0, seconds=1.0)


@pytest.fixture
def contestant(digits: Path) -> Contestant:
    return Contestant(recipe=Recipe(runtime="null"), model=Model(path=digits / "digits.onnx"))


def test_without_a_sensor_nothing_runs_and_the_reason_is_told(
    contestant: Contestant, conditions: Conditions, tmp_path: Path
) -> None:
    found = metering.energies([contestant], conditions, SilentProgress(), [RaplMeter(tmp_path)])
    assert found.by_key == {}
    assert found.note == "unknown, no sensor: rapl: no RAPL counter under sys/class/powercap"
    assert not conditions.logs.exists()
    assert metering.energies([contestant], conditions, SilentProgress(), []).note == "unknown, no sensor: no meter is installed"


def test_energy_of_a_sample_is_what_the_meter_saw_over_the_calls(
    contestant: Contestant, conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metering, "IDLE_S", 0.0)
    monkeypatch.setattr(metering, "BLOCK_S", 0.01)
    meter = Steady()
    found = metering.energies([contestant], conditions, SilentProgress(), [meter])
    one = found.by_key[contestant.key]
    assert one.blocks == energy.BLOCKS and one.calls >= 2 * energy.BLOCKS
    assert one.idle_power_w is not None and one.idle_power_w.point == pytest.approx(1.0)
    assert one.power_w == pytest.approx(2.0)
    assert one.above_idle_j is not None and one.above_idle_j.point == pytest.approx(one.per_sample_j.point / 2)
    assert "measured with steady (a box)" in found.note and "idle power 1 W" in found.note


def test_a_model_that_does_not_run_has_no_energy(
    contestant: Contestant, conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metering, "IDLE_S", 0.0)
    broken = replace(contestant, model=Model(path=Path("nowhere.onnx")))
    assert metering.energies([broken], conditions, SilentProgress(), [Steady()]).by_key == {}


def test_the_first_meter_that_can_be_read_is_taken(tmp_path: Path) -> None:
    steady = Steady()
    assert metering.usable([RaplMeter(tmp_path), steady]) == (steady, "")


def test_words() -> None:
    per = Interval(point=0.0123, low=0.0121, high=0.0125)
    found = MeasuredEnergy(
        per_sample_j=per, above_idle_j=Interval(point=0.0081, low=0.0079, high=0.0083), power_w=20.0, idle_power_w=per,
        blocks=6, calls=600, meter="rapl", scope="package-0",
    )  # fmt: skip
    assert energy_words(found) == "12.3 mJ a sample (12.1 mJ to 12.5 mJ), 8.1 mJ of it above idle (7.9 mJ to 8.3 mJ)"
    assert energy_words(replace(found, above_idle_j=None)) == "12.3 mJ a sample (12.1 mJ to 12.5 mJ)"


def test_a_fit_says_how_energy_was_measured_or_why_not(fitted: Path) -> None:
    note = json.loads((fitted / "result.json").read_text())["energy_note"]
    assert note.startswith(("measured with", "unknown, no sensor: ")) or note == metering.NO_TIME
