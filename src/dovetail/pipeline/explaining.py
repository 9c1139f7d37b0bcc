"""Profiles the baseline, the answer and the variants that disappointed, and says why they are slow or fast."""

from __future__ import annotations

from dataclasses import replace

from dovetail.core.outcome import CandidateRecord, Fate, FitResult
from dovetail.core.profile import Profile
from dovetail.explain.compare import explain as compare
from dovetail.measure.arena import Runner
from dovetail.measure.child import ChildFailure
from dovetail.pipeline.finals import Finals
from dovetail.pipeline.job import Job

DISAPPOINTMENTS = 4
"""Slow variants that are explained: the first of each family of passes and runtime that is slower than the best baseline."""


def explain(job: Job, finals: Finals, result: FitResult) -> FitResult:
    """The result with profiles, and with explanations of the answer and of what is slower than the best baseline."""
    baseline = result.record(result.best_baseline)
    reference = profile(finals, baseline)
    if reference is None:
        return result
    changed = {baseline.recipe.key: replace(baseline, profile=reference)}
    for record in _worth_explaining(result):
        found = profile(finals, record)
        if found is not None:
            text = compare(reference, found, job.workload, job.environment)
            changed[record.recipe.key] = replace(record, profile=found, explanation=text)
    return replace(result, candidates=tuple(changed.get(c.recipe.key, c) for c in result.candidates))


def profile(finals: Finals, record: CandidateRecord) -> Profile | None:
    """Kernel times of one candidate in a process of its own; ``None`` where it fails or its runtime cannot tell."""
    try:
        with Runner(finals.contestant(record), finals.conditions) as runner:
            return runner.profile()
    except ChildFailure:
        return None


def _worth_explaining(result: FitResult) -> list[CandidateRecord]:
    chosen: list[CandidateRecord] = []
    if result.winner and result.winner != result.best_baseline:
        chosen.append(result.record(result.winner))
    slow = [r for r in result.candidates if r.fate in (Fate.TOO_SLOW, Fate.FINALIST, Fate.RUNNER_UP) and r.screening]
    families: set[tuple[str, str]] = set()
    for record in sorted(slow, key=lambda r: -(r.latency_s or 0.0)):
        name = record.recipe.passes[-1].name if record.recipe.passes else ""
        if name.startswith("quantize") and (name, record.recipe.runtime) not in families and len(families) < DISAPPOINTMENTS:
            families.add((name, record.recipe.runtime))
            chosen.append(record)
    return chosen
