"""Devices that the user typed: read from a folder of theirs, added to it after checks."""

from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dovetail.core.device import Device
from dovetail.core.errors import InputError, StorageError
from dovetail.core.source import Source, SourceKind
from dovetail.devices.catalogue.names import key
from dovetail.devices.catalogue.reader import Entry, entries, load
from dovetail.devices.consistency import Finding, findings

_TYPED = "typed"
"""Short name of the source that a user's unsourced numbers get on the way into the folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A device that was added: where to, and what looks odd about it."""

    device: Device
    path: Path
    findings: tuple[Finding, ...]


def user_folder() -> Path:
    """``$DOVETAIL_CONFIG``, else ``$XDG_CONFIG_HOME/dovetail``, else ``~/.config/dovetail``; in it, ``devices``.

    Not the cache: what somebody typed must outlive an emptied one.
    """
    chosen = os.environ.get("DOVETAIL_CONFIG")
    home = Path(chosen) if chosen else Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "dovetail"
    return home / "devices"


def user_entries(folder: Path) -> tuple[Entry, ...]:
    """The user's devices, by file name.

    Raises:
        InputError: a file is not as it should be.
    """
    return tuple(entry for path in sorted(folder.glob("*.yaml")) for entry in entries(load(path), path, _typed(path)))


def add(path: Path, folder: Path, known: Mapping[str, Device], *, force: bool = False) -> tuple[Added, ...]:
    """Checks the devices of a file, and puts each into the folder in a file of its own.

    Args:
        path: a catalogue file.
        folder: the user's.
        known: the catalogue so far.
        force: replace devices whose name or alias is there.

    Raises:
        InputError: the file is not as it should be, or a name is taken.
        StorageError: the folder cannot be written.
    """
    document = load(path)
    found = entries(document, path, _typed(path))
    names = [key(entry.device.name) for entry in found]
    for entry in found:
        if names.count(key(entry.device.name)) > 1:
            raise InputError(f"{entry.device.name!r} is in it twice", where=str(path))
        if not force:
            _refuse_taken(entry.device, known.values(), path)
    added = []
    for entry, raw in zip(found, document["devices"], strict=True):
        target = folder / f"{key(entry.device.name)}.yaml"
        _write(target, _stored(raw, document.get("sources") or {}, path))
        odd = findings(entry.device, entry.allowed)
        added.append(Added(device=entry.device, path=target, findings=odd))
    return tuple(added)


def _typed(path: Path) -> Source:
    return Source(kind=SourceKind.USER, ref=path.name)


def _refuse_taken(device: Device, known: Iterable[Device], path: Path) -> None:
    taken = {key(called): other.name for other in known for called in (other.name, *other.aliases)}
    for called in (device.name, *device.aliases):
        if key(called) in taken:
            what = f"{called!r} is {taken[key(called)]!r} in the catalogue"
            raise InputError(what, where=str(path), hint="choose another name, or add --force to replace it")


def _stored(raw: Mapping[str, Any], sources: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """One device with the sources of its file; numbers without one get the file's name and today's date."""
    if raw.get("source") is not None:
        return {"sources": dict(sources), "devices": [dict(raw)]}
    today = datetime.date.today().isoformat()
    typed = {_TYPED: {"ref": path.name, "kind": str(SourceKind.USER), "date": today}}
    return {"sources": {**sources, **typed}, "devices": [{**raw, "source": _TYPED}]}


def _write(target: Path, document: Mapping[str, Any]) -> None:
    """Writes beside the target and moves it there, so that no half of a file is ever read."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=target.parent, suffix=".part", delete=False, encoding="utf-8") as file:
            yaml.safe_dump(dict(document), file, sort_keys=False, allow_unicode=True)
        os.replace(file.name, target)
    except OSError as exc:
        raise StorageError(f"cannot be written: {exc.strerror}", where=str(exc.filename or target)) from exc
