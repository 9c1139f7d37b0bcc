"""Words single values: a number with its unit and interval, a fate, a candidate's name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeGuard

from dovetail.core import units
from dovetail.core.energy import MeasuredEnergy
from dovetail.core.measurement import Interval, Measurement
from dovetail.core.outcome import CandidateRecord, Fate

UNKNOWN = "unknown"

FATES = {
    Fate.WINNER: "winner",
    Fate.FINALIST: "finalist",
    Fate.RUNNER_UP: "runner-up",
    Fate.BASELINE: "baseline",
    Fate.QUALITY: "quality lost",
    Fate.TOO_SLOW: "too slow",
    Fate.PREDICTED_OUT: "predicted out",
    Fate.OUT_OF_TIME: "out of time",
    Fate.INFEASIBLE: "infeasible",
}

_PERCENT_METRICS = ("accuracy", "top", "agreement", "wer", "hit")
"""Metrics that are shares by definition and read best in percent; their differences are percentage points."""

_ASCII = str.maketrans({
    "→": "->", "×": "x", "µ": "u", "·": "-", "−": "-", "–": "-", "—": "-", "≤": "<=", "≥": ">=", "α": "alpha",
    "²": "2", "✓": "+", "✗": "x", "…": "...", "°": "deg", "‘": "'", "’": "'", "“": '"', "”": '"', "ȳ": "y", "ŷ": "y", "‖": "|",
})  # fmt: skip


def ascii_safe(text: str) -> str:
    """The same text in ASCII: known signs spelled out, others as ``?``."""
    return text.translate(_ASCII).encode("ascii", "replace").decode()


def one_line(text: str) -> str:
    """Text without line breaks and control characters, so that a name cannot steer a terminal."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def energy_words(found: MeasuredEnergy) -> str:
    """``12.3 mJ a sample (12.1 to 12.5), 8.1 mJ of it above idle (7.9 to 8.3)``."""
    whole = f"{units.energy(found.per_sample_j.point)} a sample ({energy_range(found.per_sample_j)})"
    above = found.above_idle_j
    return whole if above is None else f"{whole}, {units.energy(above.point)} of it above idle ({energy_range(above)})"


def energy_range(found: Interval) -> str:
    """``12.1 mJ to 12.5 mJ``."""
    return f"{units.energy(found.low)} to {units.energy(found.high)}"


def clip(text: str, limit: int) -> str:
    """At most ``limit`` characters, the loss marked by an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def known(value: float | None) -> TypeGuard[float]:
    """True for a finite number."""
    return value is not None and math.isfinite(value)


def percent(share: float | None, digits: int = 1) -> str:
    """``0.123`` → ``12.3 %``."""
    return f"{share * 100:.{digits}f} %" if known(share) else UNKNOWN


def is_share(metric: str) -> bool:
    """True for metrics shown in percent."""
    return metric.lower().startswith(_PERCENT_METRICS)


def quality(metric: str, value: float | None) -> str:
    """``accuracy, 0.9173`` → ``91.73 %``; other metrics as plain numbers in their own unit."""
    if not known(value):
        return UNKNOWN
    return percent(value, 2) if is_share(metric) else f"{value:.4g}"


def drop(metric: str, value: float | None) -> str:
    """A difference of qualities: percentage points for shares, else the metric's own unit."""
    if not known(value):
        return UNKNOWN
    # Adding zero turns a rounded -0.00 into 0.00.
    return f"{round(value * 100, 2) + 0.0:.2f} pp" if is_share(metric) else f"{value:.3g}"


def drop_interval(metric: str, interval: Interval) -> str:
    """``0.12 pp (-0.10 to 0.34 pp, 95 %)``."""
    if not known(interval.point):
        return UNKNOWN
    ends = f"{drop(metric, interval.low).removesuffix(' pp')} to {drop(metric, interval.high)}"
    return f"{drop(metric, interval.point)} ({ends}, {interval.confidence * 100:g} %)"


def ratio_interval(interval: Interval) -> str:
    """``1.77× (1.74× to 1.80×, 95 %)``."""
    if not known(interval.point):
        return UNKNOWN
    ends = f"{units.ratio(interval.low)} to {units.ratio(interval.high)}"
    return f"{units.ratio(interval.point)} ({ends}, {interval.confidence * 100:g} %)"


def in_unit_of(metric: str) -> Callable[[float], str]:
    """The formatter for a core metric, chosen by the unit that ends its name (``latency_s``, ``size_bytes``)."""
    if metric.endswith("_per_s"):
        return lambda value: units.count(value, "/s")
    if metric.endswith("_bytes"):
        return units.size
    return units.time if metric.endswith("_s") else lambda value: f"{value:.4g}"


def throughput(measurement: Measurement | None) -> str:
    """Samples per second, or ``unknown``."""
    if measurement is None or not known(measurement.latency_s) or measurement.latency_s <= 0:
        return UNKNOWN
    return units.count(measurement.throughput_per_s, "/s")


def count(n: int) -> str:
    """``8000`` → ``8,000``."""
    return f"{n:,}"


def name(record: CandidateRecord) -> str:
    """A candidate's label, or its recipe where it has none; one printable line."""
    return one_line(record.label or str(record.recipe))
