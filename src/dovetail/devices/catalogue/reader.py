"""Reads catalogue files. Whatever is wrong with one is a single message that names the file, the line and the key."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dovetail.core.device import Device
from dovetail.core.errors import InputError
from dovetail.core.source import Source
from dovetail.devices.catalogue.convert import to_device
from dovetail.devices.catalogue.sheet import DeviceSheet, FileSheet

# Every value stays text, and the schema says what it is: three times as fast as YAML's guesses, and without their traps
# (`no` as a name, 1e3 as text).
try:
    from yaml import CBaseLoader as _Loader
except ImportError:  # PyYAML was built without libyaml
    from yaml import BaseLoader as _Loader  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A device of a catalogue file.

    Attributes:
        device: the device.
        allowed: rule of :mod:`dovetail.devices.consistency` → why this device may break it.
    """

    device: Device
    allowed: Mapping[str, str]


class _UniqueKeys(_Loader):
    """Refuses a key that comes twice; the second would silently win over the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        found: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        if len(found) < len(node.value):
            names = [key.value for key, _ in node.value]
            twice = next(name for name in names if names.count(name) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} occurs twice", node.start_mark)
        return found


def load(path: Path) -> Any:
    """What the file holds: mappings, lists and text.

    Raises:
        InputError: it cannot be read, is not YAML, or has a key twice.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise InputError(f"cannot be read: {reason}", where=str(path)) from exc
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise InputError(f"not YAML: {getattr(exc, 'problem', None) or exc}", where=where) from exc


def entries(document: object, path: Path, default: Source) -> tuple[Entry, ...]:
    """The devices of a loaded file.

    Args:
        document: what :func:`load` returned.
        path: of the file, for messages.
        default: source of the plain numbers of a device that names none.

    Raises:
        InputError: an unknown key, an impossible number, a wrong kind of value.
    """
    if not isinstance(document, Mapping) or "devices" not in document:
        raise InputError("a catalogue file has the key `devices`", where=str(path), hint="see docs/devices.md for one to copy")
    try:
        sheet = FileSheet.model_validate(document)
    except ValidationError as exc:
        raise _fault(exc, path) from exc
    found = []
    for device in sheet.devices:
        try:
            found.append(Entry(device=to_device(device, sheet.sources, default), allowed=device.allowed))
        except (ValueError, TypeError) as exc:
            raise InputError(str(exc), where=f"{path}: {device.name}") from exc
    return tuple(found)


def _fault(error: ValidationError, path: Path) -> InputError:
    """The first fault in words."""
    first = error.errors()[0]
    place, line = _place(first["loc"], path)
    where = f"{path}, line {line}" if line else str(path)
    key = ".".join(place[2:] or place)
    if first["type"] == "extra_forbidden":
        keys = list(DeviceSheet.model_fields) if len(place) == 3 else []
        near = difflib.get_close_matches(key, keys, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        return InputError(f"there is no key {key!r}{meant}", where=where, hint=f"known: {', '.join(keys)}" if keys else None)
    if first["type"] == "missing":
        return InputError(f"the key {first['loc'][-1]!r} is missing", where=where)
    what = first["msg"].removeprefix("Value error, ")
    given = f"{first['input']:.60} does not fit: " if isinstance(first["input"], str) else ""
    return InputError(f"{key}: {given}{what[:1].lower()}{what[1:]}", where=where)


def _place(loc: Sequence[int | str], path: Path) -> tuple[list[str], int | None]:
    """The keys of a location that the file has, and the line of the last; pydantic adds names of its own to some."""
    node: yaml.Node | None = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    place: list[str] = []
    line = None
    for part in loc:
        inner = _child(node, part)
        if inner is not None:
            node, line = inner
            place.append(str(part))
    return place, line


def _child(node: yaml.Node | None, part: int | str) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((value, key.start_mark.line + 1) for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None
