"""Parses what users write of limits: permitted drop, constraints, budget."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from dovetail.core.constraint import Constraint, DropKind, MaxDrop
from dovetail.core.errors import InputError
from dovetail.core.units import parse_quantity

# name → (metric, kind of quantity, quantile, at least)
_LIMITS: dict[str, tuple[str, str, float | None, bool]] = {
    "latency": ("latency_s", "time", None, False),
    "latency_p50": ("latency_s", "time", 0.5, False),
    "latency_p95": ("latency_s", "time", 0.95, False),
    "latency_p99": ("latency_s", "time", 0.99, False),
    "throughput": ("throughput_per_s", "rate", None, True),
    "memory": ("memory_bytes", "bytes", None, False),
    "size": ("size_bytes", "bytes", None, False),
}


def parse_max_drop(text: str | float) -> MaxDrop:
    """``1pp`` is absolute (0.01), ``1%`` relative, a bare number is in the metric's unit.

    Raises:
        InputError: not of these forms, negative, or not finite.
    """
    match = re.fullmatch(r"\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*(pp|%)?\s*", str(text))
    try:
        if match is None or isinstance(text, bool):
            raise ValueError(f"{text!r} is not a drop")
        value = float(match[1])
        return MaxDrop(
            value=value / 100 if match[2] else value, kind=DropKind.RELATIVE if match[2] == "%" else DropKind.ABSOLUTE
        )
    except ValueError as error:
        raise InputError(
            str(error), where="max_drop", hint="write 1pp (absolute), 1% (relative) or a number in the metric's unit"
        ) from error


def parse_limits(limits: Mapping[str, str | float]) -> tuple[Constraint, ...]:
    """``{"latency_p99": "5ms", "memory": "200MB"}`` as constraints, in the order given.

    Raises:
        InputError: an unknown name, no quantity of its kind, zero or less, not finite, or two limits on one thing.
    """
    constraints = []
    for name, bound in limits.items():
        if name not in _LIMITS:
            near = difflib.get_close_matches(name, _LIMITS, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"there is no limit {name!r}{meant}", where="limits", hint=f"known: {', '.join(_LIMITS)}")
        metric, kind, quantile, at_least = _LIMITS[name]
        try:
            constraints.append(
                Constraint(metric=metric, bound=parse_quantity(bound, kind), quantile=quantile, at_least=at_least)
            )
        except ValueError as error:
            hint = (
                error.hint
                if isinstance(error, InputError)
                else "no model can meet it; write a positive quantity such as 5ms or 200MB"
            )
            raise InputError(
                f"{bound!r}: {error.what if isinstance(error, InputError) else error}", where=name, hint=hint
            ) from error
    _check_consistent(constraints)
    return tuple(constraints)


def _check_consistent(constraints: list[Constraint]) -> None:
    """The plain latency limit is on the median: beside ``latency_p50`` one of the two says nothing."""
    median = {c.bound for c in constraints if c.metric == "latency_s" and c.quantile in (None, 0.5)}
    if len(median) > 1:
        low, high = sorted(median)
        raise InputError(
            f"latency and latency_p50 both limit the median, to {low} s and {high} s", where="limits", hint="keep one of them"
        )


def parse_budget(text: str | float) -> float:
    """``10m`` → 600 seconds.

    Raises:
        InputError: not a positive time.
    """
    try:
        seconds = parse_quantity(text, "time")
    except InputError as error:
        raise InputError(error.what, where="budget", hint="write a time such as 90s, 10m or 1h") from error
    if seconds <= 0:
        raise InputError(f"{text!r} is no time to work in", where="budget", hint="write a time such as 90s, 10m or 1h")
    return seconds
