"""Limits that control groups set on this process, version 1 and 2; every reader takes the file system's root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# A version-1 limit beyond this means "none": the kernel stores LONG_MAX rounded down to a page.
_NO_LIMIT_BYTES = 2**60


def read_text(path: Path) -> str | None:
    """The file's content without surrounding space, ``None`` when it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def cpu_quota(root: Path) -> float | None:
    """Processors' worth of time this process may use, ``None`` without a limit."""
    limits = [_quota_v2(read_text(folder / "cpu.max")) for folder in _folders(root, "")]
    for folder in _folders(root, "cpu"):
        limits.append(_quota_v1(read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us")))
    return min((limit for limit in limits if limit is not None), default=None)


def memory_limit_bytes(root: Path) -> float | None:
    """Memory this process may use, ``None`` without a limit."""
    texts = [read_text(folder / "memory.max") for folder in _folders(root, "")]
    texts += [read_text(folder / "memory.limit_in_bytes") for folder in _folders(root, "memory")]
    limits = (float(text) for text in texts if text and text.isdigit())
    return min((limit for limit in limits if limit < _NO_LIMIT_BYTES), default=None)


def throttled_s(root: Path) -> float | None:
    """Seconds for which the quota has stopped this process's group so far, ``None`` when the kernel does not say."""
    for controller in ("", "cpu"):
        for folder in _folders(root, controller):
            stat = dict(line.split() for line in (read_text(folder / "cpu.stat") or "").splitlines())
            if "throttled_usec" in stat:
                return float(stat["throttled_usec"]) * 1e-6
            if "throttled_time" in stat:
                return float(stat["throttled_time"]) * 1e-9
    return None


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The process's group and its ancestors; ``controller`` is empty for the unified hierarchy of version 2.

    Inside a container the path may name a group of the host that is not mounted here: then only the mount's top is read.
    """
    tops = [root / "sys/fs/cgroup" / controller] if controller else [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            for top in tops:
                group = top / path.lstrip("/")
                yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))
            return
    yield from tops


def _quota_v2(text: str | None) -> float | None:
    if not text or text.startswith("max"):
        return None
    quota, period = text.split()
    return float(quota) / float(period)


def _quota_v1(quota: str | None, period: str | None) -> float | None:
    if not quota or not period or int(quota) <= 0:
        return None
    return float(quota) / float(period)
