"""Assembles the answer from the race and the finals."""

from __future__ import annotations

from dataclasses import replace

from dovetail.core.constraint import DropKind, MaxDrop
from dovetail.core.measurement import Interval
from dovetail.core.outcome import CandidateRecord, Fate, FitResult, FitStatus
from dovetail.pipeline import verdict
from dovetail.pipeline.finals import Final
from dovetail.pipeline.job import Job
from dovetail.pipeline.ledger import Ledger
from dovetail.search.pareto import front
from dovetail.search.race import Race


def assemble(job: Job, race: Race, final: Final, ledger: Ledger, command: str) -> FitResult:
    """The result without explanations, artifact and final times."""
    baseline = final.records[final.best_baseline]
    finalists = [final.records[key] for key in final.finalists]
    answer = verdict.decide(
        finalists,
        baseline,
        others=[r for key, r in final.records.items() if key in final.counted and key != final.best_baseline],
        objective=job.wish.objective,
        judged=job.judged,
        margin=race.goal.margin,
        constraints=job.wish.constraints,
        finished=race.finished,
        certifiable="certification" in job.splits,
    )
    _against_best_baseline(race, final)
    for key, record in final.records.items():
        seen = record.speedup if record.measurement else race.records[key].speedup
        race.tell(replace(record, speedup=seen, quality=race.quality_of(record)))
    fates = {key: Fate.FINALIST for key in final.finalists}
    if answer.beats:
        fates[answer.winner] = Fate.WINNER
    candidates = tuple(_with_final_reason(r, answer.winner) for r in race.fates(fates))
    _count(ledger, race, final)
    return FitResult(
        status=answer.status,
        headline=answer.headline,
        beats_baseline=answer.beats,
        winner=answer.winner,
        best_baseline=final.best_baseline,
        default_baseline=final.default_baseline,
        candidates=candidates,
        front=_front(finalists, baseline, answer, judged=job.judged),
        objective=job.wish.objective,
        metric="" if job.metric is None else job.metric.name,
        max_drop=shown_drop(job.wish.max_drop, binary=job.metric is not None and job.metric.binary),
        model_name=job.name,
        model_hash=job.model_hash,
        workload=job.workload,
        environment=job.environment,
        splits={name: split.units for name, split in job.splits.items() if name != "timing"},
        ledger=ledger.rows(),
        relaxation=answer.relaxation,
        margin=race.goal.margin,
        warnings=job.warnings,
        command=command,
    )


def timed(result: FitResult, ledger: Ledger) -> FitResult:
    """The result with what everything cost."""
    return replace(result, ledger=ledger.rows(), seconds=ledger.elapsed_s)


def shown_drop(drop: MaxDrop, *, binary: bool) -> str:
    """The limit as people write it: ``1pp``, ``1%`` or a number in the metric's unit."""
    if drop.kind is DropKind.RELATIVE:
        return f"{100 * drop.value:g}%"
    return f"{100 * drop.value:g}pp" if binary else f"{drop.value:g}"


def _against_best_baseline(race: Race, final: Final) -> None:
    """Quick looks were taken against the anchor; the report compares everything with the best baseline."""
    reference = race.records[final.best_baseline].speedup
    for record in list(race.records.values()):
        known = final.records.get(record.recipe.key)
        if record.speedup is None or reference is None or (known is not None and known.measurement is not None):
            continue
        point, low, high = (v / reference.point for v in (record.speedup.point, record.speedup.low, record.speedup.high))
        race.tell(replace(record, speedup=Interval(point=point, low=low, high=high)))


def _with_final_reason(record: CandidateRecord, winner: str) -> CandidateRecord:
    if record.fate is Fate.WINNER:
        return replace(record, reason="the answer")
    if record.fate is not Fate.FINALIST:
        return record
    failed = [c for c in record.certificates if c.verdict.value != "certified"]
    reason = failed[0].reason or failed[0].claim if failed else "certified too, but not the fastest"
    return replace(record, reason=reason)


def _front(
    finalists: list[CandidateRecord], baseline: CandidateRecord, answer: verdict.Answer, *, judged: bool
) -> tuple[str, ...]:
    """Variants worth choosing from: the answer, then certified ones that no other dominates."""
    allowed = [r for r in finalists if r.infeasible is None and verdict.limits_hold(r)]
    if answer.status is FitStatus.CERTIFIED:
        allowed = [r for r in allowed if verdict.proved(r)]
    keys = front(verdict.front_points([*allowed, baseline], judged=judged))
    rest = [k for k in keys if k != answer.winner]
    return tuple([answer.winner, *rest] if answer.winner else rest)


def _count(ledger: Ledger, race: Race, final: Final) -> None:
    """How many recipes got how far; these rows have no time of their own."""
    ran = [r for r in race.records.values() if r.screening is not None]
    ledger.set_count("recipes in the space", len(race.space))
    ledger.set_count("recipes measured", len(ran))
    ledger.set_count("recipes scored", sum(r.quality is not None for r in race.records.values()))
    ledger.set_count("recipes certified", sum(bool(r.certificates) for r in final.records.values()))
