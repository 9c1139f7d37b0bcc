"""The end of a search: full quality for the best, finalists, the final measurement in fresh processes, and the certificates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dovetail.certify.quality import certify_family
from dovetail.certify.speed import CONFIDENCE, drift_note, limit_certificate, ratio_interval, speed_certificate
from dovetail.core.certificate import Certificate, Verdict
from dovetail.core.constraint import Constraint
from dovetail.core.errors import DovetailError
from dovetail.core.measurement import Interval
from dovetail.core.outcome import CandidateRecord, Infeasible
from dovetail.core.protocols import Array
from dovetail.data.looks import record_look
from dovetail.devices.probe import disturbance
from dovetail.measure.arena import Conditions, Contestant, Duel, Runner, duel
from dovetail.measure.child import ChildFailure
from dovetail.measure.statistics import min_samples, quantile_interval, supported_quantiles
from dovetail.pipeline.builder import Builder
from dovetail.pipeline.job import Job
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
REFINED = 5
START_S = 0.4
"""Seconds a process takes beside loading and timed blocks: warm-up, closing, answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """What the final measurement and the certificates say.

    Attributes:
        records: finalists and compared baselines by recipe key, with measurement, speed-up over the best baseline and
            certificates.
        default_baseline: recipe key of the original as its first runtime runs it by default.
        best_baseline: recipe key of the fastest baseline that keeps the quality.
        finalists: recipe keys of the candidates that were measured, best first.
        duel: the raw material, for the evidence file.
    """

    records: Mapping[str, CandidateRecord]
    default_baseline: str
    best_baseline: str
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
        chosen, rivals, default = self._chosen(race), self._rivals(race), race.default()
        group = list({r.recipe.key: r for r in (*chosen, *rivals, default)}.values())
        finals = self.rounds * sum(map(self._process_s, group))
        explaining = 3 * max(map(self._process_s, group))
        lossy = [r for r in rivals if not race.proposal(r).lossless]
        return 1.1 * (finals + explaining + self._deepening_s(race) + self._certifying_s([default, *chosen, *lossy]))

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

    def _certifying_s(self, records: Sequence[CandidateRecord]) -> float:
        split = self._job.splits.get("certification")
        return 0.0 if split is None or not self._job.judged else self._scoring_s(records, split.samples)

    def _scoring_s(self, records: Sequence[CandidateRecord], samples: int) -> float:
        return sum(self._process_s(r) + samples * (r.latency_s or 0.0) for r in records)

    def _block_s(self, records: Sequence[CandidateRecord]) -> float:
        slowest = max((r.latency_s or 0.0) for r in records)
        tails = (min_samples(c.quantile) for c in self._job.wish.constraints if c.quantile is not None)
        calls = SPARE_CALLS * max(tails, default=0) / (self.rounds * BLOCKS)
        return max(BLOCK_S, min(3 * slowest, 1.0), min(calls * slowest, LONGEST_BLOCK_S))

    def _group(self, race: Race) -> list[CandidateRecord]:
        return [*self._candidates(race)[:REFINED], *race.baselines()[:3]]

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
            shallow = next((r for r in self._leaders(race, count) if self._units_seen(race, r) < units), None)
            if shallow is None:
                return
            race.tell(self._scored(race, shallow, units))

    def _leaders(self, race: Race, count: int) -> list[CandidateRecord]:
        lossy_baselines = [r for r in race.baselines()[:2] if not race.proposal(r).lossless]
        return [*self._candidates(race)[:count], *lossy_baselines]

    def _units_seen(self, race: Race, record: CandidateRecord) -> int:
        quality = race.quality_of(record)
        return 0 if quality is None else quality.n

    def _scored(self, race: Race, record: CandidateRecord, units: int) -> CandidateRecord:
        try:
            with Runner(self.contestant(record), self.conditions) as runner:
                return replace(record, quality=self._trials.quality(runner, race.proposal(record), units))
        except ChildFailure as exc:
            return replace(record, infeasible=exc.outcome)

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
        steal = None if before.steal_s is None or after.steal_s is None else after.steal_s - before.steal_s
        return replace(found, failures={**failures, **found.failures}, steal_s=steal)

    # -- the finals --------------------------------------------------------------------------------------------------

    def run(self, race: Race, on_round: Callable[[], None] = lambda: None) -> Final:
        """Chooses finalists, measures them in fresh processes beside the baselines, and certifies."""
        chosen = self._chosen(race)
        baselines, default = self._rivals(race), race.default()
        compared = {r.recipe.key: r for r in (*chosen, *baselines, default)}
        found = self._measure(list(compared.values()), self.rounds, self._job.wish.seed, on_round)
        lossy = [r for r in baselines if not race.proposal(r).lossless]
        quality, lost = self._certify_quality(race, [*chosen, *lossy])
        timed = {key: m for key, m in found.measurements.items() if key not in lost}
        found = replace(found, measurements=timed, failures={**found.failures, **lost})
        best = self._best_baseline([*baselines, default], quality, found, race.goal.margin)
        judge = _Judge(self._job, found, best.recipe.key, best.label, max(1, len(chosen)))
        records = {key: judge.certified(record, quality.get(key)) for key, record in compared.items()}
        timed_finalists = (r.recipe.key for r in chosen if r.recipe.key in found.measurements)
        return Final(
            records=records,
            default_baseline=default.recipe.key,
            best_baseline=best.recipe.key,
            finalists=tuple(sorted(timed_finalists, key=lambda key: found.measurements[key].latency_s)),
            duel=found,
        )

    def _chosen(self, race: Race) -> list[CandidateRecord]:
        """The candidates that would be certified now."""
        chosen = race.finalists(places(self._job))
        return chosen if self._job.wish.variants else race.contenders(chosen)

    def _rivals(self, race: Race) -> list[CandidateRecord]:
        """The two fastest baselines and the fastest in full precision, which needs no certificate."""
        ranked = race.baselines()
        exact = [r for r in ranked if race.proposal(r).lossless]
        return list({r.recipe.key: r for r in (*ranked[:2], *exact[:1])}.values())

    def _best_baseline(
        self,
        baselines: Sequence[CandidateRecord],
        quality: Mapping[str, Certificate],
        found: Duel,
        margin: float | None,
    ) -> CandidateRecord:
        """The fastest that was measured; one in lower precision only when its quality does not speak against it.

        Where the data are too few to certify it, it counts all the same: a baseline that is too fast makes no claim easier.
        """
        refused = {key for key, certificate in quality.items() if not _acceptable(certificate, margin)}
        timed = [r for r in baselines if r.recipe.key in found.measurements and r.recipe.key not in refused]
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
        rows: dict[str, Array] = {}
        lost: dict[str, Infeasible] = {}
        for record in records:
            key = race.proposal(record).quality_key
            try:
                with Runner(self.contestant(record), self.conditions) as runner:
                    rows[record.recipe.key] = self._trials.score(runner, key, "certification")
            except ChildFailure as exc:
                lost[record.recipe.key] = exc.outcome
        certificates = certify_family(
            metric,
            np.load(self._trials.reference("certification"), allow_pickle=False),
            list(rows.values()),
            max_drop=self._job.wish.max_drop,
            planned=len({race.proposal(record).quality_key for record in records}),
            looks=record_look(self._cache, split.content_hash),
            data_hashes=self._job.data_hashes,
            seed=self._job.wish.seed,
        )
        return dict(zip(rows, certificates, strict=True)), lost


@dataclass(frozen=True, slots=True)
class _Judge:
    """Turns the final measurement into certificates, one record at a time."""

    job: Job
    found: Duel
    best: str
    best_label: str
    family: int

    def certified(self, record: CandidateRecord, quality: Certificate | None) -> CandidateRecord:
        key = record.recipe.key
        if key not in self.found.measurements:
            lost = self.found.failures.get(key) or Infeasible(stage="measure", reason="it was not measured")
            return replace(record, infeasible=lost)
        certificates = [] if quality is None else [quality]
        speedup = None
        if key != self.best:
            ratios = self.found.log_ratios(key, self.best)
            speedup = ratio_interval(ratios, CONFIDENCE) if len(ratios) > 1 else None
            certificates.append(self._speed(record, ratios))
        certificates.extend(self._limit(constraint, record) for constraint in self.job.wish.constraints)
        measurement = replace(self.found.measurements[key], notes=self._notes(key))
        return replace(record, measurement=measurement, speedup=speedup, certificates=tuple(certificates))

    def _speed(self, record: CandidateRecord, ratios: Sequence[float]) -> Certificate:
        """Among several finalists each errs with its share (Bonferroni), since the fastest of them is the answer."""
        key = record.recipe.key
        return speed_certificate(
            ratios,
            candidate=record.label,
            baseline=self.best_label,
            baseline_s=self.found.measurements[self.best].latency_s,
            candidate_s=self.found.measurements[key].latency_s,
            environment=self.job.environment.fingerprint,
            notes=self._notes(key),
            confidence=CONFIDENCE if record.is_baseline else 1 - (1 - CONFIDENCE) / self.family,
        )

    def _notes(self, key: str) -> tuple[str, ...]:
        processes = self.found.measurements[key].block_medians_s
        note = drift_note(processes[0], processes[-1], steal_share=self.found.steal_share(self.job.environment.cores))
        return (note,) if note else ()

    def _limit(self, constraint: Constraint, record: CandidateRecord) -> Certificate:
        key, machine = record.recipe.key, self.job.environment.fingerprint
        measurement = self.found.measurements[key]
        if constraint.metric == "size_bytes":
            return limit_certificate(constraint, _exactly(record.size_bytes), n=1)
        if constraint.metric == "memory_bytes":
            peak = _exactly(measurement.peak_memory_bytes)
            return limit_certificate(constraint, peak, n=len(self.found.rounds), environment=machine)
        calls = self.found.calls_s[key]
        quantile = 0.5 if constraint.quantile is None else constraint.quantile
        interval = quantile_interval(calls, quantile)
        if constraint.metric == "throughput_per_s" and interval is not None:
            batch = measurement.batch
            interval = Interval(point=batch / interval.point, low=batch / interval.high, high=batch / interval.low)
        return limit_certificate(constraint, interval, n=len(calls), needed=min_samples(quantile), environment=machine)


def _acceptable(certificate: Certificate, margin: float | None) -> bool:
    within = certificate.interval is not None and margin is not None and certificate.interval.point <= margin
    return certificate.verdict is Verdict.CERTIFIED or (certificate.verdict is Verdict.CANNOT_CERTIFY and within)


def _exactly(value: float | None) -> Interval | None:
    return None if value is None else Interval(point=value, low=value, high=value, confidence=1.0)


def quantiles(calls_s: Sequence[float]) -> dict[str, float]:
    """Quantiles that the number of calls supports, ``"0.5"`` → seconds."""
    return {f"{q:g}": float(np.quantile(calls_s, q)) for q in supported_quantiles(len(calls_s))}
