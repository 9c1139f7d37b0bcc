"""Ask/tell: which recipe to try next, given what was seen so far.

The order is a guess (assumed gains), the decisions are not: a recipe is left out only when even the optimistic end of its range
is dominated by something measured, and dropped only when its measured interval is.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import NormalDist

from dovetail.core.outcome import CandidateRecord, Fate, Quality
from dovetail.search.space import Proposal

PROCESS_SPREAD = 0.03
"""Half width, in log ratio, within which two quick looks cannot be told apart (processes differ from start to start)."""
TUNE_WITHIN = 0.25
"""Log distance to the best within which a family's other options are tried."""


class Strategy(StrEnum):
    """How the space is walked: ``race`` is the product, the others are what it is compared with."""

    RACE = "race"
    RANDOM = "random"
    EXHAUSTIVE = "exhaustive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What the search optimises.

    Attributes:
        objective: ``latency``, ``throughput``, ``size`` or ``memory``.
        margin: permitted drop in the metric's unit; ``None`` when quality cannot be judged.
        certification_units: independent units that will certify.
        feasible: judges a record against the user's limits (``False`` when it surely breaks one).
    """

    objective: str = "latency"
    margin: float | None = None
    certification_units: int = 0
    feasible: Callable[[CandidateRecord], bool] = lambda record: True

    def cost(self, record: CandidateRecord) -> float:
        """Lower is better; infinite for what has no number."""
        if self.objective == "size":
            value = record.size_bytes
        elif self.objective == "memory":
            value = record.memory_bytes
        else:
            value = None if record.speedup is None else 1.0 / record.speedup.point
        return math.inf if value is None or not math.isfinite(value) else value


def certification_chance(quality: Quality, margin: float, units: int, z_alpha: float = 1.645) -> float:
    """Probability that ``units`` fresh units certify a drop of at most ``margin``, judged from the selection split.

    Normal approximation: the selection estimate has the standard error of its interval, the certification estimate that error
    scaled to ``units``; certified when estimate + z·error stays within the margin.
    """
    z = NormalDist().inv_cdf(0.5 + quality.drop.confidence / 2)
    error = max((quality.drop.high - quality.drop.low) / (2 * z), 1e-12)
    later = error * math.sqrt(quality.n / units) if units else math.inf
    if not math.isfinite(later):
        return 0.0
    return NormalDist().cdf((margin - quality.drop.point - z_alpha * later) / math.hypot(error, later))


class Race:
    """Holds what is known and proposes the next trial.

    Args:
        space: all proposals.
        goal: what is optimised.
        strategy: how the space is walked.
        seed: of the random order.
    """

    def __init__(
        self, space: Sequence[Proposal], goal: Goal, *, strategy: Strategy = Strategy.RACE, seed: int = 0
    ) -> None:
        self.goal = goal
        self.strategy = strategy
        self.space = list(space)
        self.records: dict[str, CandidateRecord] = {}
        self._proposals = {p.recipe.key: p for p in space}
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

    def proposal(self, record: CandidateRecord) -> Proposal:
        """The proposal that a record belongs to."""
        return self._proposals[record.recipe.key]

    # -- ask ---------------------------------------------------------------------------------------------------------

    def ask(self) -> Proposal | None:
        """The next recipe to try; ``None`` when nothing is left that could win."""
        if self.strategy is not Strategy.RACE:
            order = self._shuffled if self.strategy is Strategy.RANDOM else self.space
            baselines_first = sorted(order, key=lambda p: p.tier != 0)
            return next((p for p in baselines_first if p.recipe.key not in self.records), None)
        open_ = [p for p in self.space if p.recipe.key not in self.records]
        for proposal in (p for p in open_ if p.tier == 0):
            if self._baseline_worth(proposal):
                return proposal
        first = [p for p in open_ if p.tier == 1 and not self._dominated(p)]
        if first:
            return min(first, key=self._expected)
        tuned = [p for p in open_ if p.tier == 2 and self._family_cost(p) <= self._best_log() + TUNE_WITHIN]
        return min(tuned, key=self._family_cost) if tuned else None

    def _baseline_worth(self, proposal: Proposal) -> bool:
        """Other options of a baseline whose usual options are many times slower cannot catch up."""
        usual = [r for r in self._ok() if r.recipe.runtime == proposal.recipe.runtime and not r.recipe.passes]
        return not usual or self._log_cost(min(usual, key=self.goal.cost)) <= self._best_log() + math.log(4.0)

    def _runtime_log(self, runtime: str) -> float:
        costs = [self._log_cost(r) for r in self._ok() if r.recipe.runtime == runtime and not r.recipe.passes]
        return min(costs, default=0.0)

    def _expected(self, proposal: Proposal) -> float:
        low, high = proposal.gain
        return self._runtime_log(proposal.recipe.runtime) - 0.5 * (math.log(low) + math.log(high))

    def _dominated(self, proposal: Proposal) -> bool:
        if self.goal.objective not in ("latency", "throughput"):
            return False
        optimistic = self._runtime_log(proposal.recipe.runtime) - math.log(proposal.gain[1])
        return optimistic > self._best_log() + PROCESS_SPREAD

    def _family_cost(self, proposal: Proposal) -> float:
        costs = [
            self._log_cost(r)
            for r in self._ok()
            if self._proposals[r.recipe.key].family == proposal.family and self.passes(r) is not False
        ]
        return min(costs, default=math.inf)

    def _log_cost(self, record: CandidateRecord) -> float:
        cost = self.goal.cost(record)
        return math.log(cost) if 0 < cost < math.inf else math.inf

    # -- judge -------------------------------------------------------------------------------------------------------

    def _ok(self) -> list[CandidateRecord]:
        return [r for r in self.records.values() if r.infeasible is None and math.isfinite(self.goal.cost(r))]

    def _best_log(self) -> float:
        return min((self._log_cost(r) for r in self._ok() if self.passes(r)), default=math.inf)

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
        if self.goal.margin is None or self.proposal(record).lossless:
            return True
        quality = self.quality_of(record)
        if quality is None:
            return None
        return quality.drop.low <= self.goal.margin and quality.drop.point <= 2 * self.goal.margin

    def promising(self, record: CandidateRecord) -> bool:
        """Whether its measured cost could still be the best among those that pass."""
        return self._log_cost(record) <= self._best_log() + 2 * PROCESS_SPREAD

    def chance(self, record: CandidateRecord) -> float:
        """Chance that it will certify; 1 where outputs are unchanged or quality is not judged."""
        if self.goal.margin is None or (self.proposal(record).lossless and self.quality_of(record) is None):
            return 1.0
        quality = self.quality_of(record)
        if quality is None:
            return 0.0
        return certification_chance(quality, self.goal.margin, self.goal.certification_units)

    def ranked(self) -> list[CandidateRecord]:
        """Candidates that pass, best first, baselines left out."""
        fit = [r for r in self._ok() if r.recipe.passes and self.passes(r)]
        return sorted(fit, key=self.goal.cost)

    def finalists(self, k: int) -> list[CandidateRecord]:
        """At most ``k`` candidates to certify: the best that will probably certify, and one that almost surely will.

        Several recipes with the same outputs share one certification of quality, but each takes a place.
        """
        ranked = self.ranked()
        likely = [r for r in ranked if self.chance(r) >= 0.5] or sorted(ranked, key=lambda r: -self.chance(r))
        chosen = likely[:k]
        sure = [r for r in ranked if self.chance(r) >= 0.9]
        if chosen and sure and all(self.chance(r) < 0.9 for r in chosen) and k > 1:
            chosen = [*chosen[: k - 1], sure[0]]
        return chosen

    def baselines(self) -> list[CandidateRecord]:
        """Baselines that pass, best first."""
        fit = [r for r in self._ok() if not r.recipe.passes and self.passes(r)]
        return sorted(fit, key=self.goal.cost)

    def fates(self, chosen: Mapping[str, Fate]) -> list[CandidateRecord]:
        """All records with their fate, and the proposals that never ran."""
        best = self._best_log()
        result = []
        for key, proposal in self._proposals.items():
            record = self.records.get(key)
            if record is None:
                out = self.strategy is Strategy.RACE and (proposal.tier != 1 or self._dominated(proposal))
                fate = Fate.PREDICTED_OUT if out else Fate.OUT_OF_TIME
                reason = "cannot beat what was measured" if out else "the budget ended before its turn"
                result.append(CandidateRecord(recipe=proposal.recipe, label=proposal.label, fate=fate, reason=reason))
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
