"""Makes the network itself smaller: the trials that a curriculum asks for, and what they add to the race."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from dovetail.core import units
from dovetail.core.errors import InputError
from dovetail.core.outcome import CandidateRecord, Infeasible
from dovetail.core.recipe import PassSpec, Recipe, freeze
from dovetail.core.serial import decode, encode
from dovetail.measure.arena import Contestant, Runner
from dovetail.measure.child import ChildFailure
from dovetail.pipeline.trials import Rival, is_trained
from dovetail.search.curriculum import Aim, Curriculum, told, upon
from dovetail.search.race import Race
from dovetail.search.space import Proposal, shapes

if TYPE_CHECKING:
    from dovetail.pipeline.optimize import Fit

WORTH_TELLING = 1.2
"""Gain from which users without training samples are told of it."""
SEEN = 0.1
"""Share of the first training from which its length is told."""
ROUNDING_LEAD = 0.14
"""Log ratio by which a recipe may seem slower that can be trained under its rounding, since graphs of the same operators are
equally fast and looks differ by as much: a trained ResNet-8 at 85.9 % has 83.0 % as NNCF rounds it and 85.4 % as we do."""
NEAR = 1.3
"""Cost relative to the best within which other recipes are tried on a trained network too."""


def improve(fit: Fit, stop: Callable[[], bool]) -> Fit:
    """Trains smaller networks for the fastest recipes and adds them to the race; the deadline moves by what that took."""
    started = time.monotonic()
    fit.progress.stage("train", None)
    fit.builder.deadline = math.inf
    budget_s = fit.job.wish.train_budget_s
    clock = _Clock()
    fit.builder.on_progress = told = _Told(fit.progress.note, budget_s)
    try:
        for aim in _aims(fit):
            curriculum = Curriculum(aim, lambda: 0.0 if stop() else budget_s - clock.spent_s)
            _Follower(fit, clock, told).follow(curriculum, stop)
            fit.race.extend(_on_trained(fit, aim, curriculum.accepted))
        if not told.trained and clock.spent_s >= budget_s:
            what = f"{units.duration(budget_s)} are too short: they were gone before the first epoch began"
            raise InputError(what, where="train_budget", hint="give more time; without --train, what was found is kept")
    finally:
        fit.builder.on_progress = lambda share, text: None
    return replace(fit, deadline=fit.deadline + time.monotonic() - started)


def outlook(fit: Fit) -> str:
    """What training could gain, told by one network that has lost much and was not trained; empty where nothing can be said."""
    for aim in _aims(fit)[-1:]:
        for kind in ("channels", "heads", "blocks"):
            for shape in map(_unfitted, aim.shapes.get(kind, ())[-1:]):
                gain = _gain(fit, upon((shape,), aim.proposal).recipe, aim.record)
                if gain > WORTH_TELLING:
                    return (
                        f"samples to train on (--train) could gain more: {told((shape,))} runs about {gain:.1f}× as fast as"
                        f" {aim.proposal.label} here (a quick look), if training gives the quality back"
                    )
    return ""


def _unfitted(shape: PassSpec) -> PassSpec:
    """The same amount without fitting what remains, where a pass would: only the speed is asked for."""
    fits = shape.name == "prune_channels"
    return PassSpec(name=shape.name, params=freeze({**dict(shape.params), "reconstruct": False})) if fits else shape


def _gain(fit: Fit, recipe: Recipe, against: CandidateRecord) -> float:
    """Measured ratio of the times of a candidate and a recipe; 0 where the recipe cannot run."""
    built = fit.builder.build(recipe)
    if isinstance(built, Infeasible) or against.speedup is None:
        return 0.0
    try:
        runner = Runner(Contestant(recipe=recipe, model=built.model), fit.finals.conditions)
    except ChildFailure:
        return 0.0
    try:
        return fit.trials.anchors.look(runner)[1].point / against.speedup.point
    except ChildFailure:
        return 0.0
    finally:
        runner.close()


def _aims(fit: Fit) -> list[Aim]:
    """The fastest candidate, even one that loses too much, since training may give that back; then the fastest other."""
    race = fit.race
    seen = [replace(r, quality=race.quality_of(r)) for r in race.records.values() if r.infeasible is None]
    scored = sorted((r for r in seen if r.speedup and (r.quality or race.passes(r))), key=_preferred(race))
    kept = [r for r in scored if race.passes(r) and (r.quality is None or r.quality.drop.point <= (race.goal.margin or 0.0))]
    first = [*scored[:1], *kept[:1]]
    goal = race.goal
    if fit.job.workload is None or goal.margin is None:
        return []
    ladders = shapes(frozenset(op.kind for op in fit.job.workload.ops))
    units = goal.certification_units
    aims = [
        Aim(proposal=race.proposal(r), record=r, shapes=ladders, margin=goal.margin, units=units, cost=goal.cost) for r in first
    ]
    return list({aim.proposal.recipe.key: aim for aim in aims}.values())


def _preferred(race: Race) -> Callable[[CandidateRecord], float]:
    """Cost, with a lead for recipes whose rounding can be trained."""

    def cost(record: CandidateRecord) -> float:
        trainable = any(step.name == "quantize_static" for step in record.recipe.passes)
        return race.goal.cost(record) / math.exp(ROUNDING_LEAD if trainable else 0.0)

    return cost


def _on_trained(fit: Fit, aim: Aim, accepted: Mapping[tuple[PassSpec, ...], float]) -> list[Proposal]:
    """The recipes that were nearly as fast as the aimed-at one on the original, on every network that keeps the quality."""
    race = fit.race
    bar = NEAR * race.goal.cost(aim.record)
    plain = {race.proposal(r).family for r in race.leaders() if race.goal.cost(r) <= bar and not is_trained(r.recipe)}
    return [upon(passes, p, ratio) for passes, ratio in accepted.items() for p in list(race.space) if p.family in plain]


class _Clock:
    """Time that training has taken. It moves between trials only, and goes on from where an interrupted run left it.

    So a curriculum that is run again decides as it did before, and finds all its trials in the journal.
    """

    def __init__(self) -> None:
        self.spent_s, self._since = 0.0, time.monotonic()

    def tick(self, spent_s: float | None = None) -> float:
        """Counts what has passed since the last time, or takes what an interrupted run had counted."""
        now = time.monotonic()
        self.spent_s = self.spent_s + now - self._since if spent_s is None else spent_s
        self._since = now
        return self.spent_s


class _Follower:
    """Makes what a curriculum asks for, each compared with the network that it starts from."""

    def __init__(self, fit: Fit, clock: _Clock, told: _Told) -> None:
        self._fit, self._clock, self._told = fit, clock, told
        self._finished = {row["key"]: row for row in fit.journal.of("trial")}

    def follow(self, curriculum: Curriculum, stop: Callable[[], bool]) -> None:
        """To the curriculum's end, or until it is stopped."""
        steps = curriculum.steps()
        try:
            proposal = next(steps)
            while not stop():
                _face(self._fit, curriculum.current)
                proposal = steps.send(self._trial(proposal))
        except StopIteration:
            pass
        finally:
            _face(self._fit, None)

    def _trial(self, proposal: Proposal) -> CandidateRecord:
        """Makes and looks at one network; what an interrupted run had finished is taken from the journal."""
        fit, key = self._fit, proposal.recipe.key
        fit.race.extend([proposal])
        if key in fit.race.records:
            return fit.race.records[key]
        row = self._finished.get(key)
        if row is None:
            self._told.begins(is_trained(proposal.recipe))
            with fit.ledger.stage("training"):
                record = fit.trials.run(proposal, fit.race)
            fit.journal.add("trial", key, {"record": encode(record), "spent_s": self._clock.tick()})
        else:
            self._told.trained |= is_trained(proposal.recipe)
            record = decode(CandidateRecord, row["record"])
            self._clock.tick(row.get("spent_s"))
        fit.race.tell(record)
        fit.progress.advance(1, _shown(record))
        return record


def _face(fit: Fit, record: CandidateRecord | None) -> None:
    """Loads the network that others are compared with, unless it is there already; ``None`` ends its process."""
    rival = fit.trials.rival
    if rival is not None and record is not None and rival.runner.contestant.recipe == record.recipe:
        return
    if rival is not None:
        rival.runner.close()
        fit.trials.rival = None
    if record is not None and record.speedup is not None:
        with contextlib.suppress(ChildFailure):
            fit.trials.rival = Rival(
                runner=Runner(fit.finals.contestant(record), fit.finals.conditions), speedup=record.speedup
            )


def _shown(record: CandidateRecord) -> str:
    if record.infeasible is not None:
        return f"{record.label}: {record.infeasible.reason}"
    speed = "" if record.speedup is None else f"{record.speedup.point:.2f}×"
    drop = "" if record.quality is None else f", drop {record.quality.drop.point:.4g} on {record.quality.n:,}"
    return f"{record.label}: {speed}{drop}"


class _Told:
    """Passes on how far a training is, now and then, and ends the run when the first one shows that the time is too short.

    Args:
        note: told about the progress.
        budget_s: for all training.
        every_s: seconds between notes.

    Attributes:
        trained: a trial that trains has begun, or was taken from the journal.
    """

    def __init__(self, note: Callable[[str], None], budget_s: float, every_s: float = 20.0) -> None:
        self._note, self._budget_s, self._every_s, self._last = note, budget_s, every_s, time.monotonic()
        self._trains, self._sized, self._first = False, False, (0.0, 0.0)
        self.trained = False

    def begins(self, trains: bool) -> None:
        """A trial begins, which trains or does not; only the first that trains is one epoch long for sure."""
        self._first = (0.0, 0.0)
        self._trains = trains and not self.trained
        self.trained |= trains

    def __call__(self, share: float, text: str) -> None:
        now = time.monotonic()
        if self._trains and not self._sized:
            self._size(share, now)
        if now - self._last >= self._every_s:
            self._last = now
            self._note(f"{share:.0%} {text}")

    def _size(self, share: float, now: float) -> None:
        """The first training is one epoch long; refuses a budget that is shorter.

        Raises:
            InputError: it is.
        """
        before, then = self._first
        if not 0 < before <= share:
            self._first = (share, now)
        elif share - before >= SEEN:
            self._sized = True
            epoch_s = (now - then) / (share - before)
            if epoch_s > self._budget_s:
                raise InputError(
                    f"{units.duration(self._budget_s)} are too short: one epoch takes about {units.duration(epoch_s)} here",
                    where="train_budget",
                    hint="give more time or fewer training samples; without --train, what was found before is kept",
                )
