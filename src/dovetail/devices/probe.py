"""Describes this machine as far as it decides measurements. What cannot be read is unknown, never invented."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dovetail.core.measurement import Environment
from dovetail.core.recipe import digest
from dovetail.devices.cgroup import cpu_quota, memory_limit_bytes, read_text, throttled_s

ROOT = Path("/")

ISA_FLAGS = (
    "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni", "avx_vnni_int8", "avx512_bf16",
    "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme",
)  # fmt: skip
"""Flags of ``/proc/cpuinfo`` that decide which kernels a runtime picks, x86-64 first, then Arm."""

PACKAGES = ("dovetail", "numpy", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "openvino", "nncf", "ai-edge-litert", "torch")
"""Packages whose version can change a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """What can disturb a measurement, read at one moment; compare two readings. ``None`` where the kernel does not say.

    Attributes:
        steal_s: processor time that the hypervisor gave to others, since boot, summed over cores.
        throttled_s: time for which a control group's quota stopped this process's group.
        thermal_events: times that a core slowed down because it was hot, since boot.
        frequency_hz: mean clock of the cores now.
    """

    steal_s: float | None
    throttled_s: float | None
    thermal_events: int | None
    frequency_hz: float | None


def environment(root: Path = ROOT) -> Environment:
    """This machine, this process's share of it, and the installed libraries (read from metadata, none is imported).

    Args:
        root: where ``proc`` and ``sys`` are mounted.
    """
    info = _cpuinfo(root)
    flags = set((info.get("flags") or info.get("Features") or "").split())
    cpu = _cpu_name(info)
    isa = tuple(flag for flag in ISA_FLAGS if flag in flags)
    cores = usable_cores(root)
    memory_bytes = usable_memory_bytes(root)
    gib = None if math.isnan(memory_bytes) else round(memory_bytes / 2**30)
    return Environment(
        fingerprint=digest([cpu, isa, cores, gib])[:12],
        cpu=cpu,
        cores=cores,
        isa=isa,
        memory_bytes=memory_bytes,
        os=_os_name(root),
        python=platform.python_version(),
        versions=_versions(),
    )


def usable_cores(root: Path = ROOT) -> int:
    """Cores in the process's affinity mask, fewer under a control group's quota (rounded down, at least one)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def usable_memory_bytes(root: Path = ROOT) -> float:
    """Memory of the machine or of the process's control group, whichever is less; NaN when neither can be read."""
    total = next((_bytes(line) for line in _lines(root / "proc/meminfo") if line.startswith("MemTotal:")), math.inf)
    least = min(total, memory_limit_bytes(root) or math.inf)
    return least if math.isfinite(least) else math.nan


def disturbance(root: Path = ROOT) -> Disturbance:
    """Reads the counters once; cheap enough to do around every block of a measurement."""
    return Disturbance(
        steal_s=_steal_s(root),
        throttled_s=throttled_s(root),
        thermal_events=_thermal_events(root),
        frequency_hz=_frequency_hz(root),
    )


def _lines(path: Path) -> list[str]:
    return (read_text(path) or "").splitlines()


def _bytes(meminfo_line: str) -> float:
    return float(meminfo_line.split()[1]) * 1024


def _cpuinfo(root: Path) -> dict[str, str]:
    """Fields of the first processor."""
    fields: dict[str, str] = {}
    for line in _lines(root / "proc/cpuinfo"):
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields


def _cpu_name(info: dict[str, str]) -> str:
    if "model name" in info:
        return info["model name"]
    if "CPU part" in info:
        return f"Arm implementer {info.get('CPU implementer', '?')} part {info['CPU part']}"
    return platform.processor() or "unknown"


def _os_name(root: Path) -> str:
    release = dict(line.split("=", 1) for line in _lines(root / "etc/os-release") if "=" in line)
    distribution = release.get("PRETTY_NAME", "").strip('"')
    return ", ".join(part for part in (f"{platform.system()} {platform.release()}", distribution) if part)


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _steal_s(root: Path) -> float | None:
    """Eighth counter of the ``cpu`` line, in clock ticks (man 5 proc_stat)."""
    fields = next((line.split() for line in _lines(root / "proc/stat") if line.startswith("cpu ")), [])
    return float(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else None


def _thermal_events(root: Path) -> int | None:
    counters = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = [int(text) for text in map(read_text, counters) if text]
    return sum(counts) if counts else None


def _frequency_hz(root: Path) -> float | None:
    clocks = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    hertz = [float(text) * 1e3 for text in map(read_text, clocks) if text]
    if not hertz:
        hertz = [float(line.partition(":")[2]) * 1e6 for line in _lines(root / "proc/cpuinfo") if line.startswith("cpu MHz")]
    return sum(hertz) / len(hertz) if hertz else None
