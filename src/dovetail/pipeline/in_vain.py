"""Says why training did not change the answer, from what was tried."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from dovetail.core.outcome import CandidateRecord, FitResult, Infeasible
from dovetail.core.recipe import Recipe
from dovetail.pipeline.trials import is_trained
from dovetail.report import phrases
from dovetail.search.space import STRUCTURAL

REASONS = 3
"""Reasons that are told at most."""


def in_vain(result: FitResult) -> str:
    """One sentence where the answer is neither a trained nor a smaller network; empty where it is."""
    records = result.candidates
    smaller = [record for record in records if _is_smaller(record.recipe)]
    if any(r.recipe.key == result.winner and (is_trained(r.recipe) or _is_smaller(r.recipe)) for r in records):
        return ""
    trained = [record for record in records if is_trained(record.recipe) and record.infeasible is None]
    made = [record for record in smaller if record.infeasible is None and record.speedup is not None]
    refused = "; ".join(list(dict.fromkeys(_why(r.infeasible) for r in smaller if r.infeasible is not None))[:REASONS])
    if trained:
        why = "" if made or not refused else f"; nothing could be taken away: {refused}"
        return f"training did not change the answer: {_best(trained, result)}{why}"
    if made:
        most, word = (min(made, key=_size), "smallest") if result.objective == "size" else (max(made, key=_speed), "fastest")
        return f"training had nothing worth it: {most.label}, the {word} smaller network, {_told(most, result.metric)}"
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


def _why(refusal: Infeasible) -> str:
    """A pass's own words, without the file that it worked on and its advice."""
    return re.sub(r"^/.+?: ", "", refusal.reason.splitlines()[0])


def _is_smaller(recipe: Recipe) -> bool:
    return any(step.name in STRUCTURAL for step in recipe.passes)


def _speed(record: CandidateRecord) -> float:
    return 0.0 if record.speedup is None else record.speedup.point


def _size(record: CandidateRecord) -> float:
    return math.inf if record.size_bytes is None else record.size_bytes


def _drop(record: CandidateRecord) -> float:
    return 0.0 if record.quality is None else record.quality.drop.point
