"""Says why training did not change the answer, from what was tried."""

from __future__ import annotations

from collections.abc import Iterable

from dovetail.core.outcome import CandidateRecord, FitResult
from dovetail.core.recipe import Recipe
from dovetail.pipeline.trials import is_trained
from dovetail.report import phrases
from dovetail.search.space import STRUCTURAL

REASONS = 3
"""Reasons that are told at most."""


def in_vain(result: FitResult) -> str:
    """One sentence where the answer is not a trained network; empty where it is."""
    records = result.candidates
    if any(record.recipe.key == result.winner and is_trained(record.recipe) for record in records):
        return ""
    smaller = [record for record in records if _is_smaller(record.recipe)]
    trained = [record for record in records if is_trained(record.recipe) and record.infeasible is None]
    made = [record for record in smaller if record.infeasible is None and record.speedup is not None]
    refused = "; ".join(list(dict.fromkeys(r.infeasible.reason for r in smaller if r.infeasible is not None))[:REASONS])
    if trained:
        why = "" if made or not refused else f"; nothing could be taken away: {refused}"
        return f"training did not change the answer: {_best(trained, result)}{why}"
    if made:
        most = max(made, key=_speed)
        return f"training had nothing worth it: {most.label}, the fastest smaller network, {_told(most, result.metric)}"
    return f"training had nothing to do: {refused or 'nothing can be taken away from this network'}"


def _best(trained: Iterable[CandidateRecord], result: FitResult) -> str:
    """What became of the trained network that came nearest to an answer: the fastest that keeps the quality, else the best."""
    margin = result.margin if result.margin is not None else 0.0
    judged = [record for record in trained if record.quality is not None]
    kept = [record for record in judged if _drop(record) <= margin]
    best = max(kept, key=_speed) if kept else min(judged, key=_drop, default=None)
    if best is None:
        return "no trained network was judged"
    why = f": {best.reason}" if kept else f" ({result.max_drop} permitted)"
    return f"{best.label} {_told(best, result.metric)}{why}"


def _told(record: CandidateRecord, metric: str) -> str:
    speed = "" if record.speedup is None else f"is at {record.speedup.point:.2f}×"
    drop = None if record.quality is None else record.quality.drop.point
    lost = "" if drop is None else f"loses {phrases.drop(metric, drop) if drop > 0 else 'nothing'}"
    return " and ".join(filter(None, (speed, lost)))


def _is_smaller(recipe: Recipe) -> bool:
    return any(step.name in STRUCTURAL for step in recipe.passes)


def _speed(record: CandidateRecord) -> float:
    return 0.0 if record.speedup is None else record.speedup.point


def _drop(record: CandidateRecord) -> float:
    return 0.0 if record.quality is None else record.quality.drop.point
