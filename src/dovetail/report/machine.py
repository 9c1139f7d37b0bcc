"""Shows what a probe finds of this machine beside its processor's numbers. What is not known is shown so, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dovetail.core import units
from dovetail.core.calibration import Calibration, LeftOut
from dovetail.core.gpu import Gpu, GpuCalibration
from dovetail.core.machine import Disk, Machine, Reading, Senses, Topology
from dovetail.core.serial import encode
from dovetail.report.phrases import UNKNOWN, ascii_safe, clip, one_line

_LONGEST_REASON = 100
_RATES = {
    "memory_bytes_per_s": "memory, all threads",
    "memory_1_thread_bytes_per_s": "memory, one thread",
    "disk_read_bytes_per_s": "disk, read",
    "disk_write_bytes_per_s": "disk, written",
    "decode_bytes_per_s": "JPEG images, decoded",
    "normalize_bytes_per_s": "images, to normalised floats",
}
"""Names of measured rates → words; the others are peaks and stand with the device."""


def to_json(machine: Machine, calibration: Calibration | None) -> dict[str, Any]:
    """``machine``, and ``measured``: rates, each GPU's best, what a calibration lacks; SI units, ``null`` for unknown."""
    if calibration is None:
        return {"machine": encode(machine), "measured": None}
    gpus, left_out = list(map(_best, calibration.gpus)), encode(calibration.left_out)
    measured = {"rates": encode(calibration.rates), "gpus": gpus, "left_out": left_out}
    return {"machine": encode(machine), "measured": measured}


def render_machine(machine: Machine, calibration: Calibration | None, console: Console) -> None:
    """Topology, limits, disks, GPUs, sensors, and measured rates where there are some."""
    _section("Processor", _topology(machine.topology), console)
    _section("Control group", _limits(machine), console)
    _section("Disks", [(disk.name, _disk(disk)) for disk in machine.disks] or [("", UNKNOWN)], console)
    _section("GPUs", _gpus(machine), console)
    _section("Sensors", [_sensor(one) for one in machine.sensors] or [("", f"{UNKNOWN}: the kernel tells none")], console)
    if calibration is None:
        return
    rates = [(words, f"{units.size(calibration.rates[name])}/s") for name, words in _RATES.items() if name in calibration.rates]
    if rates:
        _section(f"Measured {calibration.date[:10]}", rates, console)
    if calibration.left_out:
        _section("Left out of the calibration", _left_out(calibration.left_out), console)
    for gpu in calibration.gpus:
        _section(f"Measured on {gpu.device}, {gpu.gpu.name}, {gpu.date[:10]}", _measured(gpu), console)


def _left_out(found: Sequence[LeftOut]) -> list[tuple[str, str]]:
    """Setting → how many probe networks it has no times of, by reason."""
    counted: dict[str, Counter[str]] = {}
    for one in found:
        counted.setdefault(one.setting, Counter())[clip(one.reason, _LONGEST_REASON)] += 1
    return [
        (setting, f"{reasons.total()} networks: " + "; ".join(f"{n} × {reason}" for reason, n in reasons.most_common()))
        for setting, reasons in counted.items()
    ]


def _section(title: str, rows: Iterable[tuple[str, str]], console: Console) -> None:
    console.print(Text(f"\n{title}", style="bold"))
    grid = Table.grid(padding=(0, 2))
    for head, words in rows:
        grid.add_row(_text(head, console, "dim"), _text(words, console))
    console.print(grid)


def _text(words: str, console: Console, style: str = "") -> Text:
    clean = one_line(words)
    return Text(ascii_safe(clean) if console.options.ascii_only else clean, style=style, overflow="fold")


def _topology(found: Topology) -> list[tuple[str, str]]:
    return [
        ("logical processors", _count(found.processors)),
        ("cores", _count(found.cores)),
        ("threads a core", _threads(found.threads_per_core)),
        ("sockets", _count(found.sockets)),
        ("NUMA nodes", _numa(found)),
        ("caches", ", ".join(map(_cache, found.caches)) or UNKNOWN),
        ("governor", found.governor or UNKNOWN),
        ("clock", f"{_hertz(found.least_hz)} to {_hertz(found.most_hz)}" if found.most_hz else UNKNOWN),
        ("boost", {None: UNKNOWN, True: "allowed", False: "off"}[found.boost]),
    ]


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


def _threads(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value} (SMT {'on' if value > 1 else 'off or none'})"


def _numa(found: Topology) -> str:
    nodes = [f"{node.number}: {node.processors} processors, {units.size(node.memory_bytes)}" for node in found.numa]
    return "; ".join(nodes) or UNKNOWN


def _cache(cache: Any) -> str:
    shared = f", shared by {cache.shared_by}" if cache.shared_by and cache.shared_by > 1 else ""
    return f"{cache.name} {units.size(cache.size_bytes)}{shared}"


def _hertz(value: float | None) -> str:
    return units.count(value, "Hz")


def _limits(machine: Machine) -> list[tuple[str, str]]:
    found = machine.limits
    if found.version is None and found.cores is None and found.memory_bytes is None:
        return [("version", UNKNOWN)]
    return [
        ("version", _count(found.version)),
        ("processors", "no limit" if found.cores is None else f"{found.cores:g}"),
        ("memory", "no limit" if found.memory_bytes is None else units.size(found.memory_bytes)),
    ]


def _disk(disk: Disk) -> str:
    kind = {None: "kind unknown", True: "rotates", False: "does not rotate"}[disk.rotates]
    return ", ".join(filter(None, (disk.model, units.size(disk.size_bytes), kind)))


def _gpus(machine: Machine) -> list[tuple[str, str]]:
    if machine.gpus is None:
        return [("", f"{UNKNOWN}: {machine.gpus_reason}")]
    return [(str(gpu.index), _gpu(gpu)) for gpu in machine.gpus] or [("", "none")]


def _gpu(gpu: Gpu) -> str:
    parts = [
        gpu.name,
        units.size(gpu.memory_bytes),
        f"driver {gpu.driver or UNKNOWN}",
        f"up to {_hertz(gpu.clock_hz)}",
        f"power limit {units.count(gpu.power_limit_w, 'W')}",
        f"draws {units.count(gpu.power_w, 'W')}",
        gpu.link or f"link {UNKNOWN}",
    ]
    return ", ".join(parts)


def _sensor(reading: Reading) -> tuple[str, str]:
    if reading.value is None:
        return reading.name, f"{reading.senses.value} {UNKNOWN}: {reading.reason}"
    if reading.senses is Senses.TEMPERATURE:
        return reading.name, f"{reading.value:.1f} °C ({reading.driver})"
    if reading.senses is Senses.POWER:
        return reading.name, f"{units.count(reading.value, 'W')} ({reading.driver})"
    return reading.name, f"energy counter ({reading.driver})"


def _best(found: GpuCalibration) -> dict[str, Any]:
    stream, link = found.best("copy", "triad"), found.best("to_device")
    return {
        "device": found.device,
        "name": found.gpu.name,
        "date": found.date,
        "flop_per_s": {dtype: row.flop_per_s for dtype, row in found.peaks().items()},
        "memory_bytes_per_s": None if stream is None else stream.bytes_per_s,
        "host_link_bytes_per_s": None if link is None else link.bytes_per_s,
        "launch_s": found.least_s("launch"),
        "idle_power_w": found.idle_power_w,
    }


def _measured(found: GpuCalibration) -> list[tuple[str, str]]:
    best = _best(found)
    rows = [(f"products, {dtype}", units.count(value, "FLOP/s")) for dtype, value in best["flop_per_s"].items()]
    drawn = [row.power_w for row in found.rows if row.power_w is not None]
    return [
        *rows,
        ("memory", _rate(best["memory_bytes_per_s"])),
        ("from the host", _rate(best["host_link_bytes_per_s"])),
        ("launch of an operator", units.time(best["launch_s"])),
        ("power, idle", units.count(found.idle_power_w, "W")),
        ("power, at work", f"{units.count(min(drawn), 'W')} to {units.count(max(drawn), 'W')}" if drawn else UNKNOWN),
    ]


def _rate(value: float | None) -> str:
    return UNKNOWN if value is None else f"{units.size(value)}/s"
