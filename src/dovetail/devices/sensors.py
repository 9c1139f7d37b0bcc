"""Energy, power and temperature as the kernel's drivers tell them; every reader takes the file system's root.

| where | what | unit of the file |
|---|---|---|
| ``sys/class/powercap/intel-rapl:*`` | energy of packages, cores, memory | µJ |
| ``sys/class/hwmon/hwmon*`` | energy, power, temperature; voltage × current of an INA3221 | µJ, µW, m°C, mV, mA |
| ``sys/bus/i2c/drivers/ina3221x`` | rails of older Jetson boards, by NVIDIA's kernels | mW |
| ``sys/class/power_supply`` | batteries | µW, µV, µA |
| ``sys/class/thermal`` | temperature | m°C |

The kernel documents them under Documentation/power/powercap, hwmon/sysfs-interface, ABI/testing/sysfs-class-power and
driver-api/thermal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dovetail.core.machine import Reading, Senses
from dovetail.devices.cgroup import read_text

RAPL, BATTERY, THERMAL, IIO = "rapl", "battery", "thermal", "ina3221x"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """Something that can be read again and again.

    Attributes:
        name: of what is sensed.
        driver: that tells it.
        senses: what; decides the unit: joules, watts, degrees Celsius.
        files: whose product it is.
        scale: of the product, to that unit.
        wraps_at: value at which a counter begins anew, in joules; ``None`` when not told.
        only_if: file and word without which the value means nothing, such as a battery's ``Discharging``.
    """

    name: str
    driver: str
    senses: Senses
    files: tuple[Path, ...]
    scale: float
    wraps_at: float | None = None
    only_if: tuple[Path, str] | None = None

    def read(self) -> Reading:
        """One value, or why there is none."""
        value, reason = self._value()
        return Reading(
            name=self.name,
            driver=self.driver,
            senses=self.senses,
            value=value,
            reason=reason,
            place=str(self.files[0]),
        )

    def _value(self) -> tuple[float | None, str]:
        if self.only_if is not None:
            path, word = self.only_if
            state = read_text(path)
            if state != word:
                return None, f"told only while {word.lower()}; now {(state or 'unknown').lower()}"
        product = self.scale
        for path in self.files:
            try:
                product *= float(path.read_text())
            except PermissionError:
                return None, _denied(path)
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else "not a number"
                return None, f"{path} cannot be read: {why}"
        return product, ""


def _denied(path: Path) -> str:
    """RAPL's counters are for root alone since they were found to leak secrets (CVE-2020-8694)."""
    hint = f"; sudo chmod a+r {path} allows it until the next start" if "powercap" in path.parts else ""
    return f"permission denied for {path}{hint}"


def sensors(root: Path) -> tuple[Sensor, ...]:
    """All that are there, energy counters first; values are read later.

    Args:
        root: where ``sys`` is mounted.
    """
    return (*_rapl(root), *_hwmon(root), *_iio(root), *_batteries(root), *_thermal(root))


def _rapl(root: Path) -> Iterator[Sensor]:
    """Zones and subzones; the same package told by memory-mapped registers too is left out."""
    for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        name, wraps = read_text(folder / "name"), read_text(folder / "max_energy_range_uj")
        if name and _there(folder / "energy_uj"):
            parent = read_text(folder.parent / folder.name.rpartition(":")[0] / "name")
            package = f"{parent} " if folder.name.count(":") > 1 and parent else ""
            yield Sensor(
                name=package + name,
                driver=RAPL,
                senses=Senses.ENERGY,
                files=(folder / "energy_uj",),
                scale=1e-6,
                wraps_at=float(wraps) * 1e-6 if wraps and wraps.isdigit() and wraps != "0" else None,
            )


_HWMON = {"energy": (Senses.ENERGY, 1e-6), "power": (Senses.POWER, 1e-6), "temp": (Senses.TEMPERATURE, 1e-3)}
"""Beginning of a file's name → what it holds, and its scale."""


def _hwmon(root: Path) -> Iterator[Sensor]:
    folders = sorted((root / "sys/class/hwmon").glob("hwmon*"), key=lambda folder: (len(folder.name), folder.name))
    for folder in folders:
        driver = read_text(folder / "name") or folder.name
        plain: list[Sensor] = []
        for kind, (senses, scale) in _HWMON.items():
            for number in _numbers(folder, rf"{kind}(\d+)_(?:input|average)"):
                chosen = next(p for p in _either(folder, f"{kind}{number}") if _there(p))
                label = read_text(folder / f"{kind}{number}_label") or f"{driver} {kind}{number}"
                plain.append(Sensor(name=label, driver=driver, senses=senses, files=(chosen,), scale=scale))
        yield from plain
        if not any(sensor.senses is Senses.POWER for sensor in plain):
            yield from _products(folder, driver)


def _either(folder: Path, name: str) -> tuple[Path, Path]:
    """The value now before its average."""
    return folder / f"{name}_input", folder / f"{name}_average"


def _products(folder: Path, driver: str) -> Iterator[Sensor]:
    """Voltage × current of a channel, where power is not told (INA3221)."""
    for number in _numbers(folder, r"curr(\d+)_input"):
        volts, amperes = folder / f"in{number}_input", folder / f"curr{number}_input"
        label = read_text(folder / f"in{number}_label")
        if _there(volts) and label:
            yield Sensor(name=label, driver=driver, senses=Senses.POWER, files=(volts, amperes), scale=1e-6)


def _iio(root: Path) -> Iterator[Sensor]:
    for folder in sorted((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*")):
        for number in _numbers(folder, r"in_power(\d+)_input"):
            label = read_text(folder / f"rail_name_{number}") or f"rail {number}"
            file = folder / f"in_power{number}_input"
            yield Sensor(name=label, driver=IIO, senses=Senses.POWER, files=(file,), scale=1e-3)


def _batteries(root: Path) -> Iterator[Sensor]:
    for folder in sorted((root / "sys/class/power_supply").glob("*")):
        if read_text(folder / "type") != "Battery" or read_text(folder / "scope") == "Device":
            continue
        direct, product = (folder / "power_now",), (folder / "voltage_now", folder / "current_now")
        for files, scale in ((direct, 1e-6), (product, 1e-12)):
            if all(map(_there, files)):
                yield Sensor(
                    name=folder.name,
                    driver=BATTERY,
                    senses=Senses.POWER,
                    files=files,
                    scale=scale,
                    only_if=(folder / "status", "Discharging"),
                )
                break


def _thermal(root: Path) -> Iterator[Sensor]:
    for folder in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        if _there(folder / "temp"):
            name = read_text(folder / "type") or folder.name
            yield Sensor(name=name, driver=THERMAL, senses=Senses.TEMPERATURE, files=(folder / "temp",), scale=1e-3)


def _numbers(folder: Path, pattern: str) -> list[int]:
    """Numbers of the channels whose files are there."""
    found = (re.fullmatch(pattern, path.name) for path in folder.glob("*"))
    return sorted({int(match[1]) for match in found if match})


def _there(path: Path) -> bool:
    """Whether a file exists, readable or not."""
    try:
        return path.exists()
    except OSError:
        return False
