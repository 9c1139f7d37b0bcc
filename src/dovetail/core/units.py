"""Formats SI floats for people; the only place that does.

Names carry the unit in SI (``latency_s``, ``memory_bytes``); a number is converted once where it enters
(:func:`parse_quantity`) and formatted once where it leaves.
"""

from __future__ import annotations

import math
import re

from dovetail.core.errors import InputError

_TIME = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = ((1e18, "EB"), (1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_COUNT = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_ENERGY = ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"))

_SCALES = {
    "time": {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0},
    "bytes": {
        "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
        "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "tib": 2.0**40,
    },
    "energy": {"uj": 1e-6, "µj": 1e-6, "mj": 1e-3, "j": 1.0, "kj": 1e3, "wh": 3600.0},
    "power": {"mw": 1e-3, "w": 1.0, "kw": 1e3},
    "rate": {"/s": 1.0, "": 1.0},
}  # fmt: skip


def _scaled(value: float, table: tuple[tuple[float, str], ...], digits: int) -> str:
    """Rounded first: what rounds to 1000 of a unit is 1 of the next."""
    if math.isnan(value):
        return "unknown"
    rounded = float(f"{value:.{digits}g}")
    scale, unit = next((row for row in table if abs(rounded) >= row[0]), table[-1])
    number = f"{rounded / scale:.{digits}g}"
    if "e+" in number:
        number = f"{float(number):.0f}"
    return f"{number} {unit}".rstrip()


def time(seconds: float | None, digits: int = 3) -> str:
    """``0.00123`` → ``1.23 ms``; ``None`` and NaN → ``unknown``."""
    return "unknown" if seconds is None else _scaled(seconds, _TIME, digits)


def duration(seconds: float) -> str:
    """Long spans as people say them: ``95`` → ``1 min 35 s``."""
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if round(seconds, 1) < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def size(n_bytes: float | None, digits: int = 3) -> str:
    """Decimal bytes: ``1_090_000`` → ``1.09 MB``; ``None`` → ``unknown``."""
    return "unknown" if n_bytes is None else _scaled(n_bytes, _BYTES, digits)


def count(value: float | None, unit: str = "", digits: int = 3) -> str:
    """``41_200_000, "FLOP"`` → ``41.2 MFLOP``; ``None`` → ``unknown``."""
    if value is None:
        return "unknown"
    text = _scaled(value, _COUNT, digits)
    number, _, prefix = text.partition(" ")
    return f"{number} {prefix}{unit}".rstrip()


def energy(joules: float | None, digits: int = 3) -> str:
    """``0.0042`` → ``4.2 mJ``; ``None`` → ``unknown``."""
    return "unknown" if joules is None else _scaled(joules, _ENERGY, digits)


def ratio(value: float | None, digits: int = 2) -> str:
    """``1.8`` → ``1.80×``; ``None`` → ``unknown``."""
    return "unknown" if value is None or math.isnan(value) else f"{value:.{digits}f}×"


def parse_quantity(text: str | float | int, kind: str) -> float:
    """Turns ``"5ms"``, ``"200MB"`` or a bare number (already SI) into an SI float.

    Args:
        text: number with an optional unit.
        kind: ``time``, ``bytes``, ``energy``, ``power`` or ``rate``.

    Raises:
        InputError: not a finite number, or a unit that this kind does not have.
    """
    if isinstance(text, bool):
        raise InputError(f"{text!r} is not a {kind}")
    if isinstance(text, int | float):
        value = float(text)
    else:
        match = re.fullmatch(r"\s*([-+]?[0-9.]+(?:[eE][-+]?\d+)?)\s*([a-zA-Zµ/]*)\s*", text)
        units = _SCALES[kind]
        if match is None or (match[2] and match[2].lower() not in units):
            known = ", ".join(u for u in units if u)
            raise InputError(f"{text!r} is not a {kind}", hint=f"write a number and one of: {known}")
        try:
            value = float(match[1]) * (units[match[2].lower()] if match[2] else 1.0)
        except ValueError as exc:
            raise InputError(f"{text!r} is not a number") from exc
    if not math.isfinite(value):
        raise InputError(f"{text!r} is not finite")
    return value
