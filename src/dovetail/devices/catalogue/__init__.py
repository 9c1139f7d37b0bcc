"""The hardware catalogue: data files of the package and of the user, every number with its source."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from dovetail.core.device import Device
from dovetail.core.source import Source, SourceKind
from dovetail.devices.catalogue.names import find, key
from dovetail.devices.catalogue.reader import Entry, entries, load
from dovetail.devices.catalogue.user import user_entries, user_folder

_FILES = Path(__file__).parent


@cache
def packaged() -> tuple[Entry, ...]:
    """The package's own devices, read once."""
    # A device without a source would be a fault of the file; the tests look for this reference.
    unsourced = Source(kind=SourceKind.ASSUMED, ref="no source given")
    return tuple(entry for path in sorted(_FILES.glob("*.yaml")) for entry in entries(load(path), path, unsourced))


def catalogue(folder: Path | None = None) -> Mapping[str, Device]:
    """Name → device: the package's, then the user's, which replace those of the same name.

    Args:
        folder: the user's devices; :func:`~dovetail.devices.catalogue.user.user_folder` by default.

    Raises:
        InputError: one of the user's files is not as it should be.
    """
    found = {key(entry.device.name): entry.device for entry in packaged()}
    for entry in user_entries(folder or user_folder()):
        found.pop(key(entry.device.name), None)
        found[key(entry.device.name)] = entry.device
    return {device.name: device for device in found.values()}


def device(name: str, folder: Path | None = None) -> Device:
    """The device that people call so; case, spaces and signs do not count.

    Raises:
        InputError: there is none (with the nearest names), or there are several (with all of them).
    """
    return find(name, catalogue(folder))
