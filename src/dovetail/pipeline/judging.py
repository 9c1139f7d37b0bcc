"""Turns a final measurement into certificates, one record at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dovetail.certify.speed import CONFIDENCE, drift_note, limit_certificate, ratio_interval, speed_certificate
from dovetail.core.certificate import Certificate
from dovetail.core.constraint import Constraint
from dovetail.core.measurement import Interval
from dovetail.core.outcome import CandidateRecord, Infeasible
from dovetail.measure.arena import Duel
from dovetail.measure.statistics import min_samples, quantile_interval
from dovetail.pipeline.job import Job


@dataclass(frozen=True, slots=True)
class Judge:
    """What a final measurement says of those that took part.

    Attributes:
        job: what is being fitted.
        found: the final measurement.
        best: recipe key of the best baseline.
        best_label: its name for people.
        family: how many finalists share the error of the speed claims.
    """

    job: Job
    found: Duel
    best: str
    best_label: str
    family: int

    def certified(self, record: CandidateRecord, quality: Certificate | None) -> CandidateRecord:
        """The record with its measurement, speed-up over the best baseline and certificates; infeasible when not measured."""
        key = record.recipe.key
        if key in self.found.failures or key not in self.found.measurements:
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
        processes, found = self.found.measurements[key].block_medians_s, self.found
        note = drift_note(
            processes[0],
            processes[-1],
            steal_share=found.steal_share(self.job.environment.cores),
            throttled_s=found.throttled_s or 0.0,
            thermal_events=found.thermal_events or 0,
            clock_ratio=found.clock_ratio,
        )
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


def _exactly(value: float | None) -> Interval | None:
    return None if value is None else Interval(point=value, low=value, high=value, confidence=1.0)
