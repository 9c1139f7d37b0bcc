"""Quality as a non-inferiority claim: certified when the one-sided upper bound of the drop is within the limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from dovetail.certify.bootstrap import RESAMPLES
from dovetail.certify.drop import DropStudy, lone_drop, study_drop
from dovetail.certify.paired import PairedCounts
from dovetail.core.certificate import Certificate, Verdict
from dovetail.core.constraint import DropKind, MaxDrop
from dovetail.core.measurement import Interval
from dovetail.core.outcome import Quality
from dovetail.core.protocols import Metric

ALPHA = 0.05
"""One-sided error level of a family of quality claims."""


def quality_drop(
    metric: Metric,
    rows_original: ArrayLike,
    rows_candidate: ArrayLike,
    *,
    split: str,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Quality:
    """The drop with its two-sided interval, as the search uses it; proves nothing.

    Raises:
        DataError: the rows do not belong together, or there are none.
    """
    if len(np.asarray(rows_original)) == 1:
        reference, value, drop = lone_drop(metric, rows_original, rows_candidate)
        return Quality(split=split, n=1, value=value, reference=reference, drop=drop)
    study = study_drop(metric, rows_original, rows_candidate, resamples=resamples, seed=seed)
    if math.isnan(study.drop):
        drop = Interval(point=math.nan, low=math.nan, high=math.nan, confidence=confidence)
    else:
        drop = study.interval((1 - confidence) / 2)
    return Quality(split=split, n=study.n, value=study.value, reference=study.reference, drop=drop)


def quality_certificate(
    metric: Metric,
    rows_original: ArrayLike,
    rows_candidate: ArrayLike,
    *,
    max_drop: MaxDrop,
    alpha: float = ALPHA,
    looks: int = 1,
    data_hashes: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Certificate:
    """Judges "the candidate worsens the metric by at most ``max_drop``" for one candidate, chosen before looking.

    Args and errors are those of :func:`certify_family`.
    """
    return certify_family(
        metric,
        rows_original,
        [rows_candidate],
        max_drop=max_drop,
        alpha=alpha,
        looks=looks,
        data_hashes=data_hashes,
        resamples=resamples,
        seed=seed,
    )[0]


def certify_family(
    metric: Metric,
    rows_original: ArrayLike,
    rows_candidates: Sequence[ArrayLike],
    *,
    max_drop: MaxDrop,
    planned: int | None = None,
    alpha: float = ALPHA,
    looks: int = 1,
    data_hashes: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Certificate, ...]:
    """Judges several candidates on one certification set with a family-wise error of ``alpha`` (Holm).

    Args:
        metric: name, direction, and ``value`` of rows.
        rows_original: ``[n, k]`` as made by the metric, one row per independent unit.
        rows_candidates: rows of each candidate on the same units.
        max_drop: the limit.
        planned: how many candidates were to be judged, fixed before looking; candidates that fell out since still count.
        alpha: family-wise error level.
        looks: how often this certification set has been looked at, this time included.
        data_hashes: split name → content hash.
        resamples: bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        One certificate per candidate, in order, each with the error level it was judged at.

    Raises:
        DataError: the rows do not belong together, or there are none.
    """
    if len(np.asarray(rows_original)) == 1:
        return tuple(_lone(metric, rows_original, rows, max_drop, alpha, looks, data_hashes or {}) for rows in rows_candidates)
    studies = [
        study_drop(metric, rows_original, rows, max_drop=max_drop, resamples=resamples, seed=seed) for rows in rows_candidates
    ]
    family = max(planned or 0, len(studies))
    p_values = [1.0 if _obstacle(s, metric, max_drop) else s.p_value() for s in studies] if family > 1 else [0.0] * len(studies)
    levels = holm(p_values, alpha=alpha, planned=family)
    return tuple(
        _judge(study, metric, max_drop, level, looks, data_hashes or {}, family)
        for study, level in zip(studies, levels, strict=True)
    )


def holm(p_values: Sequence[float], *, alpha: float = ALPHA, planned: int | None = None) -> tuple[float, ...]:
    """Holm's step-down levels (Scandinavian Journal of Statistics 6 (1979) 65-70).

    The smallest p-value is judged at ``alpha/k``, the next at ``alpha/(k-1)``, and so on until one fails; all further ones are
    judged at the level that failed.

    Returns:
        The level of each hypothesis, in the given order; it is rejected when its p-value is at most its level.
    """
    k = max(planned or 0, len(p_values))
    levels = [0.0] * len(p_values)
    level, failed = alpha, False
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if not failed:
            level = alpha / (k - rank)
            failed = p_values[index] > level
        levels[index] = level
    return tuple(levels)


def _lone(
    metric: Metric,
    original: ArrayLike,
    candidate: ArrayLike,
    max_drop: MaxDrop,
    alpha: float,
    looks: int,
    data_hashes: Mapping[str, str],
) -> Certificate:
    """One unit has a drop and certifies nothing."""
    reference, value, drop = lone_drop(metric, original, candidate)
    return Certificate(
        claim=f"{metric.name} worsens by {_amount(drop.point, metric)} on a single unit",
        kind="quality",
        verdict=Verdict.CANNOT_CERTIFY,
        method="none: a single unit shows no spread",
        n=1,
        alpha=alpha,
        interval=drop,
        baseline_value=reference,
        value=value,
        data_hashes=data_hashes,
        looks=looks,
        reason=f"cannot certify: n = 1, needs at least {PairedCounts.min_units}",
    )


def _judge(
    study: DropStudy,
    metric: Metric,
    max_drop: MaxDrop,
    alpha: float,
    looks: int,
    data_hashes: Mapping[str, str],
    family: int,
) -> Certificate:
    interval = None if math.isnan(study.drop) else study.interval(alpha)
    verdict, reason = _verdict(study, metric, max_drop, alpha, interval)
    return Certificate(
        claim=_claim(study, metric, max_drop, alpha, interval),
        kind="quality",
        verdict=verdict,
        method=study.method + (f"; Holm step-down among {family}" if family > 1 else ""),
        n=study.n,
        alpha=alpha,
        interval=interval,
        baseline_value=study.reference,
        value=study.value,
        data_hashes=data_hashes,
        looks=looks,
        reason=reason,
    )


def _verdict(
    study: DropStudy, metric: Metric, max_drop: MaxDrop, alpha: float, interval: Interval | None
) -> tuple[Verdict, str]:
    obstacle = _obstacle(study, metric, max_drop)
    if obstacle or interval is None:
        return Verdict.CANNOT_CERTIFY, obstacle
    if interval.high <= study.margin:
        return Verdict.CERTIFIED, ""
    if interval.low > study.margin:
        return Verdict.REFUTED, f"the drop is at least {_amount(interval.low, metric)}, above the limit"
    return Verdict.CANNOT_CERTIFY, _shortfall(study, metric, alpha)


def _obstacle(study: DropStudy, metric: Metric, max_drop: MaxDrop) -> str:
    """Why the claim cannot be judged whatever the interval says; empty when it can."""
    if math.isnan(study.drop):
        return f"cannot certify: {metric.name} is undefined on these {study.n:,} units"
    if max_drop.kind is DropKind.RELATIVE and study.reference == 0:
        return f"cannot certify: the original's {metric.name} is 0, of which no share can be taken; give an absolute limit"
    return _shortfall(study, metric, ALPHA) if study.n < study.bounds.min_units else ""


def _shortfall(study: DropStudy, metric: Metric, alpha: float) -> str:
    needed = study.needed(alpha)
    text = f"cannot certify: n = {study.n:,}"
    if math.isfinite(needed):
        text += f", needs about {_round_up(needed):,}"
    elif study.margin == 0:
        text += "; a limit of zero is only met by a candidate that is better than the original"
    else:
        drop, margin = _amount(study.drop, metric), _amount(study.margin, metric)
        text += f"; the observed drop of {drop} is not below the limit of {margin}"
    return text + (f"; {metric.name} was undefined on {study.undefined} resamples" if study.undefined else "")


def _claim(study: DropStudy, metric: Metric, max_drop: MaxDrop, alpha: float, interval: Interval | None) -> str:
    limit = str(max_drop) if max_drop.kind is DropKind.RELATIVE else _amount(max_drop.value, metric)
    text = f"{metric.name} worsens by at most {limit} against the original"
    if interval is None:
        return f"{text} (n = {study.n:,})"
    return (
        f"{text} ({_level(study.reference, metric)} → {_level(study.value, metric)}, drop at most "
        f"{_amount(interval.high, metric)} at {100 * (1 - alpha):.4g} % confidence, n = {study.n:,})"
    )


def _amount(drop: float, metric: Metric) -> str:
    return f"{100 * drop:.3g} pp" if metric.binary else f"{drop:.4g}"


def _level(value: float, metric: Metric) -> str:
    return f"{100 * value:.2f} %" if metric.binary else f"{value:.5g}"


def _round_up(n: float) -> int:
    """Two significant digits, upwards: more would claim more than the approximation holds."""
    step = 10 ** max(math.floor(math.log10(n)) - 1, 0)
    return int(math.ceil(n / step) * step)
