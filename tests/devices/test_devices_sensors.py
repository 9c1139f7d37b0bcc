"""Sensors are read in their units; what cannot be read is unknown, with the reason."""

from pathlib import Path

import pytest
from fake_sysfs import JETSON, RAPL, tree

from dovetail.core.machine import Reading, Senses
from dovetail.devices.doctor import diagnose
from dovetail.devices.sensors import Sensor, sensors


def read(root: Path) -> dict[str, Reading]:
    return {reading.name: reading for sensor in sensors(root) if (reading := sensor.read())}


def test_no_files_no_sensors(tmp_path: Path) -> None:
    assert sensors(tmp_path) == ()


def test_rapl_zones_carry_their_package_and_their_end(tmp_path: Path) -> None:
    found = {sensor.name: sensor for sensor in sensors(tree(tmp_path, RAPL))}
    assert set(found) == {"package-0", "package-0 core", "package-0 dram", "psys"}
    assert found["package-0"].read().value == pytest.approx(262143.0)
    assert found["package-0"].wraps_at == pytest.approx(262143.32885)
    assert found["package-0 dram"].wraps_at == pytest.approx(65712.999613)


def test_a_rail_of_an_ina3221_is_voltage_times_current(tmp_path: Path) -> None:
    found = read(tree(tmp_path, JETSON))
    assert found["VDD_IN"].value == pytest.approx(9.0)
    assert found["VDD_SOC"].value == pytest.approx(4.992 * 0.6)
    assert found["cpu-thermal"].value == pytest.approx(48.312) and found["cpu-thermal"].senses is Senses.TEMPERATURE


def test_older_boards_tell_power_of_rails(tmp_path: Path) -> None:
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    files = {f"{folder}/rail_name_0": "POM_5V_IN\n", f"{folder}/in_power0_input": "2345\n"}
    assert read(tree(tmp_path, files))["POM_5V_IN"].value == pytest.approx(2.345)


def test_hwmon_tells_energy_power_and_temperature(tmp_path: Path) -> None:
    files = {
        "sys/class/hwmon/hwmon0/name": "k10temp\n",
        "sys/class/hwmon/hwmon0/temp1_input": "51250\n",
        "sys/class/hwmon/hwmon0/temp1_label": "Tctl\n",
        "sys/class/hwmon/hwmon1/name": "power_meter\n",
        "sys/class/hwmon/hwmon1/power1_average": "123000000\n",
        "sys/class/hwmon/hwmon2/name": "amd_energy\n",
        "sys/class/hwmon/hwmon2/energy1_input": "98000000\n",
        "sys/class/hwmon/hwmon2/energy1_label": "Esocket0\n",
    }
    found = read(tree(tmp_path, files))
    assert found["Tctl"].value == pytest.approx(51.25)
    assert found["power_meter power1"].value == pytest.approx(123.0)
    assert found["Esocket0"].value == pytest.approx(98.0) and found["Esocket0"].senses is Senses.ENERGY


@pytest.mark.parametrize(
    ("files", "watts"),
    [({"power_now": "8500000\n"}, 8.5), ({"voltage_now": "11400000\n", "current_now": "500000\n"}, 5.7)],
)
def test_a_battery_tells_power_while_it_discharges(tmp_path: Path, files: dict[str, str], watts: float) -> None:
    folder = "sys/class/power_supply/BAT0"
    root = tree(tmp_path, {f"{folder}/{name}": text for name, text in {"type": "Battery\n", **files}.items()})
    (root / folder / "status").write_text("Discharging\n")
    assert read(root)["BAT0"].value == pytest.approx(watts)
    (root / folder / "status").write_text("Charging\n")
    assert read(root)["BAT0"].value is None and "charging" in read(root)["BAT0"].reason


def test_a_mouse_s_battery_is_not_the_machine_s(tmp_path: Path) -> None:
    folder = "sys/class/power_supply/hidpp_battery_0"
    files = {f"{folder}/type": "Battery\n", f"{folder}/scope": "Device\n", f"{folder}/power_now": "1\n"}
    assert sensors(tree(tmp_path, files)) == ()


def test_what_is_no_number_is_unknown(tmp_path: Path) -> None:
    root = tree(tmp_path, {**RAPL, "sys/class/powercap/intel-rapl:0/energy_uj": "oops\n"})
    found = read(root)["package-0"]
    assert found.value is None and "not a number" in found.reason


class Forbidden(type(Path())):  # type: ignore[misc]
    """A file of somebody else: root, who runs these tests in places, may read all others."""

    def read_text(self, *arguments: object, **options: object) -> str:
        raise PermissionError(13, "Permission denied", str(self))


def test_a_counter_that_may_not_be_read_is_unknown_with_the_way_out() -> None:
    path = Forbidden("/sys/class/powercap/intel-rapl:0/energy_uj")
    found = Sensor(name="package-0", driver="rapl", senses=Senses.ENERGY, files=(path,), scale=1e-6).read()
    assert found.value is None
    assert "permission denied" in found.reason and "chmod" in found.reason


def test_a_reading_without_value_and_reason_does_not_exist() -> None:
    with pytest.raises(ValueError, match="reason"):
        Reading(name="x", driver="rapl", senses=Senses.ENERGY, value=None)


def test_the_doctor_says_whether_energy_can_be_measured(tmp_path: Path) -> None:
    def energy(root: Path) -> tuple[str, str]:
        check = next(check for check in diagnose(root=root) if check.name == "energy")
        return check.status, check.detail

    assert energy(tmp_path / "none") == ("missing", "unknown: the kernel tells no sensor of energy or power")
    status, detail = energy(tree(tmp_path / "rapl", RAPL))
    assert status == "ok" and "package-0 (rapl)" in detail
    broken = tree(tmp_path / "broken", {**RAPL, "sys/class/powercap/intel-rapl:0/energy_uj": ""})
    assert energy(broken)[0] == "ok"  # the others are told


def test_the_doctor_warns_of_a_slow_governor(tmp_path: Path) -> None:
    def governor(files: dict[str, str], name: str) -> tuple[str, str]:
        check = next(check for check in diagnose(root=tree(tmp_path / name, files)) if check.name == "clock governor")
        return check.status, check.detail

    file = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    assert governor({file: "powersave\n"}, "slow")[0] == "warning"
    assert governor({file: "performance\n"}, "fast") == ("ok", "performance")
    assert governor({file: "powersave\n", "sys/devices/system/cpu/intel_pstate/status": "active\n"}, "pstate")[0] == "ok"
    assert "unknown" in governor({}, "none")[1]
