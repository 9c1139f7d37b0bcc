"""Ask/tell: which recipe to try next, given what was seen so far.

The order is a guess (assumed gains, or a forecast where the machine is calibrated), the decisions are not: a recipe is left
out only when even the optimistic end of its range is dominated by something measured, and dropped only when its measured
interval is.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from dovetail.core.calibration import CALIBRATED
from dovetail.core.estimate import Estimate
from dovetail.core.measurement import Interval
from dovetail.core.outcome import CandidateRecord, Fate, Quality
from dovetail.core.recipe import Recipe
from dovetail.search.chances import certifiable, certification_chance
from dovetail.search.goal import Goal, Strategy
from dovetail.search.space import Proposal

PROCESS_SPREAD = 0.03
"""Half width, in log ratio, within which two quick looks cannot be told apart (processes differ from start to start)."""
PHASE_SPREAD = 0.05
"""What the ratio of two quick looks may move by beside that, in log ratio, since they were taken in different minutes."""
TUNE_WITHIN = 0.25
"""Log gain that an option may bring whose effect in this runtime was not seen yet."""
LOOK_ERROR = 0.03
"""Standard error, in log ratio, of what an option seemed to gain between two quick looks."""
OPTION_WITHIN = 2.0
"""Factor that an option may change the time of the original by (assumed); threads more, where there are many."""
THREADS_WITHIN = 0.25
"""The same for fewer threads, as a share of how many there are (assumed)."""
SURE = 0.9
"""Chance of certification from which a candidate needs no twin with other constants."""
OPEN_PLACES = 3
"""Candidates measured to the end where the data can certify none: what they lose there decides which is handed out, and no
quality is claimed of it."""
CERTAIN = 0.99
"""Chance of certification from which a finalist needs none beside it that is slower."""


def _unseen_gain(option: str, before: object, after: object) -> float:
    """Log gain that an option may bring whose effect was not seen; a runtime's usual number of threads may be one."""
    if option == "threads" and isinstance(after, int) and not isinstance(before, int):
        return max(TUNE_WITHIN, math.log(after))
    return TUNE_WITHIN


Forecast = Callable[[Recipe, Recipe], Estimate | None]
"""Time of a recipe over that of one that was measured, with an interval; ``None`` where nothing is known of either."""


class Race:
    """Holds what is known and proposes the next trial.

    Args:
        space: all proposals.
        goal: what is optimised.
        strategy: how the space is walked.
        seed: of the random order.
        forecast: from a calibration of this machine.

    Attributes:
        records: recipe key → what became of it.
        finished: nothing is left that could win.
    """

    def __init__(
        self,
        space: Sequence[Proposal],
        goal: Goal,
        *,
        strategy: Strategy = Strategy.RACE,
        seed: int = 0,
        forecast: Forecast | None = None,
    ) -> None:
        self.goal = goal
        self._forecast = forecast
        self._outlooks: dict[str, Interval | None] = {}
        self._floors: dict[str, Interval | None] = {}
        self.strategy = strategy
        self.space = list(space)
        self.records: dict[str, CandidateRecord] = {}
        self.finished = False
        self._proposals = {p.recipe.key: p for p in space}
        threads = [dict(p.recipe.options).get("threads") for p in space]
        self._cores = max((count for count in threads if isinstance(count, int)), default=1)
        self._passed_over: dict[str, str] = {}
        self._shuffled = list(space)
        random.Random(seed).shuffle(self._shuffled)

    # -- tell --------------------------------------------------------------------------------------------------------

    def extend(self, proposals: Sequence[Proposal]) -> None:
        """Adds recipes found on the way (float islands)."""
        for proposal in proposals:
            if proposal.recipe.key not in self._proposals:
                self._proposals[proposal.recipe.key] = proposal
                self.space.append(proposal)
                self._shuffled.append(proposal)

    def tell(self, record: CandidateRecord) -> None:
        """Files what became of a trial; a later record of the same recipe replaces the earlier."""
        self.records[record.recipe.key] = record
        self._outlooks, self._floors = {}, {}

    def proposal(self, record: CandidateRecord) -> Proposal:
        """The proposal that a record belongs to."""
        return self._proposals[record.recipe.key]

    # -- ask ---------------------------------------------------------------------------------------------------------

    def ask(self) -> Proposal | None:
        """The next recipe to try; ``None`` when nothing is left that could win, and the race is finished."""
        proposal = self._next()
        self.finished = proposal is None
        if self.finished:
            self._passed_over = {key: self._why(p) for key, p in self._proposals.items() if key not in self.records}
        return proposal

    def _next(self) -> Proposal | None:
        if self.strategy is not Strategy.RACE:
            order = self._shuffled if self.strategy is Strategy.RANDOM else self.space
            baselines_first = sorted(order, key=lambda p: not p.baseline)
            return next((p for p in baselines_first if p.recipe.key not in self.records), None)
        return self._next_baseline() or self._next_threads() or self._next_first_look() or self._next_tuned()

    def _next_baseline(self) -> Proposal | None:
        """Every runtime with its usual options first, then with others that may make it the fastest."""
        for proposal in (p for p in self.space if p.baseline and p.recipe.key not in self.records):
            slow = self._surely_slower(proposal, self._baseline_bar()) or self._least_of_original(proposal) > self._bar()
            if not (proposal.recipe.options and slow):
                return proposal
        return None

    def _least_of_original(self, proposal: Proposal) -> float:
        """Log cost that options may at best bring the original to, as other options of the same runtime tell."""
        told = []
        for record in (r for r in self._ok() if r.is_baseline and r.recipe.runtime == proposal.recipe.runtime):
            changed = self._changed(dict(record.recipe.options), proposal)
            factors = [self._within(name, after) for name, _, after in changed]
            told.append(self._log_cost(record) - math.log(math.prod(factors)))
        return max(told, default=math.inf)

    def _within(self, option: str, after: object) -> float:
        """Factor that an option may gain on the original: threads as many as they become, fewer ones a share of all."""
        many = max(after if isinstance(after, int) else 1, THREADS_WITHIN * self._cores) if option == "threads" else 1
        return max(OPTION_WITHIN, many)

    def _next_threads(self) -> Proposal | None:
        """Another thread count for the best candidate so far, where its effect in that runtime was not seen yet.

        It can be worth more than any rewriting of the graph, and what is best sets the bar for all that follows.
        """
        candidates = [r for r in self._ok() if not r.is_baseline and self.passes(r)]
        best = min(candidates, key=self._log_cost, default=None)
        if best is None or self._log_cost(best) > self._best():
            return None
        seen, options = self._gains(), dict(best.recipe.options)
        for proposal in self.space:
            if proposal.recipe.key in self.records or proposal.family != self.proposal(best).family:
                continue
            changed = self._changed(options, proposal)
            if [name for name, *_ in changed] == ["threads"] and (proposal.recipe.runtime, *changed[0]) not in seen:
                outlook = self._outlook(proposal)
                if outlook is None or outlook.low < self._best():
                    return proposal
        return None

    def _next_first_look(self) -> Proposal | None:
        """The most promising chain that its runtime has not run yet, with the options that suit the runtime best so far."""
        unseen: dict[str, list[Proposal]] = {}
        seen = {self._proposals[key].family for key in self.records}
        for proposal in self.space:
            if proposal.family not in seen and not proposal.baseline:
                unseen.setdefault(proposal.family, []).append(proposal)
        worth = [self._as_usual(family) for family in unseen.values()]
        worth = [p for p in worth if not self._dominated(p) and not self._twin_suffices(p)]
        return min(worth, key=self._expected, default=None)

    def _as_usual(self, family: Sequence[Proposal]) -> Proposal:
        """The forecast's choice of options, or those of the best recipe in the same runtime so far."""
        outlooks = [(outlook.point, n) for n, p in enumerate(family) if (outlook := self._outlook(p))]
        if outlooks:
            return family[min(outlooks)[1]]
        runtime = family[0].recipe.runtime
        tried = [r for r in self._ok() if r.recipe.runtime == runtime]
        for record in sorted(tried, key=self._log_cost):
            same = [p for p in family if p.recipe.options == record.recipe.options]
            if same and self.passes(record) is not False:
                return same[0]
        return family[0]

    def _next_tuned(self) -> Proposal | None:
        """The neighbour, one option away from the best recipe of a family, that could gain most on the best of all.

        What an option gains is taken from pairs of recipes in the same runtime that differ in it alone; one that was never
        seen may gain :data:`TUNE_WITHIN`, and threads as much as there are of them.
        """
        gains = self._gains()
        found: tuple[float, Proposal] | None = None
        for record in self.leaders():
            options = dict(record.recipe.options)
            for proposal in self.space:
                if proposal.recipe.key in self.records or proposal.family != self.proposal(record).family:
                    continue
                changed = self._changed(options, proposal)
                if len(changed) != 1:
                    continue
                hoped = self._log_cost(record) - gains.get((proposal.recipe.runtime, *changed[0]), _unseen_gain(*changed[0]))
                outlook = self._outlook(proposal)
                hoped = hoped if outlook is None else max(hoped, outlook.low)
                if hoped < self._best() and (found is None or hoped < found[0]):
                    found = hoped, proposal
        return None if found is None else found[1]

    def _gains(self) -> dict[tuple[str, str, object, object], float]:
        """(runtime, option, from, to) → log gain that the change may bring, judged by those seen so far."""
        seen: dict[tuple[str, str, object, object], list[float]] = {}
        by_family: dict[str, list[CandidateRecord]] = {}
        for record in self._ok():
            by_family.setdefault(self.proposal(record).family, []).append(record)
        for records in by_family.values():
            for a, b in itertools.permutations(records, 2):
                changed = self._changed(dict(a.recipe.options), self.proposal(b))
                if len(changed) == 1:
                    gain = self._log_cost(a) - self._log_cost(b)
                    seen.setdefault((a.recipe.runtime, *changed[0]), []).append(gain)
        return {key: max(gains) + LOOK_ERROR / math.sqrt(len(gains)) for key, gains in seen.items()}

    def _best(self) -> float:
        """Log cost of the best that passes."""
        return min((self._log_cost(r) for r in self._ok() if self.passes(r)), default=math.inf)

    def _changed(self, options: Mapping[str, object], other: Proposal) -> list[tuple[str, object, object]]:
        """Options in which a recipe differs from given ones: name, value here, value there."""
        theirs = dict(other.recipe.options)
        names = sorted(options.keys() | theirs.keys())
        return [(n, options.get(n), theirs.get(n)) for n in names if options.get(n) != theirs.get(n)]

    def leaders(self) -> list[CandidateRecord]:
        """The best recipe of each family that passes as far as is known, best first."""
        best: dict[str, CandidateRecord] = {}
        for record in sorted(self._ok(), key=self._log_cost):
            if self.passes(record) is not False:
                best.setdefault(self.proposal(record).family, record)
        return list(best.values())

    def _outlook(self, proposal: Proposal) -> Interval | None:
        """Log cost that the forecast gives a recipe, from whichever measured one tells it most narrowly."""
        if self._forecast is None or not self.goal.timed:
            return None
        key = proposal.recipe.key
        if key not in self._outlooks:
            self._outlooks[key] = self._outlook_from(proposal, self._ok(), self._forecast)
        return self._outlooks[key]

    def _outlook_from(self, proposal: Proposal, measured: Sequence[CandidateRecord], forecast: Forecast) -> Interval | None:
        found = []
        for record in measured:
            ratio = forecast(proposal.recipe, record.recipe)
            if ratio is not None:
                cost = self._log_cost(record)
                point, low, high = (cost + math.log(value) for value in (ratio.value, ratio.low, ratio.high))
                found.append(Interval(point=point, low=low, high=high, confidence=ratio.coverage or 0.0))
        return min(found, key=lambda outlook: outlook.high - outlook.low, default=None)

    def _surely_slower(self, proposal: Proposal, bar: float) -> bool:
        """Whether even the optimistic end of its forecast lies above a bar."""
        outlook = self._outlook(proposal)
        return outlook is not None and outlook.low > bar

    def _baseline_bar(self) -> float:
        """Log cost that some baseline which passes surely reaches."""
        return min((self._pessimistic(r) for r in self._ok() if r.is_baseline and self.passes(r)), default=math.inf)

    def _runtime_log(self, runtime: str) -> float:
        costs = [self._log_cost(r) for r in self._ok() if r.recipe.runtime == runtime and not r.recipe.passes]
        return min(costs, default=0.0)

    def _expected(self, proposal: Proposal) -> float:
        outlook = self._outlook(proposal)
        if outlook is not None:
            return outlook.point
        low, high = proposal.gain
        plain = self._float_outlook(proposal.recipe.runtime)
        if plain is not None:
            return plain.point - 0.5 * math.log(low * high)
        return self._runtime_log(proposal.recipe.runtime) - 0.5 * math.log(low * high * proposal.reach)

    def _dominated(self, proposal: Proposal) -> bool:
        if not self.goal.timed:
            return False
        twins = [self._optimistic(r) for r in self._ok() if self.proposal(r).family == proposal.twin]
        if twins:
            return min(twins) > self._bar()
        outlook = self._outlook(proposal)
        if outlook is not None:
            return outlook.low > self._bar()
        plain = self._float_outlook(proposal.recipe.runtime)
        if plain is not None:
            return plain.low - math.log(proposal.gain[1]) > self._bar()
        return self._runtime_log(proposal.recipe.runtime) - math.log(proposal.gain[1] * proposal.reach) > self._bar()

    def _float_outlook(self, runtime: str) -> Interval | None:
        """Log cost that the forecast leaves to unchanged outputs in a runtime: of the one that may be least."""
        if runtime not in self._floors:
            plain = [p for p in self.space if p.recipe.runtime == runtime and p.lossless]
            found = [self._outlook(p) for p in plain if {name for name, _ in p.recipe.options} <= CALIBRATED]
            self._floors[runtime] = min((o for o in found if o is not None), key=lambda outlook: outlook.low, default=None)
        return self._floors[runtime]

    def _twin_suffices(self, proposal: Proposal) -> bool:
        """Same graph with other constants: worth a look only where the twin's quality is in doubt, or it does not run."""
        if not proposal.twin or not self.goal.timed:
            return False
        tried = [r for r in self.records.values() if self.proposal(r).family == proposal.twin]
        return not tried or any(self.passes(r) and self.chance(r) >= SURE for r in tried)

    def _log_cost(self, record: CandidateRecord) -> float:
        cost = self.goal.cost(record)
        return math.log(cost) if 0 < cost < math.inf else math.inf

    # -- judge -------------------------------------------------------------------------------------------------------

    def _ok(self) -> list[CandidateRecord]:
        return [r for r in self.records.values() if r.infeasible is None and math.isfinite(self.goal.cost(r))]

    def _bar(self) -> float:
        """Log cost that something which passes surely reaches: what lies above it with all of its interval is dominated."""
        return min((self._pessimistic(r) for r in self._ok() if self.passes(r)), default=math.inf)

    def _optimistic(self, record: CandidateRecord) -> float:
        interval = record.speedup
        return -math.log(interval.high) if interval is not None and self.goal.timed else self._log_cost(record)

    def _pessimistic(self, record: CandidateRecord) -> float:
        interval = record.speedup
        return -math.log(interval.low) if interval is not None and self.goal.timed else self._log_cost(record)

    def quality_of(self, record: CandidateRecord) -> Quality | None:
        """Quality of a recipe, its own or that of one with the same outputs."""
        if record.quality is not None:
            return record.quality
        key = self.proposal(record).quality_key
        same = [r.quality for r in self.records.values() if r.quality and self.proposal(r).quality_key == key]
        return max(same, key=lambda q: q.n, default=None)

    def passes(self, record: CandidateRecord) -> bool | None:
        """Whether quality and limits allow it, as far as is known: ``None`` when quality was not looked at."""
        if record.infeasible is not None or not self.goal.feasible(record):
            return False
        if self.goal.margin is None:
            return True
        quality = self.quality_of(record)
        if quality is None:
            return True if self.proposal(record).lossless else None
        return quality.drop.low <= self.goal.margin and quality.drop.point <= 2 * self.goal.margin

    def promising(self, record: CandidateRecord) -> bool:
        """Whether its quality matters: it could be the best of those that pass, or is a baseline of lower precision."""
        if record.is_baseline and not self.proposal(record).lossless:
            return self._optimistic(record) <= self._bar() + math.log(2.0)
        return self._optimistic(record) <= self._bar()

    def chance(self, record: CandidateRecord) -> float:
        """Chance that it will certify; 1 where quality is not judged, or outputs are unchanged and none seen to be worse."""
        quality = self.quality_of(record)
        if self.goal.margin is None:
            return 1.0
        if self.proposal(record).lossless and (quality is None or quality.drop.point <= 0):
            return 1.0
        if quality is None:
            return 0.0
        return certification_chance(quality, self.goal.margin, self.goal.certification_units)

    def open(self, record: CandidateRecord) -> bool:
        """Whether it keeps the limit as far as was seen, where the certification split is too small to certify anything.

        Then it can win as a best effort; what leaves outputs unchanged is no such case.
        """
        quality, margin = self.quality_of(record), self.goal.margin
        if quality is None or margin is None or self.proposal(record).lossless:
            return False
        return quality.drop.point <= margin and not certifiable(quality, margin, self.goal.certification_units)

    def ranked(self) -> list[CandidateRecord]:
        """Candidates that pass, best first, baselines left out."""
        return sorted((r for r in self._ok() if not r.is_baseline and self.passes(r)), key=self.goal.cost)

    def finalists(self, k: int) -> list[CandidateRecord]:
        """At most ``k`` candidates to certify, each of another family: the best that will probably certify.

        Where none of them is sure to, the last place goes to the best that is; where none can, since the certification split is
        too small, that one comes on top of several that can win as a best effort.
        """
        best = [r for r in self.leaders() if not r.is_baseline and self.passes(r)]
        likely = [r for r in best if self.chance(r) >= 0.5 or self.open(r)] or sorted(best, key=lambda r: -self.chance(r))
        chosen = self._by_turns(likely)[:k]
        sure = [r for r in best if self.chance(r) >= SURE]
        if chosen and all(self.open(r) for r in chosen):
            return [*self._open_finalists(likely, max(k, OPEN_PLACES)), *sure[:1]]
        if sure and k > 1 and all(self.chance(r) < SURE for r in chosen):
            chosen = [*chosen[: k - 1], sure[0]]
        return chosen

    def _open_finalists(self, likely: Sequence[CandidateRecord], k: int) -> list[CandidateRecord]:
        """Those that can win as a best effort: of equally fast ones, the ones that seem to lose least."""
        ranked = [r for r in self._by_turns(likely) if self.open(r)]
        if not self.goal.timed:
            return ranked[:k]
        bar = self._pessimistic(ranked[0])
        level = sum(self._optimistic(r) <= bar for r in ranked)
        return [*sorted(ranked[:level], key=self._drop), *ranked[level:]][:k]

    def _drop(self, record: CandidateRecord) -> float:
        quality = self.quality_of(record)
        return math.inf if quality is None else quality.drop.point

    def contenders(self, finalists: Sequence[CandidateRecord]) -> list[CandidateRecord]:
        """Finalists without those that are slower, with all of their interval, than one that is certain to certify."""
        certain = [r for r in finalists if self.chance(r) >= CERTAIN]
        if not certain or not self.goal.timed:
            return list(finalists)
        bar = min(self._pessimistic(r) for r in certain)
        return [r for r in finalists if self._optimistic(r) <= bar]

    def as_fast(self, records: Sequence[CandidateRecord]) -> list[CandidateRecord]:
        """Those of some records that may be the fastest of them as far as quick looks can tell, fastest first."""
        timed = {r.recipe.key: r.speedup for r in records if r.speedup is not None}
        bar = max((seen.low for seen in timed.values()), default=0.0) / math.exp(PHASE_SPREAD)
        near = [r for r in records if r.recipe.key in timed and timed[r.recipe.key].high >= bar]
        return sorted(near, key=lambda r: -timed[r.recipe.key].point)

    def _by_turns(self, records: Sequence[CandidateRecord]) -> list[CandidateRecord]:
        """The best by each objective in turn, each record once."""
        orders = [sorted(records, key=partial(self.goal.cost, objective=o)) for o in self.goal.objectives]
        turns = [record for rank in zip(*orders, strict=True) for record in rank]
        return list({r.recipe.key: r for r in turns}.values())

    def default(self) -> CandidateRecord:
        """The original with the usual options of the first runtime that runs it, the "before" of every table."""
        return next(r for r in self.records.values() if r.is_baseline and r.infeasible is None)

    def baselines(self) -> list[CandidateRecord]:
        """Baselines that pass, best first."""
        fit = [r for r in self._ok() if r.is_baseline and self.passes(r)]
        return sorted(fit, key=self.goal.cost)

    def fates(self, chosen: Mapping[str, Fate]) -> list[CandidateRecord]:
        """All records with their fate, and the proposals that never ran."""
        best = min((self._log_cost(r) for r in self._ok() if self.passes(r)), default=math.inf)
        result = []
        for key, proposal in self._proposals.items():
            record = self.records.get(key)
            if record is None:
                result.append(self._untried(proposal))
                continue
            if key in chosen:
                result.append(replace(record, fate=chosen[key]))
            elif record.infeasible is not None:
                result.append(replace(record, fate=Fate.INFEASIBLE, reason=record.infeasible.reason))
            elif record.is_baseline:
                result.append(replace(record, fate=Fate.BASELINE))
            else:
                result.append(self._judged(record, best))
        return result

    def _untried(self, proposal: Proposal) -> CandidateRecord:
        reason = self._passed_over.get(proposal.recipe.key) if self.finished and self.strategy is Strategy.RACE else None
        fate = Fate.OUT_OF_TIME if reason is None else Fate.PREDICTED_OUT
        reason = reason or "the budget ended before its turn"
        return CandidateRecord(recipe=proposal.recipe, label=proposal.label, fate=fate, reason=reason)

    def _why(self, proposal: Proposal) -> str:
        """Why the race ended without trying a recipe."""
        if any(self.proposal(r).family == proposal.family for r in self.records.values()):
            return "its options gained too little with other recipes in this runtime to make it the best"
        if self.goal.timed and self._surely_slower(proposal, self._bar()):
            return "even the optimistic end of what the machine's calibration predicts is slower than what was measured"
        if self._twin_suffices(proposal):
            return "the same graph with other constants as one whose quality suffices"
        return "even at its assumed best slower than what was measured"

    def _judged(self, record: CandidateRecord, best: float) -> CandidateRecord:
        behind = self._log_cost(record) - best
        quality = self.quality_of(record)
        if self.passes(record) is False and quality is not None and self.goal.margin is not None:
            reason = f"quality drop {quality.drop.point:.4g} on {quality.n} samples; the limit is {self.goal.margin:.4g}"
            return replace(record, fate=Fate.QUALITY, reason=reason, quality=quality)
        if self.passes(record) is False:
            return replace(record, fate=Fate.INFEASIBLE, reason=record.reason or "breaks a limit")
        if behind > 2 * PROCESS_SPREAD:
            return replace(record, fate=Fate.TOO_SLOW, reason=f"{math.exp(behind):.2f}× the best one's cost")
        return replace(record, fate=Fate.RUNNER_UP, reason=record.reason or "close to the best, not among the finalists")
