"""This machine as a device of the catalogue: what its kernel says, and nothing that only a calibration can tell."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from dovetail.core.device import Device, Fact, Kind, Memory
from dovetail.core.source import Source, SourceKind
from dovetail.devices.catalogue.deployment import deployment
from dovetail.devices.cgroup import read_text
from dovetail.devices.probe import ROOT, environment

_VENDORS = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD", "0x41": "Arm", "0x61": "Apple", "0x51": "Qualcomm"}
_CACHES = "sys/devices/system/cpu/cpu0/cache"
_RUNTIMES = ("onnxruntime", "openvino", "ai-edge-litert", "torch")
_VENDOR_LINE = re.compile(r"^(?:vendor_id|CPU implementer)\s*:\s*(\S+)", re.MULTILINE)


def this_machine(root: Path = ROOT) -> Device:
    """The processor and memory that this process may use; peaks, bandwidths and power are unknown until calibrated.

    Args:
        root: where ``proc`` and ``sys`` are mounted.
    """
    here = environment(root)
    software = tuple(name for name in _RUNTIMES if name in here.versions)
    memory = None if math.isnan(here.memory_bytes) else _said(here.memory_bytes, "proc/meminfo and the control group's limit")
    return Device(
        name=here.cpu,
        vendor=_vendor(root),
        kind=Kind.CPU,
        memory=(Memory(name="DRAM", capacity_bytes=memory), *_caches(root)),
        software=software,
        deployment=deployment(Kind.CPU, software),
        cores=_said(float(here.cores), "the process's affinity mask and the control group's limit"),
        notes=(f"instruction sets: {', '.join(here.isa) or 'unknown'}",),
    )


def _said(value: float, ref: str) -> Fact:
    return Fact(value=value, source=Source(kind=SourceKind.QUOTED, ref=f"this machine: {ref}"))


def _vendor(root: Path) -> str:
    found = _VENDOR_LINE.search(read_text(root / "proc/cpuinfo") or "")
    return _VENDORS.get(found[1], found[1]) if found else ""


def _caches(root: Path) -> Iterator[Memory]:
    """Caches for data as the first core sees them, the largest first."""
    for folder in sorted((root / _CACHES).glob("index[0-9]*"), reverse=True):
        level, use, size = (read_text(folder / name) or "" for name in ("level", "type", "size"))
        found = re.fullmatch(r"(\d+)K", size)
        if found and use in ("Data", "Unified"):
            name = f"L{level}d" if use == "Data" else f"L{level}"
            yield Memory(name=name, capacity_bytes=_said(float(found[1]) * 1024, f"{_CACHES}/{folder.name}"))
