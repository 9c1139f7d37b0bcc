"""Turns certificates into the answer: certified, best effort, infeasible, or "nothing beats the baseline". Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dovetail.core import units
from dovetail.core.certificate import Certificate, Verdict
from dovetail.core.constraint import Constraint
from dovetail.core.outcome import CandidateRecord, FitStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to the user's question.

    Attributes:
        winner: recipe key; empty when infeasible.
        beats: whether it is proved better than the best baseline.
        relaxation: the nearest limit that could be met, when infeasible.
    """

    status: FitStatus
    headline: str
    winner: str
    beats: bool
    relaxation: str = ""


def decide(
    finalists: Sequence[CandidateRecord],
    baseline: CandidateRecord,
    *,
    others: Sequence[CandidateRecord] = (),
    objective: str,
    judged: bool,
    margin: float | None = None,
    constraints: Sequence[Constraint] = (),
    finished: bool = True,
    certifiable: bool = True,
) -> Answer:
    """Chooses the answer.

    Args:
        finalists: measured candidates with their certificates.
        baseline: the fastest baseline, measured.
        others: further baselines that count, measured: they may need less memory, or meet limits that the fastest misses.
        objective: ``latency``, ``throughput``, ``size`` or ``memory``.
        judged: whether quality could be judged.
        margin: permitted drop in the metric's unit.
        constraints: the user's limits.
        certifiable: whether anything was left to certify quality on.
        finished: whether the search ended by itself; a budget that ended before any candidate was measured proves nothing.
    """
    ran = sorted((r for r in finalists if r.infeasible is None), key=lambda r: cost(r, objective))
    within = [r for r in ran if limits_hold(r)]
    rival = min((baseline, *others), key=lambda r: cost(r, objective)) if objective in ("size", "memory") else baseline
    better = [r for r in within if improves(r, rival, objective)]
    certain = [r for r in better if judged and proved(r)]
    if certain:
        return _won(certain[0], rival, objective, FitStatus.CERTIFIED, "")
    open_ = [r for r in better if not judged or probably_keeps(r, margin)]
    if open_:
        reason = "quality not certified: no data" if not judged else _quality_reason(open_[0])
        return _won(open_[0], rival, objective, FitStatus.BEST_EFFORT, reason)
    if limits_hold(baseline):
        if not ran and not finished:
            headline = f"{baseline.label} so far: the budget ended before a candidate could be measured"
            return Answer(status=FitStatus.BEST_EFFORT, headline=headline, winner=baseline.recipe.key, beats=False)
        return _baseline_wins(rival if limits_hold(rival) else baseline, ran, judged and certifiable)
    meets = [r for r in within if not judged or proved(r)] or [r for r in within if probably_keeps(r, margin)]
    if meets:
        return _meets(meets[0], judged)
    slower = sorted((r for r in others if limits_hold(r)), key=lambda r: cost(r, objective))
    if slower:
        headline = f"{slower[0].label} meets the limits, which the faster baseline {baseline.label} misses"
        status = FitStatus.CERTIFIED if judged and certifiable else FitStatus.BEST_EFFORT
        return Answer(status=status, headline=headline, winner=slower[0].recipe.key, beats=False)
    keeping = [r for r in ran if not judged or proved(r) or probably_keeps(r, margin)]
    return _infeasible([*keeping, baseline, *others], constraints)


def cost(record: CandidateRecord, objective: str) -> float:
    """Lower is better; infinite for what has no number."""
    value = {"size": record.size_bytes, "memory": record.memory_bytes}.get(objective, record.latency_s)
    return math.inf if value is None or math.isnan(value) else value


def certificates(record: CandidateRecord, kind: str) -> list[Certificate]:
    """A record's certificates of one kind."""
    return [c for c in record.certificates if c.kind == kind]


def quality_verdict(record: CandidateRecord) -> Verdict | None:
    """Verdict on its quality; ``None`` when that was not judged."""
    found = certificates(record, "quality")
    return found[0].verdict if found else None


def proved(record: CandidateRecord) -> bool:
    """Whether its quality is certified."""
    return quality_verdict(record) is Verdict.CERTIFIED


def probably_keeps(record: CandidateRecord, margin: float | None) -> bool:
    """Whether its observed drop is within the margin, though too few data certify it."""
    found = certificates(record, "quality")
    if not found:
        drop = record.quality.drop if record.quality else None
    elif found[0].verdict is Verdict.CANNOT_CERTIFY:
        drop = found[0].interval
    else:
        return False
    return drop is not None and margin is not None and drop.point <= margin


def limits_hold(record: CandidateRecord) -> bool:
    """Whether no limit is missed; one that cannot be told counts as missed."""
    return all(c.verdict is Verdict.CERTIFIED for c in record.certificates if c.kind not in ("quality", "speed"))


def improves(record: CandidateRecord, baseline: CandidateRecord, objective: str) -> bool:
    """Whether it is proved better than the baseline in the objective."""
    if objective in ("size", "memory"):
        margin = 0.98 if objective == "memory" else 1.0
        return cost(record, objective) < margin * cost(baseline, objective)
    return any(
        c.verdict is Verdict.CERTIFIED and c.interval is not None and c.interval.low > 1.0
        for c in certificates(record, "speed")
    )


def _won(record: CandidateRecord, baseline: CandidateRecord, objective: str, status: FitStatus, reason: str) -> Answer:
    if objective in ("size", "memory"):
        gain = f"{cost(baseline, objective) / cost(record, objective):.2f}× smaller {objective}"
    else:
        speed = certificates(record, "speed")[0].interval
        assert speed is not None
        gain = f"{units.ratio(speed.point)} faster than the best baseline ({speed.low:.2f} to {speed.high:.2f})"
    tail = f"; {reason}" if reason else ""
    return Answer(status=status, headline=f"{record.label} is {gain}{tail}", winner=record.recipe.key, beats=True)


def _baseline_wins(baseline: CandidateRecord, ran: Sequence[CandidateRecord], certifiable: bool) -> Answer:
    verdict = quality_verdict(baseline)
    certified = verdict is Verdict.CERTIFIED or verdict is None
    why = "every candidate was slower, lost too much quality or did not run"
    if ran:
        best = ran[0]
        if quality_verdict(best) not in (Verdict.CERTIFIED, None):
            why = f"the fastest candidate, {best.label}, loses too much quality or cannot be certified"
        else:
            why = f"the fastest candidate, {best.label}, is not proved faster"
    return Answer(
        status=FitStatus.CERTIFIED if certified and certifiable else FitStatus.BEST_EFFORT,
        headline=f"nothing beats the baseline: {baseline.label} stays; {why}",
        winner=baseline.recipe.key,
        beats=False,
    )


def _meets(record: CandidateRecord, judged: bool) -> Answer:
    """Not faster than the baseline, which misses the limits."""
    certain = judged and proved(record)
    tail = "" if certain else f"; {_quality_reason(record) if judged else 'quality not certified: no data'}"
    return Answer(
        status=FitStatus.CERTIFIED if certain else FitStatus.BEST_EFFORT,
        headline=f"{record.label} meets the limits{tail}",
        winner=record.recipe.key,
        beats=False,
    )


def _quality_reason(record: CandidateRecord) -> str:
    found = certificates(record, "quality")
    return found[0].reason if found else "cannot certify: n = 0, no independent unit was left to certify on"


def _infeasible(ran: Sequence[CandidateRecord], constraints: Sequence[Constraint]) -> Answer:
    limits = [c for r in ran for c in r.certificates if c.kind not in ("quality", "speed")]
    missed = [c for c in limits if c.verdict is not Verdict.CERTIFIED]
    nearest = _nearest(ran, constraints)
    claim = missed[0].claim if missed else "the limits"
    return Answer(
        status=FitStatus.INFEASIBLE,
        headline=f"nothing within the quality limit meets {claim}",
        winner="",
        beats=False,
        relaxation=nearest,
    )


def _nearest(ran: Sequence[CandidateRecord], constraints: Sequence[Constraint]) -> str:
    """For each missed limit the least change that something measured is sure to meet, as the user would write it."""
    texts = []
    for constraint in constraints:
        ends = [end for r in ran if (end := _far_end(r, constraint)) is not None]
        if not ends:
            continue
        best = max(ends) if constraint.at_least else min(ends)
        if (best < constraint.bound) if constraint.at_least else (best > constraint.bound):
            texts.append(f"{_name(constraint)}={_rounded(constraint, best)}")
    return ", ".join(texts)


def _far_end(record: CandidateRecord, constraint: Constraint) -> float | None:
    """The far end of the interval of a limited quantity, the measured value where it has none."""
    quantile = "" if constraint.quantile is None else f"p{100 * constraint.quantile:g} "
    start = quantile + constraint.metric.rpartition("_")[0].removesuffix("_per")
    for certificate in record.certificates:
        if certificate.interval is not None and certificate.claim.startswith(start):
            return certificate.interval.low if constraint.at_least else certificate.interval.high
    return _value(record, constraint)


def _value(record: CandidateRecord, constraint: Constraint) -> float | None:
    measured = record.measurement or record.screening
    if constraint.metric == "size_bytes":
        return record.size_bytes
    if constraint.metric == "memory_bytes":
        return record.memory_bytes
    if measured is None:
        return None
    if constraint.metric == "throughput_per_s":
        return measured.throughput_per_s
    return measured.latency_s if constraint.quantile is None else measured.quantiles_s.get(f"{constraint.quantile:g}")


def _name(constraint: Constraint) -> str:
    name = constraint.metric.rpartition("_")[0].removesuffix("_per")
    return name if constraint.quantile is None else f"{name}_p{100 * constraint.quantile:g}"


def _rounded(constraint: Constraint, value: float) -> str:
    """Two digits, away from the limit, so that the same measurement meets it."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    slack = 1e-9  # 500.0000001 µs are 500 µs
    rounded = step * (math.floor(value / step + slack) if constraint.at_least else math.ceil(value / step - slack))
    if constraint.metric == "throughput_per_s":
        return f"{rounded:.4g}/s"
    text = units.time(rounded) if constraint.metric == "latency_s" else units.size(rounded)
    return text.replace(" ", "")


def front_points(records: Sequence[CandidateRecord], *, judged: bool) -> Mapping[str, tuple[float | None, ...]]:
    """Coordinates for the Pareto front: latency in seconds, quality drop (0 where it cannot be judged), size in bytes."""
    return {r.recipe.key: (r.latency_s, _drop(r) if judged else 0.0, r.size_bytes) for r in records if r.infeasible is None}


def _drop(record: CandidateRecord) -> float | None:
    """The drop as it was certified, else as it was seen on the selection split; ``None`` when nobody looked."""
    if record.is_baseline:
        return 0.0
    found = certificates(record, "quality")
    if found and found[0].interval is not None:
        return found[0].interval.point
    return None if record.quality is None else record.quality.drop.point
