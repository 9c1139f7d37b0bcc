"""Says what this machine and this installation can and cannot do."""

from __future__ import annotations

import ctypes.util
import os
import platform
import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dovetail.core import units
from dovetail.core.machine import Senses
from dovetail.core.measurement import Environment
from dovetail.core.verification import Check
from dovetail.devices.cgroup import cpu_quota, memory_limit_bytes, read_text
from dovetail.devices.probe import ROOT, environment
from dovetail.devices.sensors import RAPL, sensors
from dovetail.devices.topology import topology

_RUNTIMES = (
    ("onnxruntime", "onnxruntime"),
    ("openvino", "openvino"),
    ("ai_edge_litert", "ai-edge-litert"),
    ("torch", "'dovetail[torch]'"),
)
_TOOLS = (("onnx", "onnx"), ("nncf", "nncf"), ("ai-edge-litert", "ai-edge-litert"))
_EXTRAS = (("pillow", "'dovetail[images]'"), ("tokenizers", "'dovetail[text]'"))
_FEW_BYTES = 2e9


def diagnose(cache: Path | None = None, root: Path = ROOT) -> tuple[Check, ...]:
    """Looks at everything; imports no library and starts no process.

    A check is ``ok``, ``warning`` where something works with a loss, or ``missing``.

    Args:
        cache: folder that results are cached in; it need not exist. Without it only the current folder's disk is looked at.
        root: where ``proc`` and ``sys`` are mounted.
    """
    here = environment(root)
    return (
        _python(),
        *(_package(name, pip, "missing") for name, pip in (*_RUNTIMES, *_TOOLS)),
        *(_package(name, pip, "warning") for name, pip in _EXTRAS),
        *_instruction_sets(here),
        _compiler(),
        _gpu(root),
        *_energy(root),
        _governor(root),
        _cores(here, root),
        _memory(here, root),
        _free_disk(cache or Path.cwd()),
        *((_cache(cache),) if cache else ()),
    )


def _python() -> Check:
    return Check(name="Python", status="ok", detail=f"{platform.python_version()} at {sys.executable}")


def _package(name: str, pip: str, absent: str) -> Check:
    try:
        return Check(name=name, status="ok", detail=version(name))
    except PackageNotFoundError:
        return Check(name=name, status=absent, detail="not installed", hint=f"pip install {pip}")


def _instruction_sets(here: Environment) -> tuple[Check, ...]:
    if not here.isa:
        unknown = Check(name="instruction sets", status="warning", detail="unknown: /proc/cpuinfo lists no known flag")
        return (unknown,)
    return (
        _needs(
            here,
            "int8 arithmetic",
            ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp"),
            lack="no dot-product instruction: int8 gains little, and settings that cannot saturate are used",
        ),
        _needs(
            here,
            "bfloat16 arithmetic",
            ("amx_bf16", "avx512_bf16", "bf16"),
            lack="no bfloat16 instruction: bfloat16 is not tried",
        ),
        _needs(
            here,
            "vectors",
            ("avx512f", "avx2", "sve2", "sve", "asimd"),
            lack="neither AVX2 nor Advanced SIMD: everything is slow",
        ),
    )


def _needs(here: Environment, name: str, flags: tuple[str, ...], lack: str) -> Check:
    found = [flag for flag in flags if flag in here.isa]
    if found:
        return Check(name=name, status="ok", detail=", ".join(found))
    return Check(name=name, status="warning", detail=lack)


def _compiler() -> Check:
    candidates = (os.environ.get("CXX"), "g++", "clang++", "cl")
    found = next((path for name in candidates if name and (path := shutil.which(name))), None)
    if found:
        return Check(name="C++ compiler", status="ok", detail=found)
    return Check(
        name="C++ compiler",
        status="warning",
        detail="none found: torch.compile is not tried",
        hint="install g++ or clang++, or set CXX",
    )


def _gpu(root: Path) -> Check:
    """Driver and management library of NVIDIA; GPUs are described and calibrated, models run on the processor."""
    driver = read_text(root / "proc/driver/nvidia/version")
    library, tool = ctypes.util.find_library("nvidia-ml"), shutil.which("nvidia-smi")
    if driver:
        seen = [part for part, found in (("NVML", library), ("nvidia-smi", tool)) if found]
        detail = f"{driver.splitlines()[0]}; {' and '.join(seen) or 'neither NVML nor nvidia-smi'} found"
        package = _package("nvidia-ml-py", "'dovetail[gpu]'", "missing")
        hint = f"to describe and calibrate it: {package.hint}" if package.hint else ""
        return Check(name="NVIDIA driver", status="ok" if seen else "warning", detail=detail, hint=hint)
    return Check(name="NVIDIA driver", status="missing", detail="no driver is loaded: only the processor is used")


def _energy(root: Path) -> tuple[Check, ...]:
    """Whether what an inference draws can be measured; each sensor that may not be read with the reason."""
    readings = [sensor.read() for sensor in sensors(root) if sensor.senses is not Senses.TEMPERATURE]
    told = [f"{reading.name} ({reading.driver})" for reading in readings if reading.value is not None]
    denied = [f"{reading.name}: {reading.reason}" for reading in readings if reading.value is None]
    if told:
        return (Check(name="energy", status="ok", detail=", ".join(told)),)
    if not denied:
        detail = "unknown: the kernel tells no sensor of energy or power"
        return (Check(name="energy", status="missing", detail=detail),)
    hint = "let your user read RAPL's counters: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
    rapl = any(reading.driver == RAPL for reading in readings)
    return (Check(name="energy", status="missing", detail=f"unknown: {denied[0]}", hint=hint if rapl else ""),)


def _governor(root: Path) -> Check:
    found = topology(root).governor
    if found is None:
        return Check(name="clock governor", status="ok", detail="unknown: the kernel does not tell one, as in virtual machines")
    if found == "powersave" and (root / "sys/devices/system/cpu/intel_pstate").is_dir():
        return Check(name="clock governor", status="ok", detail="powersave of intel_pstate, which follows the load")
    slow = "powersave" in found
    hint = "the clock stays low: sudo cpupower frequency-set -g performance" if slow else ""
    return Check(name="clock governor", status="warning" if slow else "ok", detail=found, hint=hint)


def _cores(here: Environment, root: Path) -> Check:
    quota = cpu_quota(root)
    limit = f", control group allows {quota:g}" if quota is not None else ", no control-group limit"
    detail = f"{here.cores} usable of {os.cpu_count() or '?'}{limit}"
    if quota is not None and quota < here.cores + 1 and quota != round(quota):
        return Check(name="cores", status="warning", detail=detail, hint="a whole number of cores gives steadier times")
    return Check(name="cores", status="ok", detail=detail)


def _memory(here: Environment, root: Path) -> Check:
    limit = memory_limit_bytes(root)
    free = _available_bytes(root)
    parts = [f"{units.size(here.memory_bytes)} usable", f"{units.size(free)} available"]
    parts.append(f"control group allows {units.size(limit)}" if limit is not None else "no control-group limit")
    scarce = free is not None and free < _FEW_BYTES
    hint = f"free some memory: a search needs about {units.size(_FEW_BYTES)} beside the model" if scarce else ""
    return Check(name="memory", status="warning" if scarce else "ok", detail=", ".join(parts), hint=hint)


def _available_bytes(root: Path) -> float | None:
    lines = (read_text(root / "proc/meminfo") or "").splitlines()
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _free_disk(cache: Path) -> Check:
    free = float(shutil.disk_usage(_existing(cache)).free)
    if free >= _FEW_BYTES:
        return Check(name="disk", status="ok", detail=f"{units.size(free)} free at {cache}")
    return Check(name="disk", status="warning", detail=f"{units.size(free)} free at {cache}", hint="free some space")


def _cache(cache: Path) -> Check:
    try:
        with tempfile.TemporaryFile(dir=_existing(cache)):
            return Check(name="cache", status="ok", detail=f"{cache} is writable")
    except OSError as error:
        detail = f"{cache} is not writable: {error.strerror}"
        return Check(name="cache", status="missing", detail=detail, hint="choose another folder or change its permissions")


def _existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
