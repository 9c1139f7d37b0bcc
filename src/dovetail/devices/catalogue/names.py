"""Finds a device by what people call it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from dovetail.core.device import Device
from dovetail.core.errors import InputError

_MANY = 8


def key(name: str) -> str:
    """What is left of a name where case, spaces and signs do not count: ``RTX 4090`` and ``rtx-4090`` are the same."""
    return "".join(_words(name))


def find(name: str, devices: Mapping[str, Device]) -> Device:
    """The device of this name or alias, or the only one whose name has all of these words.

    Raises:
        InputError: there is none (with the nearest names), or there are several (with all of them).
    """
    # A user's device comes after the package's, so that it wins.
    exact = {key(called): device for device in devices.values() for called in (*device.aliases, device.name)}
    if key(name) in exact:
        return exact[key(name)]
    words = set(_words(name))
    partly = [device for device in devices.values() if words and words <= _all_words(device)]
    if len(partly) == 1:
        return partly[0]
    if partly:
        listed = ", ".join(device.name for device in partly[:_MANY]) + (", …" if len(partly) > _MANY else "")
        raise InputError(f"{name!r} may be any of {len(partly)} devices: {listed}", hint="write one of these names")
    raise InputError(
        f"there is no device {name!r} in the catalogue{_meant(name, exact)}",
        hint="`dovetail devices` lists all, `dovetail devices add FILE` adds yours",
    )


def _meant(name: str, exact: Mapping[str, Device]) -> str:
    near = dict.fromkeys(exact[found].name for found in difflib.get_close_matches(key(name), exact, n=6, cutoff=0.5))
    listed = list(near)[:3]
    return f"; did you mean {' or '.join(map(repr, listed))}?" if listed else ""


def _words(name: str) -> list[str]:
    return re.findall(r"[\w+]+", name.lower().replace("_", " "))


def _all_words(device: Device) -> set[str]:
    called: Iterable[str] = (device.vendor, device.name, *device.aliases)
    return {word for text in called for word in _words(text)}
