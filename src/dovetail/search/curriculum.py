"""Which parts to take away from a network, how long to train in between, and when to stop.

The curriculum goes in steps. Each takes a little of the network away, so much that it is measurably faster in the recipe that
was the fastest so far, and trains what is left to answer as the original does. Every way of taking something away is trained
for a short while; the most promising one goes on until its quality is back. Where that does not happen in its share of the
time it gets the rest, and the steps end where that does not suffice either. So each accepted step costs less than the one
before and keeps the quality. A step that the short training suffices for makes the next one larger.

The last part of the time trains the best result once more, with its 8-bit rounding in the loop.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from dovetail.core.outcome import CandidateRecord
from dovetail.core.recipe import PassSpec, Recipe, freeze
from dovetail.search.chances import certifiable_drop
from dovetail.search.goal import Goal
from dovetail.search.space import Proposal, spec

STEP = 1.10
"""Least gain that a step must bring: processes differ by a few per cent from start to start."""
LEAST = 1.03
"""Least gain of something smaller, once a step has failed."""
LARGEST_STEP = 1.5
"""To which the least gain grows, doubled in its logarithm, while networks recover at once."""
LAST_SHARE = 0.3
"""Of the time: for training the best result once more at the end."""
LONG_SHARE = 0.5
"""Of what is left before that: the most that one step trains its best network for."""
FAR_SHARE = 0.8
"""The same, where more than :data:`NEAR` times the permitted drop is lost after the short training."""
FEW = 30
"""Epochs left up to which they go into one schedule instead of further steps (assumed; on one network 9, then 4 more in a
second schedule, ended no better than the 9)."""
LONGER_SHARE = 0.6
"""Of the time at the end: for training without rounding, where there is some to train under."""
CHUNK = 0.4
"""Of a step's training: after so much of it, it ends where the quality is back."""
SHORT_SHARE = 0.05
"""Of what is left: for the short training of each way of taking something away."""
AWARE_COST = 3.0
"""Assumed: an epoch under 8-bit rounding takes so much longer than one without; the first that runs tells."""
HOPELESS = 0.5
"""Ways that lose more than this share of the original's quality, before any training, are not trained, but for the best of the
first step where all do."""
HOPE = 8.0
"""Ways that lose more than so many times as much for what they gain as the best one, before any training, are not trained."""
NEARLY = 0.8
"""Of the amount that seems needed for a step: smaller ones are not tried, since gains do not grow evenly."""
LEAP = 3.0
"""Times an amount that hardly gained: the most that seems needed, since small gains drown in noise and tell little."""
NEAR = 2.0
"""Times the permitted drop within which more training is thought to give the rest back."""
LAST_TRY = 0.6
"""Of what is left: for training something smaller, once a step has failed."""
EASIER = 0.5
"""Share of what a network lost that was trained in vain, all before training, up to which something smaller may recover."""
EASE = 0.5
"""Share of the permitted drop within which a step counts as recovered, so that later steps have room."""

Steps = Generator[Proposal, CandidateRecord, None]
"""Asks for a trial with ``yield`` and gets what became of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """The recipe that trained networks are made for.

    Attributes:
        proposal: the fastest one, whatever it loses without training.
        record: what was seen of it.
        shapes: way of taking something away → passes, from the least to the most.
        margin: permitted drop.
        units: independent units that will certify; 0 where that is not known.
        cost: what is to become small, of a record; by default the time of a call.
    """

    proposal: Proposal
    record: CandidateRecord
    shapes: Mapping[str, Sequence[PassSpec]]
    margin: float
    units: int = 0
    cost: Callable[[CandidateRecord], float] = Goal().cost


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stand:
    """A network on the way: what led to it, and what was seen of it in the aimed-at recipe.

    ``costs`` are those of all looks at networks of this structure, since training does not change the time.
    """

    passes: tuple[PassSpec, ...] = ()
    record: CandidateRecord
    costs: tuple[float, ...]

    @property
    def cost(self) -> float:
        """The median, of two the lower: a look while something else ran does not count."""
        return statistics.median_low(self.costs)

    @property
    def drop(self) -> float:
        """Of quality; infinite where it was not scored."""
        return math.inf if self.record.quality is None else self.record.quality.drop.point

    @property
    def build_s(self) -> float:
        """Seconds that all its passes took."""
        return self.record.build_s or 0.0


class Curriculum:
    """Asks for trials and learns from them; knows nothing of how they are made.

    Args:
        aim: the recipe that networks are trained for.
        left_s: seconds of training time that are left.

    Attributes:
        accepted: passes that led to networks which keep the quality, each costing less than the one before, and how much less
            than the aim each costs, as a ratio.
        current: the last of them in the aimed-at recipe; at first the aim itself.
    """

    def __init__(self, aim: Aim, left_s: Callable[[], float]) -> None:
        self._aim, self._left_s = aim, left_s
        self._budget_s = left_s()
        self._epoch_s = 0.0
        self._least_gain = STEP
        self._all_spent = False
        self._refusal, self._bearable = "", 0.0
        self._rounding = any(step.name == "quantize_static" for step in aim.proposal.recipe.passes)
        self._looked_at: list[_Stand] = []
        self._tried: set[tuple[PassSpec, ...]] = set()
        self.accepted: dict[tuple[PassSpec, ...], float] = {}
        self.current = aim.record

    def steps(self) -> Steps:
        """The whole curriculum; ends when the time does or nothing more can be taken away.

        Where the recipe loses too much without training, all that is tried is training under its rounding.
        """
        current = _Stand(record=self._aim.record, costs=(self._aim.cost(self._aim.record),))
        if current.drop > self._aim.margin:
            yield from self._last(current, self._budget_s * LAST_SHARE)
            return
        reserve_s = self._budget_s * LAST_SHARE
        while self._left_s() > reserve_s:
            reached = yield from self._step(current, reserve_s)
            if reached is None and self._least_gain > STEP:  # nothing gains so much: a step of the usual size may do
                self._least_gain = STEP
                continue
            stuck = reached is None
            reached = reached or (yield from self._smaller(current))
            if reached is not None:
                current = self._accept(reached)
            if stuck:
                break
        yield from self._last(current, self._left_s())

    def _at_end(self) -> float:
        """Share of the time at the end that plain training may have."""
        return LONGER_SHARE if self._rounding else 1.0

    def _accept(self, stand: _Stand) -> _Stand:
        self.accepted[stand.passes] = self._aim.cost(self._aim.record) / max(stand.cost, 1e-300)
        self.current = stand.record
        return stand

    def _step(self, current: _Stand, reserve_s: float) -> Generator[Proposal, CandidateRecord, _Stand | None]:
        """One step down: the shapes, a short training of each, a long one of the best; ``None`` where it does not recover."""
        shaped, self._looked_at, self._tried, self._bearable = [], [], set(), 0.0
        for ladder in self._aim.shapes.values():
            found = yield from self._least_that_pays(current, ladder)
            if found is not None:
                shaped.append(found)
        least = min(map(self._promise, shaped), default=0.0)
        hopeful = [s for s in shaped if self._promise(s) <= HOPE * least and not self._lost(s)]
        if not hopeful and not current.passes:  # nothing else could come of the time
            hopeful = sorted(shaped, key=self._promise)[:1]
        started = []
        for stand in hopeful:
            self._tried.add(stand.passes)
            trained = yield from self._train(stand, SHORT_SHARE * (self._left_s() - reserve_s))
            if trained is not None:
                started.append(trained)
        if not started:
            return None
        best = min(started, key=self._promise)
        untrained_drops = (s.drop for s in shaped if s.passes == best.passes[:-1] and math.isfinite(s.drop))
        self._bearable = EASIER * max(untrained_drops, default=0.0)
        if self._recovered(best):
            self._least_gain = min(self._least_gain**2, LARGEST_STEP)
            return best
        self._least_gain = STEP
        for share_s in self._shares_s(best, reserve_s):
            if not self._recovered(best) and share_s >= self._epoch_s:
                best = (yield from self._train(best, share_s)) or best
        left_s = self._left_s() - reserve_s
        if not self._keeps(best) and best.drop <= NEAR * self._aim.margin and left_s > self._epoch_s:
            best = (yield from self._train(best, left_s)) or best
        return best if self._keeps(best) else None

    def _shares_s(self, stand: _Stand, reserve_s: float) -> tuple[float, ...]:
        """Seconds of each schedule that a network is trained for after its short training, as long as it needs more.

        One long schedule mends more than short ones one after the other. So what lacks more than the permitted drop gets most
        of the time at once; and all that plain training has left, the end's too, where there are few epochs left and so little
        more is lost that they should do.
        """
        left_s = self._left_s() - reserve_s
        if stand.drop <= self._aim.margin:
            return CHUNK * LONG_SHARE * left_s, (1.0 - CHUNK) * LONG_SHARE * left_s
        all_s = left_s + self._at_end() * reserve_s
        if stand.drop <= NEAR * self._aim.margin and all_s <= FEW * self._epoch_s:
            self._all_spent = True
            return (all_s,)
        return (FAR_SHARE * left_s,)

    def _smaller(self, current: _Stand) -> Generator[Proposal, CandidateRecord, _Stand | None]:
        """After a step that did not recover: less than a step, the most that was looked at for it and lost little.

        Or lost at most half as much, before any training, as what was trained in vain.
        """
        bearable = max(NEAR * self._aim.margin, self._bearable)
        less = [s for s in self._looked_at if s.passes not in self._tried and s.drop <= bearable and not self._lost(s)]
        best = min((s for s in less if LEAST * s.cost <= current.cost), key=lambda stand: stand.cost, default=None)
        share_s = LAST_TRY * self._left_s()
        if best is not None and not self._recovered(best) and share_s >= self._epoch_s:
            best = (yield from self._train(best, share_s)) or best
        return best if best is not None and self._keeps(best) else None

    def _promise(self, stand: _Stand) -> float:
        """Quality lost per logarithm of what is gained, the less the better; losing nothing is as good as the gain is."""
        gain = math.log(max(self._aim.cost(self._aim.record) / max(stand.cost, 1e-300), 1 + 1e-9))
        return max(stand.drop, 0.02 * self._aim.margin) / gain

    def _lost(self, stand: _Stand) -> bool:
        """Whether so much of the quality is gone that little of the network can have been kept."""
        quality = stand.record.quality
        return quality is not None and stand.drop > HOPELESS * abs(quality.reference)

    def _recovered(self, stand: _Stand) -> bool:
        return stand.drop <= EASE * self._aim.margin and self._keeps(stand)

    def _keeps(self, stand: _Stand) -> bool:
        """Whether it loses so little that fresh samples will probably certify it."""
        quality, margin = stand.record.quality, self._aim.margin
        room = -1.0 if quality is None else certifiable_drop(quality, margin, self._aim.units)
        return stand.drop <= (room if room >= 0 else margin)  # where nothing can be certified, the best effort wins

    def _least_that_pays(
        self, current: _Stand, ladder: Sequence[PassSpec]
    ) -> Generator[Proposal, CandidateRecord, _Stand | None]:
        """The first amount on a ladder that gains enough; amounts that cannot, by what the last one gained, are passed over."""
        rest, refused = list(ladder), ""
        while rest:
            shape = rest.pop(0)
            stand = yield from self._try((*current.passes, shape))
            if stand is None:
                if self._refusal and "count" in dict(shape.params):
                    return None  # what has not so many has no more of them
                if self._refusal and self._refusal == refused:
                    rest = rest[-1:]  # a reason given twice will be given again, unless it was too little
                refused = self._refusal
                continue
            refused = ""
            self._looked_at.append(stand)
            gain = math.log(current.cost / max(stand.cost, 1e-300))
            wanted = math.log(self._least_gain)
            if gain >= wanted:
                return stand
            needed = amount(shape) * min(wanted / gain, LEAP) if gain > 0 else 0.0
            while len(rest) > 1 and amount(rest[0]) < NEARLY * needed:
                rest.pop(0)
        return None

    def _train(self, stand: _Stand, share_s: float) -> Generator[Proposal, CandidateRecord, _Stand | None]:
        """Trains for about so many seconds; the first training of all tells how long an epoch takes."""
        if self._left_s() <= 0:
            return None
        epochs = rounded(share_s / self._epoch_s) if self._epoch_s else 1
        trained = yield from self._try((*stand.passes, spec("distil", epochs=epochs)))
        if trained is None:
            return None
        if trained.build_s > stand.build_s:
            self._epoch_s = (trained.build_s - stand.build_s) / epochs
        return replace(trained, costs=(*stand.costs, *trained.costs))

    def _last(self, current: _Stand, share_s: float) -> Steps:
        """Longer training of the best result, then training with its rounding in the loop where there is one."""
        if current.passes and not self._all_spent and share_s > 2 * self._epoch_s:
            longer = yield from self._train(current, share_s * self._at_end())
            if longer is not None and self._keeps(longer):
                current = self._accept(longer)
        if self._rounding:
            aware_s = share_s if self._all_spent else (1 - LONGER_SHARE) * share_s
            yield from self._aware(current, min(self._left_s(), aware_s))

    def _aware(self, current: _Stand, share_s: float) -> Steps:
        """Training under the recipe's rounding: one epoch first, which tells how many there is time for."""
        if share_s <= 0 or (self._epoch_s and share_s < AWARE_COST * self._epoch_s):
            return
        first = yield from self._try(current.passes, aware=1)
        if first is None:
            return
        epoch_s = max(first.build_s - current.build_s, 1e-3)
        epochs = rounded(min(share_s, self._left_s()) / epoch_s)
        if epochs > 1 and self._left_s() > 2 * epoch_s:
            yield from self._try(current.passes, aware=epochs)

    def _try(self, passes: tuple[PassSpec, ...], aware: float = 0) -> Generator[Proposal, CandidateRecord, _Stand | None]:
        """A trial of a network in the aimed-at recipe; ``None`` where it cannot be made."""
        record = yield self.proposal(passes, aware)
        unbuilt = record.infeasible is not None and record.infeasible.stage == "build"
        self._refusal = record.infeasible.reason if record.infeasible is not None and unbuilt else ""
        return None if record.infeasible is not None else _Stand(passes=passes, record=record, costs=(self._aim.cost(record),))

    def proposal(self, passes: tuple[PassSpec, ...], aware: float = 0) -> Proposal:
        """The aimed-at recipe on a network that passes lead to; with ``aware`` epochs of training under its rounding."""
        aim = self._aim.proposal
        if not aware:
            return upon(passes, aim)
        tail = tuple(_with_training(step, aware) if step.name == "quantize_static" else step for step in aim.recipe.passes)
        trained = replace(aim.recipe, passes=tail)
        return upon(passes, replace(aim, recipe=trained, label=f"8-bit training {aware:g} epochs → {aim.label}"))


def upon(passes: tuple[PassSpec, ...], proposal: Proposal, ratio: float = 1.0) -> Proposal:
    """A recipe for the original, applied to the network that passes lead to, which costs less by a ratio."""
    recipe = replace(proposal.recipe, passes=(*passes, *proposal.recipe.passes))
    return replace(
        proposal,
        recipe=recipe,
        label=f"{told(passes)} → {proposal.label}" if passes else proposal.label,
        baseline=False,
        family=Recipe(passes=recipe.passes, runtime=recipe.runtime).key,
        twin="",
        quality_key=recipe.key,
        gain=(proposal.gain[0], proposal.gain[1] * max(ratio, 1.0)),
        lossless=False,
    )


def _with_training(step: PassSpec, epochs: float) -> PassSpec:
    return PassSpec(name="quantize_aware", params=freeze({**dict(step.params), "epochs": epochs}))


def untrained(recipe: Recipe) -> Recipe:
    """The recipe of the same structure and rounding without any training."""
    steps = []
    for step in recipe.passes:
        if step.name == "quantize_aware":
            rest = {name: value for name, value in step.params if name != "epochs"}
            steps.append(PassSpec(name="quantize_static", params=freeze(rest)))
        elif step.name != "distil":
            steps.append(step)
    return replace(recipe, passes=tuple(steps))


def told(passes: Sequence[PassSpec]) -> str:
    """Structure and training in a phrase; trainings that follow each other are added up."""
    parts: list[str] = []
    epochs = 0.0
    for step in passes:
        params = dict(step.params)
        if step.name == "distil":
            epochs += float(str(params["epochs"]))
            continue
        if epochs:
            parts.append(f"{epochs:g} epochs")
            epochs = 0.0
        taken, name = amount(step), step.name.removeprefix("prune_").replace("_", " ")
        name = f"costly {name}" if "cost" in params else name
        parts.append(f"{name} −{taken:g}" if taken else step.name)
    if epochs:
        parts.append(f"{epochs:g} epochs")
    return " → ".join(parts)


def amount(step: PassSpec) -> float:
    """How much a pass takes away, in its own unit, a share of the cost for one; 0 where it does not say."""
    params = {key: float(str(value)) for key, value in step.params if key in ("count", "ratio", "cost")}
    return round(1 - params["cost"], 3) if "cost" in params else params.get("count", params.get("ratio", 0.0))


def rounded(epochs: float) -> int:
    """A whole number of epochs with one or two digits that matter, at least one, so that recipes stay few and legible."""
    if epochs < 1.5:
        return 1
    unit = int(10 ** max(0, math.floor(math.log10(epochs)) - 1))
    return int(epochs // unit) * unit
