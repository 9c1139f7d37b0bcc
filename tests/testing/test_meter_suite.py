"""The package's meters hold what every meter must, over sensors that move on."""

import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from dovetail.core.protocols import Meter
from dovetail.devices.meters import BoardMeter, RaplMeter
from dovetail.testing.meter_suite import MeterConformance

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def sysfs(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if isinstance(request.instance, MeterConformance):
        request.instance.root = tmp_path  # type: ignore[attr-defined]


class TestRapl(MeterConformance):
    root: Path

    def meter(self) -> RaplMeter:
        zone = self.root / "sys/class/powercap/intel-rapl:0"
        zone.mkdir(parents=True, exist_ok=True)
        for name, text in (("name", "package-0"), ("energy_uj", "1000000"), ("max_energy_range_uj", "1500000")):
            (zone / name).write_text(text)
        self.counter = zone / "energy_uj"
        return RaplMeter(self.root)

    def draw(self) -> None:
        """400 mJ more, past the counter's end every few times."""
        self.counter.write_text(str((int(self.counter.read_text()) + 400_000) % 1_500_000))


class TestBoard(MeterConformance):
    root: Path

    def meter(self) -> BoardMeter:
        folder = self.root / "sys/class/hwmon/hwmon0"
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("name", "ina219"), ("power1_input", "3200000")):
            (folder / name).write_text(text)
        return BoardMeter(self.root)


def test_meters_are_registered_under_their_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    registered = project["entry-points"]["dovetail.meters"]
    assert set(registered) == {"rapl", "board", "battery"}
    for name, place in registered.items():
        module, _, attribute = place.partition(":")
        found = getattr(import_module(module), attribute)
        assert issubclass(found, Meter) and found.name == name
