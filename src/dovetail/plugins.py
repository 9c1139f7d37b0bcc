"""The complete list of extension points. Only ``pipeline.py`` and ``worker.py`` may resolve them.

| entry-point group | what is registered | protocol |
|---|---|---|
| ``dovetail.runtimes`` | a runtime | :class:`dovetail.core.protocols.Runtime` |
| ``dovetail.passes`` | a compression or graph pass | :class:`dovetail.core.protocols.Pass` |
| ``dovetail.meters`` | a meter of energy | :class:`dovetail.core.protocols.Meter` |
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dovetail.core.errors import InputError
from dovetail.core.protocols import Meter, Pass, Runtime

GROUPS = ("dovetail.runtimes", "dovetail.passes", "dovetail.meters")


@cache
def _points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def names(group: str) -> tuple[str, ...]:
    """Registered names of a group, sorted; loads nothing."""
    return tuple(sorted(_points(group)))


def _load(group: str, name: str) -> Any:
    points = _points(group)
    if name not in points:
        kind = group.rpartition(".")[2][:-1]
        raise InputError(f"there is no {kind} named {name!r}", hint=f"known: {', '.join(sorted(points)) or 'none'}")
    return points[name].load()


@cache
def runtime(name: str) -> Runtime:
    """The runtime registered under a name.

    Raises:
        InputError: no such runtime.
    """
    found: Runtime = _load("dovetail.runtimes", name)()
    return found


@cache
def compression_pass(name: str) -> Pass:
    """The pass registered under a name (its module under ``compress/`` has the same name).

    Raises:
        InputError: no such pass.
    """
    found: Pass = _load("dovetail.passes", name)()
    return found


def meters() -> tuple[Meter, ...]:
    """All registered meters, the preferred ones first."""
    found: list[Meter] = [_load("dovetail.meters", name)() for name in names("dovetail.meters")]
    return tuple(sorted(found, key=lambda meter: meter.preference))
