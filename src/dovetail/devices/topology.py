"""How the processor is built and clocked, as the kernel tells it; every reader takes the file system's root."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from dovetail.core.machine import Cache, Limits, NumaNode, Topology
from dovetail.devices.cgroup import cpu_quota, memory_limit_bytes, read_text

_CPUS = "sys/devices/system/cpu"
_NODES = "sys/devices/system/node"
_UNITS = {"": 1.0, "K": 2.0**10, "M": 2.0**20, "G": 2.0**30}


def topology(root: Path) -> Topology:
    """Reads ``sys/devices/system``; fields that are not there stay unknown.

    Args:
        root: where ``proc`` and ``sys`` are mounted.
    """
    folders = _processors(root)
    cores = {place for folder in folders if (place := _place(folder))}
    threads = [len(listed) for folder in folders if (listed := _siblings(folder))]
    return Topology(
        processors=len(folders) or None,
        cores=len(cores) or None,
        threads_per_core=max(threads, default=None),
        sockets=len({socket for socket, _ in cores}) or None,
        numa=tuple(_nodes(root)),
        caches=tuple(_caches(folders[:1])),
        governor=_words(folders, "cpufreq/scaling_governor"),
        least_hz=_kilohertz(folders, "cpufreq/cpuinfo_min_freq", min),
        most_hz=_kilohertz(folders, "cpufreq/cpuinfo_max_freq", max),
        boost=_boost(root),
    )


def limits(root: Path) -> Limits:
    """What control groups leave to this process."""
    groups = root / "sys/fs/cgroup"
    second = any((groups / part / "cgroup.controllers").exists() for part in ("", "unified"))
    first = any((groups / part).is_dir() for part in ("cpu", "memory"))
    # A host may mount both; then the controllers that limit lie in version 1.
    version = 1 if first else 2 if second else None
    return Limits(version=version, cores=cpu_quota(root), memory_bytes=memory_limit_bytes(root))


def listed(text: str | None) -> list[int]:
    """Numbers of a kernel list: ``0-2,5`` → 0, 1, 2, 5."""
    numbers: list[int] = []
    for part in filter(None, (text or "").split(",")):
        low, _, high = part.partition("-")
        numbers.extend(range(int(low), int(high or low) + 1))
    return numbers


def _processors(root: Path) -> list[Path]:
    """Folders of the logical processors that are online, in order."""
    found = [folder for folder in (root / _CPUS).glob("cpu[0-9]*") if folder.name[3:].isdigit()]
    online = listed(read_text(root / _CPUS / "online"))
    kept = [folder for folder in found if not online or int(folder.name[3:]) in online]
    return sorted(kept, key=lambda folder: int(folder.name[3:]))


def _place(folder: Path) -> tuple[str, str] | None:
    """Package and core of a logical processor."""
    socket, core = (read_text(folder / "topology" / name) for name in ("physical_package_id", "core_id"))
    return None if socket is None or core is None else (socket, core)


def _siblings(folder: Path) -> list[int]:
    """Logical processors of the same core, itself included."""
    return listed(read_text(folder / "topology/thread_siblings_list"))


def _nodes(root: Path) -> Iterable[NumaNode]:
    folders = [folder for folder in (root / _NODES).glob("node[0-9]*") if folder.name[4:].isdigit()]
    for folder in sorted(folders, key=lambda folder: int(folder.name[4:])):
        found = re.search(r"MemTotal:\s*(\d+) kB", read_text(folder / "meminfo") or "")
        yield NumaNode(
            number=int(folder.name[4:]),
            processors=len(listed(read_text(folder / "cpulist"))),
            memory_bytes=float(found[1]) * 1024 if found else None,
        )


def _caches(folders: Iterable[Path]) -> Iterable[Cache]:
    for folder in folders:
        for entry in sorted((folder / "cache").glob("index[0-9]*")):
            level, use, size = (read_text(entry / name) or "" for name in ("level", "type", "size"))
            found = re.fullmatch(r"(\d+)([KMG]?)", size)
            if level and found:
                shared = len(listed(read_text(entry / "shared_cpu_list")))
                suffix = {"Data": "d", "Instruction": "i"}.get(use, "")
                yield Cache(
                    name=f"L{level}{suffix}", size_bytes=float(found[1]) * _UNITS[found[2]], shared_by=shared or None
                )


def _words(folders: Iterable[Path], name: str) -> str | None:
    found = dict.fromkeys(text for folder in folders if (text := read_text(folder / name)))
    return ", ".join(found) or None


def _kilohertz(folders: Iterable[Path], name: str, choose: Callable[[list[float]], float]) -> float | None:
    clocks = [float(text) * 1e3 for folder in folders if (text := read_text(folder / name)) and text.isdigit()]
    return choose(clocks) if clocks else None


def _boost(root: Path) -> bool | None:
    """``cpufreq/boost`` of AMD and Arm, ``intel_pstate/no_turbo`` of Intel."""
    allowed = read_text(root / _CPUS / "cpufreq/boost")
    if allowed in ("0", "1"):
        return allowed == "1"
    forbidden = read_text(root / _CPUS / "intel_pstate/no_turbo")
    return forbidden == "0" if forbidden in ("0", "1") else None
