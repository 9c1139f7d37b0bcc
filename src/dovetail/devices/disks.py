"""Block devices as the kernel lists them."""

from __future__ import annotations

import re
from pathlib import Path

from dovetail.core.machine import Disk
from dovetail.devices.cgroup import read_text

_SECTOR_BYTES = 512
"""Unit of ``/sys/block/*/size``, whatever the device's own sectors are (Documentation/ABI/stable/sysfs-block)."""
_NO_DISKS = re.compile(r"(loop|ram|zram|sr|fd|md|dm-)\d*")
"""Devices that lie in memory, on other devices, or take media."""

_VIRTUAL = ("vd", "xvd")
"""Disks of virtual machines: what lies behind them the kernel does not know, and says that they rotate."""


def disks(root: Path) -> tuple[Disk, ...]:
    """Those that hold data, in order of their names; empty when the kernel lists none.

    Args:
        root: where ``sys`` is mounted.
    """
    folders = [folder for folder in (root / "sys/block").glob("*") if not _NO_DISKS.fullmatch(folder.name)]
    return tuple(_disk(folder) for folder in sorted(folders))


def _disk(folder: Path) -> Disk:
    sectors, rotates = read_text(folder / "size"), read_text(folder / "queue/rotational")
    return Disk(
        name=folder.name,
        model=read_text(folder / "device/model") or "",
        size_bytes=float(sectors) * _SECTOR_BYTES if sectors and sectors.isdigit() and sectors != "0" else None,
        rotates=rotates == "1" if rotates in ("0", "1") and not folder.name.startswith(_VIRTUAL) else None,
    )
