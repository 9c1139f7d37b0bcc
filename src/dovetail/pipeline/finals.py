"""The end of a search: full quality for the best, finalists, the final measurement in fresh processes, and the certificates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dovetail.certify.quality import certify_family
from dovetail.core.certificate import Certificate, Verdict
from dovetail.core.errors import DovetailError
from dovetail.core.measurement import Interval
from dovetail.core.outcome import CandidateRecord, Infeasible
from dovetail.data.looks import record_look
from dovetail.devices.probe import Disturbance, disturbance
from dovetail.measure.arena import Conditions, Contestant, Duel, Runner, duel
from dovetail.measure.child import ChildFailure
from dovetail.measure.statistics import min_samples, supported_quantiles
from dovetail.pipeline.builder import Builder
from dovetail.pipeline.job import Job
from dovetail.pipeline.judging import Judge
from dovetail.pipeline.side_by_side import AT_ONCE, side_by_side
from dovetail.pipeline.trials import Trials
from dovetail.search.race import Race

ROUNDS = 8
BLOCKS = 3
BLOCK_S = 0.1
"""Processes differ from start to start by more than blocks of one process do, so rounds are worth more than longer blocks."""
LONGEST_BLOCK_S = 2.0
SPARE_CALLS = 1.5
"""Calls timed for a limit on a quantile, relative to the fewest that support it."""
REFINE_ROUNDS = 2
REFINED, REFINED_BASELINES = 5, 3
START_S = 0.4
"""Seconds a process takes beside loading and timed blocks: warm-up, closing, answers."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """What the final measurement and the certificates say.

    Attributes:
        records: finalists and compared baselines by recipe key, with measurement, speed-up over the best baseline and
            certificates.
        default_baseline: recipe key of the original as its first runtime runs it by default.
        best_baseline: recipe key of the fastest baseline that keeps the quality.
        counted: recipe keys of the baselines that were measured and keep the quality.
        finalists: recipe keys of the candidates that were measured, best first.
        duel: the raw material, for the evidence file.
    """

    records: Mapping[str, CandidateRecord]
    default_baseline: str
    best_baseline: str
    counted: frozenset[str]
    finalists: tuple[str, ...]
    duel: Duel


def places(job: Job) -> int:
    """How many candidates may be certified; fixed before the certification split is looked at.

    Every place costs power (Holm), so small certification splits get one.
    """
    if job.wish.variants:
        return job.wish.variants
    if not job.judged:
        return 3
    units = job.splits["certification"].units if "certification" in job.splits else 0
    return 3 if units >= 2000 else 2 if units >= 1000 else 1


class Finals:
    """Measures and certifies the best of a race.

    Args:
        job: what is being fitted.
        builder: makes model files.
        trials: scores quality.
        conditions: what is the same for all measurements.
        cache: where looks at certification data are counted.
    """

    def __init__(self, job: Job, builder: Builder, trials: Trials, conditions: Conditions, cache: Path) -> None:
        self._job, self._builder, self._trials, self._cache = job, builder, trials, cache
        self.conditions = conditions
        self.rounds = ROUNDS

    def estimate_s(self, race: Race) -> float:
        """About how long the rest will take (deepening, finals, certification, explaining), from what was seen so far."""
        if not race.baselines():
            return 0.0
        chosen, default = self._chosen(race), race.default()
        rivals = self._rivals(race, {})
        group = list({r.recipe.key: r for r in (*chosen, *rivals, default)}.values())
        finals = self.rounds * sum(map(self._process_s, group))
        explaining = 3 * max(map(self._process_s, group))
        certifying = self._certifying_s([*chosen, *self._lossy(race)], default)
        return 1.1 * (finals + explaining + self._deepening_s(race) + certifying)

    def refine_s(self, race: Race) -> float:
        """About how long :meth:`refine` will take."""
        return 1.1 * REFINE_ROUNDS * sum(map(self._process_s, self._group(race)))

    def _process_s(self, record: CandidateRecord) -> float:
        loading = 1.0 if record.screening is None or record.screening.load_s is None else record.screening.load_s
        return loading + START_S + BLOCKS * self._block_s([record])

    def _deepening_s(self, race: Race) -> float:
        """Of scoring those on the whole selection split that :meth:`deepen` would score now."""
        if not self._job.judged:
            return 0.0
        split = self._job.splits["selection"]
        leaders = self._leaders(race, places(self._job) + 1)
        return self._scoring_s([r for r in leaders if self._units_seen(race, r) < split.units], split.samples)

    def _certifying_s(self, records: Sequence[CandidateRecord], original: CandidateRecord) -> float:
        split = self._job.splits.get("certification")
        if split is None or not self._job.judged:
            return 0.0
        return split.samples * (original.latency_s or 0.0) + self._scoring_s(records, split.samples)

    def _scoring_s(self, records: Sequence[CandidateRecord], samples: int) -> float:
        """Side by side, each with its share of the cores: as if one after the other, but for loading."""
        loading = sum(map(self._process_s, records)) / min(AT_ONCE, self._job.environment.cores)
        return loading + sum(samples * (r.latency_s or 0.0) for r in records)

    def _block_s(self, records: Sequence[CandidateRecord]) -> float:
        slowest = max((r.latency_s or 0.0) for r in records)
        tails = (min_samples(c.quantile) for c in self._job.wish.constraints if c.quantile is not None)
        calls = SPARE_CALLS * max(tails, default=0) / (self.rounds * BLOCKS)
        return max(BLOCK_S, min(3 * slowest, 1.0), min(calls * slowest, LONGEST_BLOCK_S))

    def _group(self, race: Race) -> list[CandidateRecord]:
        """Those that may be the best candidate or the best baseline; whoever is alone needs no closer look."""
        candidates = self._candidates(race)
        contenders = race.as_fast(candidates) if race.goal.timed else candidates
        return [*contenders[:REFINED], *race.as_fast(race.baselines())[:REFINED_BASELINES]]

    def _candidates(self, race: Race) -> list[CandidateRecord]:
        """The best recipe of each family that passes, best first, baselines left out."""
        return [r for r in race.leaders() if not r.is_baseline and race.passes(r)]

    # -- before the finals -------------------------------------------------------------------------------------------

    def deepen(self, race: Race) -> None:
        """Scores the best candidates on the whole selection split, until all that could become finalists are known there."""
        if not self._job.judged:
            return
        units = self._job.splits["selection"].units
        count = places(self._job) + 1
        for _ in range(4 * count):
            leaders = [r for r in self._leaders(race, count) if self._units_seen(race, r) < units]
            shallow = list({race.proposal(r).quality_key: r for r in reversed(leaders)}.values())[::-1][:AT_ONCE]
            if not shallow:
                return
            for record in self._scored(race, shallow, units):
                race.tell(record)

    def _leaders(self, race: Race, count: int) -> list[CandidateRecord]:
        return [*self._candidates(race)[:count], *self._lossy(race)]

    def _lossy(self, race: Race) -> list[CandidateRecord]:
        """Baselines in lower precision that may be the fastest, one of those whose outputs are the same."""
        near = [r for r in race.as_fast(race.baselines()) if not race.proposal(r).lossless]
        return list({race.proposal(r).quality_key: r for r in reversed(near)}.values())[::-1]

    def _units_seen(self, race: Race, record: CandidateRecord) -> int:
        quality = race.quality_of(record)
        return 0 if quality is None else quality.n

    def _scored(self, race: Race, records: Sequence[CandidateRecord], units: int) -> list[CandidateRecord]:
        found = self._side_by_side(records, lambda runner, record: self._trials.quality(runner, race.proposal(record), units))
        return [
            replace(record, infeasible=got) if isinstance(got, Infeasible) else replace(record, quality=got)
            for record, got in zip(records, found, strict=True)
        ]

    def _side_by_side(
        self, records: Sequence[CandidateRecord], work: Callable[[Runner, CandidateRecord], T]
    ) -> list[T | Infeasible]:
        """What ``work`` gives for each record, or why there is nothing."""
        results: dict[str, T | Infeasible] = {}
        contestants = []
        for record in records:
            try:
                contestants.append((record, self.contestant(record)))
            except ChildFailure as exc:
                results[record.recipe.key] = exc.outcome
        ready = [record for record, _ in contestants]
        given = side_by_side(
            [contestant for _, contestant in contestants],
            self.conditions,
            self._job.environment,
            lambda runner, position: work(runner, ready[position]),
        )
        results.update({record.recipe.key: got for record, got in zip(ready, given, strict=True)})
        return [results[record.recipe.key] for record in records]

    def contestant(self, record: CandidateRecord) -> Contestant:
        """The record's recipe with its model file.

        Raises:
            ChildFailure: it cannot be built.
        """
        built = self._builder.build(record.recipe)
        if isinstance(built, Infeasible):
            raise ChildFailure(built)
        return Contestant(recipe=record.recipe, model=built.model)

    # -- measurement -------------------------------------------------------------------------------------------------

    def refine(self, race: Race) -> None:
        """Measures the leading candidates and baselines together, a little more exactly, and files it with the race."""
        group = self._group(race)
        anchor = race.baselines()[0]
        if len(group) < 2 or anchor.speedup is None:
            return
        found = self._measure(group, REFINE_ROUNDS, self._job.wish.seed + 1, lambda: None)
        if anchor.recipe.key not in found.measurements:
            return
        shift, half = math.log(anchor.speedup.point), 0.02
        for record in group:
            key = record.recipe.key
            if key in found.failures:
                race.tell(replace(record, infeasible=found.failures[key]))
                continue
            log = shift + float(np.mean(found.log_ratios(key, anchor.recipe.key)))
            interval = Interval(point=math.exp(log), low=math.exp(log - half), high=math.exp(log + half))
            race.tell(replace(record, speedup=interval))

    def _measure(self, records: Sequence[CandidateRecord], rounds: int, seed: int, on_round: Callable[[], None]) -> Duel:
        contestants, failures = [], {}
        for record in records:
            try:
                contestants.append(self.contestant(record))
            except ChildFailure as exc:
                failures[record.recipe.key] = exc.outcome
        before = disturbance()
        found = duel(
            contestants,
            self.conditions,
            rounds=rounds,
            blocks=BLOCKS,
            seconds=self._block_s(records),
            seed=seed,
            quantiles=quantiles,
            on_round=on_round,
        )
        after = disturbance()
        return replace(found, failures={**failures, **found.failures}, **_disturbed(before, after))

    # -- the finals --------------------------------------------------------------------------------------------------

    def run(self, race: Race, on_round: Callable[[], None] = lambda: None) -> Final:
        """Chooses finalists, certifies their quality, and measures them in fresh processes beside the baselines that count."""
        chosen, default = self._chosen(race), race.default()
        lossy = self._lossy(race)
        quality, lost = self._certify_quality(race, [*chosen, *lossy])
        baselines = self._rivals(race, quality)
        compared = {r.recipe.key: r for r in (*chosen, *baselines, default)}
        timed = [r for key, r in compared.items() if key not in lost]
        found = self._measure(timed, self.rounds, self._job.wish.seed, on_round)
        found = replace(found, failures={**found.failures, **lost})
        best = self._best_baseline([*baselines, default], found)
        judge = Judge(self._job, found, best.recipe.key, best.label, max(1, len(chosen)))
        judged = {race.proposal(race.records[key]).quality_key: certificate for key, certificate in quality.items()}
        records = {key: judge.certified(r, judged.get(race.proposal(r).quality_key)) for key, r in compared.items()}
        records |= {r.recipe.key: _refused(r, quality) for r in lossy if r.recipe.key not in compared | lost}
        timed_finalists = (r.recipe.key for r in chosen if records[r.recipe.key].infeasible is None)
        return Final(
            records=records,
            default_baseline=default.recipe.key,
            best_baseline=best.recipe.key,
            counted=frozenset(r.recipe.key for r in (*baselines, default) if records[r.recipe.key].infeasible is None),
            finalists=tuple(sorted(timed_finalists, key=lambda key: found.measurements[key].latency_s)),
            duel=found,
        )

    def _chosen(self, race: Race) -> list[CandidateRecord]:
        """The candidates that would be certified now."""
        chosen = race.finalists(places(self._job))
        return chosen if self._job.wish.variants else race.contenders(chosen)

    def _rivals(self, race: Race, quality: Mapping[str, Certificate]) -> list[CandidateRecord]:
        """The fastest baseline that counts, and a second that may be as fast.

        One in lower precision counts while its quality was not looked at, and afterwards only when that does not speak against
        it. Where the data are too few to certify it, it counts all the same: a baseline that is too fast makes no claim easier.
        """
        kept = {race.proposal(race.records[key]).quality_key for key, c in quality.items() if _acceptable(c, race.goal.margin)}

        def counts(record: CandidateRecord) -> bool:
            proposal = race.proposal(record)
            return proposal.lossless or not quality or proposal.quality_key in kept

        return race.as_fast([r for r in race.baselines() if counts(r)])[:2]

    def _best_baseline(self, baselines: Sequence[CandidateRecord], found: Duel) -> CandidateRecord:
        """The fastest that was measured to the end."""
        timed = [r for r in baselines if r.recipe.key in found.measurements and r.recipe.key not in found.failures]
        if not timed:
            reasons = "; ".join(failure.reason for failure in found.failures.values())
            raise DovetailError(f"no baseline could be measured: {reasons}", hint="run it again; finished trials are kept")
        return min(timed, key=lambda r: found.measurements[r.recipe.key].latency_s)

    def _certify_quality(
        self, race: Race, records: Sequence[CandidateRecord]
    ) -> tuple[dict[str, Certificate], dict[str, Infeasible]]:
        """Looks at the certification split, once, for all finalists together; also says which of them failed there."""
        metric, split = self._job.metric, self._job.splits.get("certification")
        if metric is None or split is None or not records:
            return {}, {}
        self._trials.certify_original()
        keys = {record.recipe.key: race.proposal(record).quality_key for record in records}
        alike = {keys[record.recipe.key]: record for record in reversed(records)}
        scored = self._side_by_side(
            list(alike.values()),
            lambda runner, record: self._trials.score(runner, keys[record.recipe.key], "certification"),
        )
        found = dict(zip(alike, scored, strict=True))
        rows = {key: got for key, same in keys.items() if not isinstance(got := found[same], Infeasible)}
        lost = {key: got for key, same in keys.items() if isinstance(got := found[same], Infeasible)}
        certificates = certify_family(
            metric,
            np.load(self._trials.reference("certification"), allow_pickle=False),
            list(rows.values()),
            max_drop=self._job.wish.max_drop,
            planned=len(alike),
            looks=record_look(self._cache, split.content_hash),
            data_hashes=self._job.data_hashes,
            seed=self._job.wish.seed,
        )
        return dict(zip(rows, certificates, strict=True)), lost


def _disturbed(before: Disturbance, after: Disturbance) -> dict[str, Any]:
    """What changed between two readings, as fields of a :class:`Duel`."""

    def grown(start: float | None, end: float | None) -> float | None:
        return None if start is None or end is None else end - start

    clocks = before.frequency_hz, after.frequency_hz
    return {
        "steal_s": grown(before.steal_s, after.steal_s),
        "throttled_s": grown(before.throttled_s, after.throttled_s),
        "thermal_events": grown(before.thermal_events, after.thermal_events),
        "clock_ratio": clocks[1] / clocks[0] if clocks[0] and clocks[1] else None,
    }


def _refused(record: CandidateRecord, quality: Mapping[str, Certificate]) -> CandidateRecord:
    """A baseline whose quality was judged and which is not among those measured: it does not count, or is not as fast."""
    certificate = quality.get(record.recipe.key)
    if certificate is None:
        return record
    reason = "" if certificate.verdict is Verdict.CERTIFIED else certificate.reason or certificate.claim
    return replace(record, certificates=(certificate,), reason=reason)


def _acceptable(certificate: Certificate, margin: float | None) -> bool:
    within = certificate.interval is not None and margin is not None and certificate.interval.point <= margin
    return certificate.verdict is Verdict.CERTIFIED or (certificate.verdict is Verdict.CANNOT_CERTIFY and within)


def quantiles(calls_s: Sequence[float]) -> dict[str, float]:
    """Quantiles that the number of calls supports, ``"0.5"`` → seconds."""
    return {f"{q:g}": float(np.quantile(calls_s, q)) for q in supported_quantiles(len(calls_s))}
