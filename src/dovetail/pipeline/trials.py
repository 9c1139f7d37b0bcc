"""Tries recipes one by one: build, a quick look at the speed beside an anchor, and the quality of those that could win."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dovetail import plugins
from dovetail.certify.quality import quality_drop
from dovetail.core.errors import DataError, ModelError
from dovetail.core.measurement import Interval, Measurement
from dovetail.core.outcome import CandidateRecord, Fate, Infeasible, Quality
from dovetail.core.protocols import Array, Metric
from dovetail.core.recipe import Recipe
from dovetail.measure.arena import Conditions, Contestant, Runner, screen
from dovetail.measure.child import ChildFailure
from dovetail.pipeline.anchors import Anchors
from dovetail.pipeline.builder import Builder
from dovetail.pipeline.job import Job
from dovetail.search.curriculum import untrained
from dovetail.search.race import PROCESS_SPREAD, Race
from dovetail.search.space import Proposal

FIRST_UNITS = 256
FIRST_LOOK_S = 2.0
TRAINED_LOOK_S = 15.0
"""The same for what was trained: a minute of training follows from what is seen."""
ODD, LOOKS = 0.9, 3
"""Share of the usual speed below which a trained network is looked at again, since training does not change the time; looks
that it gets at most."""
SEARCH_RESAMPLES = 400
"""Of the bootstrap while searching, where intervals choose and prove nothing; some metrics take long to compute."""
LOSSLESS_TOLERANCE = 1e-3
"""Greatest relative difference of outputs, max|y − ŷ| / max|y|, that counts as rounding."""


RIVAL_BLOCKS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """A loaded candidate that others are compared with at once, and its own speed-up over the anchor."""

    runner: Runner
    speedup: Interval

    def over_anchor(self, runner: Runner) -> Interval:
        """Speed-up of another over the anchor, by alternating it with this one: small differences do not drown in the anchor's.

        Raises:
            ChildFailure: one of the two failed.
        """
        block_s = min(max(0.08, 4 * max(runner.typical_s, self.runner.typical_s)), 0.5)
        logs = sorted(screen(runner, self.runner, blocks=RIVAL_BLOCKS, seconds=block_s).log_speedups)
        half = max(PROCESS_SPREAD, (logs[-2] - logs[1]) / 2 if len(logs) > 3 else 0.0)
        point = self.speedup.point * math.exp(statistics.median(logs))
        return Interval(point=point, low=point * math.exp(-half), high=point * math.exp(half))


class Trials:
    """Runs proposals and keeps the anchor, against which every quick look is taken.

    Args:
        job: what is being fitted.
        builder: makes model files.
        conditions: what is the same for all measurements.
        rows: folder of per-unit quality rows.

    Attributes:
        rival: what candidates are compared with beside the anchor; ``None`` for nothing.
    """

    def __init__(self, job: Job, builder: Builder, conditions: Conditions, rows: Path) -> None:
        self._job, self._builder, self._conditions, self._rows = job, builder, conditions, rows
        self.anchors = Anchors(conditions, job.environment.cores)
        self.rival: Rival | None = None

    def open(self, baselines: Sequence[Proposal], shift: float | None = None) -> Proposal:
        """Starts the anchors on the first baseline that runs. It also sets the quality that all others are compared with.

        Args:
            baselines: to try, in order.
            shift: ratio of the anchors in an interrupted run (:meth:`Anchors.calibrate`).

        Raises:
            ModelError: the original runs in none of the runtimes.
        """
        reasons = []
        for proposal in baselines:
            try:
                self._score_original(self.anchors.open(proposal.recipe, self._builder.original(proposal.recipe)))
                self.anchors.calibrate(shift)
                return proposal
            except ChildFailure as exc:
                self.close()
                if exc.outcome.stage in ("score", "reference"):
                    raise DataError(exc.outcome.reason) from exc
                reasons.append(f"{proposal.recipe.runtime}: {exc.outcome.reason}")
        shown = "".join(f"\n    {reason}" for reason in dict.fromkeys(reasons))
        raise ModelError(f"the model runs in none of the runtimes{shown}", where=self._job.name)

    def close(self) -> None:
        """Ends the anchors' processes."""
        self.anchors.close()

    # -- one trial ---------------------------------------------------------------------------------------------------

    def run(self, proposal: Proposal, race: Race) -> CandidateRecord:
        """Builds, loads, times and, where it could win, scores one recipe."""
        record = CandidateRecord(
            recipe=proposal.recipe,
            label=proposal.label,
            fate=Fate.BASELINE if proposal.baseline else Fate.RUNNER_UP,
            reason="",
            is_baseline=proposal.baseline,
        )
        built = self._builder.build(proposal.recipe)
        if isinstance(built, Infeasible):
            return replace(record, infeasible=built)
        record = replace(record, size_bytes=float(built.model.size_bytes()), build_s=built.seconds, notes=built.notes)
        try:
            runner = Runner(Contestant(recipe=proposal.recipe, model=built.model), self._conditions)
        except ChildFailure as exc:
            return replace(record, infeasible=exc.outcome)
        try:
            measurement, speedup = self._looked(runner, usual_speedup(race, proposal.recipe))
            record = replace(record, screening=measurement, speedup=speedup)
            if self._job.judged:
                return self._judged(record, runner, proposal, race)
            self._check_unchanged(runner)
            return record
        except ChildFailure as exc:
            return replace(record, infeasible=exc.outcome)
        finally:
            runner.close()

    def _looked(self, runner: Runner, usual: float | None) -> tuple[Measurement, Interval]:
        """A quick look at the speed; again where it is far below what is usual: something else on the machine may cause it."""
        measurement, speedup = self._look(runner)
        for _ in range(LOOKS - 1):
            if usual is None or speedup.point >= ODD * usual:
                break
            again = self._look(runner)
            measurement, speedup = max((measurement, speedup), again, key=lambda look: look[1].point)
        return measurement, speedup

    def _look(self, runner: Runner) -> tuple[Measurement, Interval]:
        measurement, speedup = self.anchors.look(runner)
        if self.rival is not None and self.rival.runner.child.alive:
            speedup = self.rival.over_anchor(runner)
        return measurement, speedup

    def _difference(self, runner: Runner) -> float:
        """Greatest relative difference to the original's outputs on the timing samples; infinite where they are not finite."""
        error = runner.call("fidelity", reference=str(self._rows / "unchanged.npz"))["max_relative_error"]
        return math.inf if error is None else float(error)

    def _check_unchanged(self, runner: Runner) -> None:
        error = self._difference(runner)
        if error > LOSSLESS_TOLERANCE:
            reason = f"outputs differ from the original's by {error:.2g} (relative); {LOSSLESS_TOLERANCE:g} counts as rounding"
            raise runner.child.failure("quality", reason)

    # -- quality -----------------------------------------------------------------------------------------------------

    def _judged(self, record: CandidateRecord, runner: Runner, proposal: Proposal, race: Race) -> CandidateRecord:
        """Looks at quality where the recipe could win or was trained, or where a promise of equal outputs is not kept.

        What was trained is looked at even where something seems faster: that may turn out to lose too much.
        """
        known = [r for r in race.records.values() if race.proposal(r).quality_key == proposal.quality_key and r.quality]
        if known:
            return replace(record, quality=known[0].quality)
        changed = proposal.lossless and self._difference(runner) > LOSSLESS_TOLERANCE
        trained = is_trained(proposal.recipe)
        if not changed and not trained and not race.promising(record):
            return record
        units = self._units_for(runner.typical_s, TRAINED_LOOK_S if trained else FIRST_LOOK_S)
        return replace(record, quality=self.quality(runner, proposal, units))

    @property
    def first_units(self) -> int:
        """Units of the selection split that the least look at quality takes."""
        return min(FIRST_UNITS, self._job.splits["selection"].units)

    def _units_for(self, call_s: float, look_s: float) -> int:
        """As many units as a look has time for."""
        split = self._job.splits["selection"]
        affordable = int(look_s / call_s * split.units / split.samples)
        return min(split.units, max(self.first_units, affordable))

    def quality(self, runner: Runner, proposal: Proposal, units: int) -> Quality:
        """Drop against the original on ``units`` of the selection split, evenly spread over it."""
        metric = self._metric
        chosen = spread(units, self._job.splits["selection"].units)
        original = np.load(self.reference("selection"), allow_pickle=False)[chosen]
        candidate = self.score(runner, proposal.quality_key, "selection", units)
        seed = self._job.wish.seed
        return quality_drop(metric, original, candidate, split="selection", resamples=SEARCH_RESAMPLES, seed=seed)

    def score(self, runner: Runner, quality_key: str, split: str, units: int | None = None) -> Array:
        """The metric's rows of a recipe on a split, from disk where they were made before."""
        out = self._rows / f"{quality_key}-{split}-{units or 'all'}.npy"
        if not out.exists():
            self._store_outputs(runner, quality_key, split)
            runner.call(
                "score",
                split=str(self._job.splits[split].folder),
                metric=self._job.metric_spec,
                state=dict(self._job.state),
                out=str(out),
                reference=str(self._outputs(split)) if self._metric.needs_reference else None,
                units=None if units is None else spread(units, self._job.splits[split].units),
            )
        rows: Array = np.load(out, allow_pickle=False)
        return rows

    def _store_outputs(self, runner: Runner, quality_key: str, split: str) -> None:
        """Keeps the original's outputs where the metric compares with them."""
        if quality_key == "original" and self._metric.needs_reference and not self._outputs(split).exists():
            runner.call(
                "reference",
                split=str(self._job.splits[split].folder),
                state=dict(self._job.state),
                folder=str(self._outputs(split)),
            )

    def reference(self, split: str) -> Path:
        """File with the original's rows on a split."""
        return self._rows / f"original-{split}-all.npy"

    def _score_original(self, runner: Runner) -> None:
        runner.call("fidelity", reference=str(self._rows / "unchanged.npz"))
        if self._job.judged:
            self.score(runner, "original", "selection")

    def certify_original(self) -> None:
        """Scores the original on the certification split, once.

        Raises:
            DataError: the metric fails on a sample of it.
        """
        try:
            self.score(self.anchors.main, "original", "certification")
        except ChildFailure as exc:
            raise DataError(exc.outcome.reason) from exc

    def reference_value(self) -> float:
        """The original's quality on the selection split, in the metric's unit."""
        return self._metric.value(np.load(self.reference("selection"), allow_pickle=False))

    def scorer_arguments(self) -> dict[str, Any] | None:
        """What the worker's scorer needs, for passes that look at quality; ``None`` where it cannot be judged."""
        if not self._job.judged:
            return None
        return {
            "split": str(self._job.splits["selection"].folder),
            "metric": self._job.metric_spec,
            "state": dict(self._job.state),
            "reference": str(self._outputs("selection")) if self._metric.needs_reference else None,
            "units": spread(self.first_units, self._job.splits["selection"].units),
            "baseline": str(self.reference("selection")),
        }

    def _outputs(self, split: str) -> Path:
        return self._rows / f"outputs-{split}"

    @property
    def _metric(self) -> Metric:
        assert self._job.metric is not None, "quality is judged only where there is a metric"
        return self._job.metric


def usual_speedup(race: Race, recipe: Recipe) -> float | None:
    """Median speed-up of the networks of the same structure that were looked at before; ``None`` where there are none."""
    if not is_trained(recipe):
        return None
    plain = untrained(recipe)
    alike = [r.speedup.point for r in race.records.values() if r.speedup is not None and untrained(r.recipe) == plain]
    return statistics.median(alike) if alike else None


def is_trained(recipe: Recipe) -> bool:
    """Whether one of its passes trains."""
    return any(plugins.compression_pass(step.name).trains for step in recipe.passes)


def spread(count: int, total: int) -> list[int]:
    """``count`` indices evenly spread over ``range(total)``; all of them when there are no more."""
    return [i * total // count for i in range(count)] if count < total else list(range(total))
