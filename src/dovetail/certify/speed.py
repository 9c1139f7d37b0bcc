"""Speed as a ratio over pairs of fresh processes, drift of the machine, and limits on measured quantities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dovetail.core import units
from dovetail.core.certificate import Certificate, Verdict
from dovetail.core.constraint import Answer, Constraint
from dovetail.core.measurement import Interval

MIN_PAIRS = 6
"""Fewest process pairs a claim of speed rests on."""

MARGIN = 1.02
"""Ratio that the interval must clear: processes differ a little from start to start, and 2 % is of no use to anybody."""

CONFIDENCE = 0.95
TRIM_FROM = 8
DRIFT_TOLERANCE = 0.05
STEAL_TOLERANCE = 0.01


def ratio_interval(log_ratios: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Two-sided interval of a ratio from the log ratios of process pairs.

    Student's t of the mean; from :data:`TRIM_FROM` pairs on, of the mean without the least and the greatest pair (Tukey &
    McLaughlin, Sankhyā A 25 (1963) 331-352), which one disturbed pair on a shared machine does not spoil. The rule depends on
    the number of pairs alone, so the interval is not chosen by what it shows.

    Args:
        log_ratios: natural log of baseline over candidate time, one per pair ``[n]``; above 0 the candidate is faster.
        confidence: two-sided.

    Raises:
        ValueError: fewer than two pairs, or a log ratio that is not finite.
    """
    ordered = np.sort(np.asarray(log_ratios, dtype=np.float64).ravel())
    n = len(ordered)
    if n < 2 or not np.isfinite(ordered).all():
        raise ValueError(f"an interval of a ratio needs at least two finite log ratios, not {ordered.tolist()}")
    trimmed = 1 if n >= TRIM_FROM else 0
    kept = ordered[trimmed : n - trimmed]
    winsorized = np.clip(ordered, kept[0], kept[-1])
    error = float(winsorized.std(ddof=1)) * math.sqrt(n) / len(kept)
    half = float(stats.t.isf((1 - confidence) / 2, len(kept) - 1)) * error
    middle = float(kept.mean())
    return Interval(point=math.exp(middle), low=math.exp(middle - half), high=math.exp(middle + half), confidence=confidence)


def speed_certificate(
    log_ratios: ArrayLike,
    *,
    candidate: str = "the candidate",
    baseline: str = "the baseline",
    baseline_s: float | None = None,
    candidate_s: float | None = None,
    environment: str = "",
    notes: Sequence[str] = (),
    margin: float = MARGIN,
    confidence: float = CONFIDENCE,
) -> Certificate:
    """Judges "the candidate is faster than the baseline": certified above ``margin``, refuted below ``1/margin``.

    Args:
        log_ratios: as in :func:`ratio_interval`.
        candidate: its name in the claim.
        baseline: its name in the claim.
        baseline_s: seconds per call of the baseline, for the record.
        candidate_s: the same of the candidate.
        environment: fingerprint of the machine the claim holds on.
        notes: what disturbed the measurement (:func:`drift_note`).
        margin: practical margin, above 1.
        confidence: two-sided; each direction errs with half the rest.
    """
    pairs = np.asarray(log_ratios, dtype=np.float64).ravel()
    interval = ratio_interval(pairs, confidence) if len(pairs) >= 2 else None
    verdict, shown, reason = _speed_verdict(interval, len(pairs), margin)
    claim = f"{candidate} is faster than {baseline}{shown}"
    trimmed = ", least and greatest pair trimmed (Tukey & McLaughlin 1963)" if len(pairs) >= TRIM_FROM else ""
    return Certificate(
        claim=claim,
        kind="speed",
        verdict=verdict,
        method=f"Student's t interval of the mean log ratio over process pairs{trimmed}",
        n=len(pairs),
        alpha=(1 - confidence) / 2,
        interval=interval,
        baseline_value=baseline_s,
        value=candidate_s,
        environment=environment,
        reason="; ".join(part for part in (reason, *notes) if part),
    )


def _speed_verdict(interval: Interval | None, n: int, margin: float) -> tuple[Verdict, str, str]:
    """Verdict, figures for the claim, reason."""
    if interval is None or n < MIN_PAIRS:
        return Verdict.CANNOT_CERTIFY, "", f"cannot certify: n = {n} process pairs, needs {MIN_PAIRS}"
    low, high = units.ratio(interval.low, 3), units.ratio(interval.high, 3)
    shown = f" ({units.ratio(interval.point, 3)}, {100 * interval.confidence:.4g} % interval {low} to {high})"
    if interval.low > margin:
        return Verdict.CERTIFIED, shown, ""
    if interval.high < 1 / margin:
        return Verdict.REFUTED, shown, "it is slower"
    return Verdict.NOT_DISTINGUISHABLE, shown, f"the interval does not clear a margin of {units.ratio(margin)}"


def drift_note(
    first_blocks_s: ArrayLike,
    last_blocks_s: ArrayLike,
    *,
    steal_share: float = 0.0,
    throttled_s: float = 0.0,
    thermal_events: int = 0,
    clock_ratio: float | None = None,
    tolerance: float = DRIFT_TOLERANCE,
) -> str | None:
    """One line on what changed while measuring, or ``None`` when nothing did.

    Interleaved blocks keep a ratio fair through a slow drift; absolute times are what drift spoils.

    Args:
        first_blocks_s: block medians at the start, seconds per call.
        last_blocks_s: block medians of the same model at the end.
        steal_share: share of processor time that the hypervisor took, 0..1.
        throttled_s: seconds for which a control group's quota stopped the measured processes.
        thermal_events: times that a core slowed down because it was hot.
        clock_ratio: mean clock at the end over that at the start, ``None`` when unknown.
        tolerance: relative change that is worth a word.
    """
    first, last = (float(np.median(np.asarray(b, dtype=np.float64))) for b in (first_blocks_s, last_blocks_s))
    change = last / first - 1
    parts = []
    if abs(change) > tolerance:
        direction = "slower" if change > 0 else "faster"
        parts.append(
            f"the last blocks were {abs(change):.0%} {direction} than the first ({units.time(first)} → {units.time(last)})"
        )
    if clock_ratio is not None and abs(clock_ratio - 1) > tolerance:
        parts.append(f"the clock ended at {clock_ratio:.0%} of its start")
    if steal_share > STEAL_TOLERANCE:
        parts.append(f"other machines on this host took {steal_share:.1%} of the processor time")
    if throttled_s > 0:
        parts.append(f"the container's processor quota stopped the processes for {units.time(throttled_s)}")
    if thermal_events > 0:
        parts.append(f"cores were too hot and slowed down {thermal_events:,} times")
    return "; ".join(parts) or None


def limit_certificate(
    constraint: Constraint, interval: Interval | None, *, n: int, needed: int | None = None, environment: str = ""
) -> Certificate:
    """Judges a limit on a measured quantity.

    Args:
        constraint: the limit.
        interval: of the constrained quantity in its SI unit; a point for what is exactly known, such as a file's size; ``None``
            where there were too few samples for one.
        n: samples the interval rests on.
        needed: samples an interval needs, for the reason.
        environment: fingerprint of the machine, empty for a file's size.
    """
    answer = Answer.UNKNOWN if interval is None else constraint.satisfied_by(interval.low, interval.high)
    verdict = {Answer.YES: Verdict.CERTIFIED, Answer.NO: Verdict.REFUTED, Answer.UNKNOWN: Verdict.CANNOT_CERTIFY}[answer]
    exact = interval is not None and interval.low == interval.high
    return Certificate(
        claim=_limit_claim(constraint, interval, n),
        kind=constraint.metric,
        verdict=verdict,
        method="exact" if exact else "distribution-free interval from order statistics (Hahn & Meeker 1991)",
        n=n,
        alpha=0.0 if exact or interval is None else (1 - interval.confidence) / 2,
        interval=interval,
        value=None if interval is None else interval.point,
        environment=environment,
        reason=_limit_reason(answer, interval, n, needed),
    )


def _limit_claim(constraint: Constraint, interval: Interval | None, n: int) -> str:
    name = constraint.metric.rpartition("_")[0].removesuffix("_per")
    quantile = "" if constraint.quantile is None else f"p{100 * constraint.quantile:g} "
    relation = "at least" if constraint.at_least else "at most"
    text = f"{quantile}{name} is {relation} {_shown(constraint, constraint.bound)}"
    if interval is None:
        return text
    if interval.low == interval.high:
        return f"{text} ({_shown(constraint, interval.point)})"
    return f"{text} ({_shown(constraint, interval.low)} to {_shown(constraint, interval.high)}, n = {n:,})"


def _limit_reason(answer: Answer, interval: Interval | None, n: int, needed: int | None) -> str:
    if interval is None:
        return f"cannot certify: n = {n:,}" + ("" if needed is None else f", needs {needed:,}")
    if answer is Answer.UNKNOWN:
        return f"cannot certify: n = {n:,}, the limit lies inside the interval"
    return ""


def _shown(constraint: Constraint, value: float) -> str:
    if constraint.metric.endswith("_bytes"):
        return units.size(value)
    if constraint.metric.endswith("_per_s"):
        return units.count(value, "/s")
    return units.time(value)
