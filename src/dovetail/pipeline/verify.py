"""Checks an artifact again: files, machine, speed, and quality where data are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.certify.quality import quality_certificate
from dovetail.certify.speed import speed_certificate
from dovetail.core.artifact import BASELINE, Manifest, Variant
from dovetail.core.certificate import Certificate, Verdict
from dovetail.core.errors import InputError
from dovetail.core.protocols import Array
from dovetail.core.verification import Check, Verification
from dovetail.data.dataset import StoredDataset
from dovetail.data.job import FitJob, load_job
from dovetail.data.limits import parse_max_drop
from dovetail.data.looks import record_look
from dovetail.data.metrics import get_metric
from dovetail.devices.probe import environment
from dovetail.export.artifact import check_hashes, read_manifest, variant_model
from dovetail.export.samples import recorded_samples
from dovetail.measure.arena import Conditions, Contestant, Runner, duel
from dovetail.measure.child import ChildFailure
from dovetail.measure.lock import measuring
from dovetail.pipeline.artifacts import pick
from dovetail.pipeline.describe import cache_folder, conditions_of, onnx_form, timing_conditions
from dovetail.pipeline.given import CERTIFICATION, Given, read_given
from dovetail.pipeline.timing import made_again, on_samples
from dovetail.report.progress import Progress, SilentProgress
from dovetail.workloads.load import load_onnx, signature


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """An artifact with the contestants it holds."""

    folder: Path
    manifest: Manifest

    def contestant(self, variant: Variant, name: str) -> Contestant:
        """A variant as it runs."""
        return Contestant(recipe=variant.recipe, model=variant_model(self.folder, variant), name=name)

    @property
    def answer(self) -> Variant:
        return pick(self.manifest, None, self.folder)

    @property
    def original(self) -> Variant:
        return pick(self.manifest, "original", self.folder)

    @property
    def baseline(self) -> Contestant:
        """The best baseline of the fit, which speed was claimed against; the original where none is recorded."""
        names = {variant.name for variant in self.manifest.variants}
        file = pick(self.manifest, BASELINE, self.folder) if BASELINE in names else self.original
        recipe = self.manifest.baseline or file.recipe
        return Contestant(recipe=recipe, model=variant_model(self.folder, file), name="rival")

    @property
    def claims_speed(self) -> bool:
        """Whether the fit proved the answer faster than its best baseline; other objectives need not."""
        return any(c.kind == "speed" and c.verdict is Verdict.CERTIFIED for c in self.answer.certificates)

    @property
    def used(self) -> Mapping[str, Array] | None:
        """Split → hashes of the samples that the fit used; ``None`` where it used some and records none."""
        recorded = recorded_samples(self.folder)
        return recorded if recorded or not self.manifest.splits else None


def verify(
    folder: Path,
    *,
    data: Any = None,
    job: Path | None = None,
    metric: str | None = None,
    max_drop: str | None = None,
    against: Path | None = None,
    rounds: int = 6,
    progress: Progress | None = None,
) -> Verification:
    """Checks an artifact on this machine.

    Args:
        folder: the artifact.
        data: samples to judge quality on; without them quality is not judged again.
        job: job file that says how to read the data.
        metric: instead of the artifact's own.
        max_drop: instead of the artifact's own.
        against: another artifact that this one must not be slower than.
        rounds: fresh processes a side.
        progress: shows what happens.

    Raises:
        InputError: no artifact, or data that do not fit it.
    """
    progress = progress or SilentProgress()
    opened = _Opened(folder=folder, manifest=read_manifest(folder))
    other = None if against is None else _Opened(folder=against, manifest=read_manifest(against))
    wrong = check_hashes(folder, opened.manifest)
    checks = [_files(wrong, opened.manifest)]
    if wrong:
        return Verification(artifact=str(folder), checks=tuple(checks))
    checks.append(_machine(opened.manifest))
    certificates: list[Certificate] = []
    wish = None if data is None and job is None else _job(job, data, metric, max_drop, opened)
    given = None if wish is None else read_given(wish, opened.used)
    with measuring(progress.note):
        conditions = _conditions(opened, given)
        if opened.answer.name != "original":
            check, certificate = _speed(opened, None, conditions, rounds, progress)
            checks.append(check)
            certificates.append(certificate)
        if other is not None:
            check, certificate = _speed(opened, other, conditions, rounds, progress)
            checks.append(check)
            certificates.append(certificate)
        if wish is not None and given is not None:
            checks.append(given.check)
            if given.judged is not None:
                certificates.append(_quality(opened, wish, given, given.judged, conditions))
                checks.append(_judged(certificates[-1]))
    return Verification(artifact=str(folder), checks=tuple(checks), certificates=tuple(certificates))


def _conditions(opened: _Opened, given: Given | None) -> Conditions:
    """Calls as the fit made them: on the samples that are given, else on random feeds of the same shapes."""
    manifest, model = opened.manifest, variant_model(opened.folder, opened.original)
    if given is not None:
        return conditions_of(on_samples(given.samples, manifest.batch), manifest.batch)
    if not manifest.call_shapes:
        return timing_conditions(model, None, 1)
    inputs, _ = signature(load_onnx(onnx_form(model.path), weights=False))
    declared = {name: {"value": value} for name, value in manifest.values.items()}
    plans = FitJob.model_validate({"inputs": declared}).request(inputs).inputs
    return conditions_of(made_again(plans, manifest.call_shapes, cache_folder() / "splits", seed=0), 1)


def _files(wrong: dict[str, str], manifest: Manifest) -> Check:
    if not wrong:
        return Check(name="files", status="ok", detail=f"{len(manifest.files)} files are as they were written")
    shown = ", ".join(f"{name} {what}" for name, what in sorted(wrong.items())[:5])
    return Check(name="files", status="failed", detail=f"{len(wrong)} files differ: {shown}", hint="make the artifact again")


def _machine(manifest: Manifest) -> Check:
    here = environment()
    if here.fingerprint == manifest.environment.fingerprint:
        return Check(name="machine", status="ok", detail=f"the machine it was fitted on: {here.cpu}")
    there = manifest.environment
    detail = f"fitted on {there.cpu} ({there.cores} cores), this is {here.cpu} ({here.cores} cores)"
    return Check(name="machine", status="warning", detail=detail, hint="its speed was proved there; it is measured again here")


def _speed(
    opened: _Opened, other: _Opened | None, conditions: Conditions, rounds: int, progress: Progress
) -> tuple[Check, Certificate]:
    """Against the best baseline it must be as fast as was claimed, against another artifact it must not be slower."""
    answer = opened.contestant(opened.answer, "answer")
    rival = opened.baseline if other is None else other.contestant(other.answer, "rival")
    named = f"the best baseline, {rival.recipe}" if other is None else f"the answer of {other.folder}"
    progress.stage("speed against the best baseline" if other is None else "speed against the other", rounds)
    found = duel([answer, rival], conditions, rounds=rounds, on_round=lambda: progress.advance(1))
    for key, who in (("answer", "the answer"), ("rival", named)):
        if key in found.failures:
            raise InputError(f"{who} does not run here: {found.failures[key].reason}", where=str(opened.folder))
    certificate = speed_certificate(
        found.log_ratios("answer", "rival"), candidate="the answer", baseline=named, environment=environment().fingerprint
    )
    name = "speed" if other is None else "against"
    claimed = other is not None or opened.claims_speed
    fine = {Verdict.CERTIFIED, Verdict.NOT_DISTINGUISHABLE} if other is not None else {Verdict.CERTIFIED}
    open_ = certificate.verdict is Verdict.CANNOT_CERTIFY or not claimed
    status = "ok" if certificate.verdict in fine else "warning" if open_ else "failed"
    hint = certificate.reason if claimed else f"{certificate.reason}; the fit did not claim it to be faster"
    return Check(name=name, status=status, detail=certificate.claim, hint=hint), certificate


def _job(job: Path | None, data: Any, metric: str | None, max_drop: str | None, opened: _Opened) -> FitJob:
    base = (load_job(job) if job is not None else FitJob()).deployed()
    changes: dict[str, Any] = {"model": str(variant_model(opened.folder, opened.original).path)}
    if data is not None:
        changes["data"] = data
    chosen = metric or base.metric or opened.manifest.metric
    if not chosen:
        raise InputError("the artifact names no metric", where="metric", hint="add --metric")
    return base.model_copy(
        update={**changes, "metric": chosen, "max_drop": max_drop or base.max_drop or opened.manifest.max_drop}
    )


def _quality(opened: _Opened, job: FitJob, given: Given, samples: StoredDataset, conditions: Conditions) -> Certificate:
    """Judges the answer against the original on the samples that may judge it."""
    assert job.metric is not None
    metric = get_metric(job.metric)
    cache = cache_folder()
    folder = cache / "verify" / samples.content_hash
    folder.mkdir(parents=True, exist_ok=True)
    stored = folder / "outputs"
    rows = []
    for variant in (opened.original, opened.answer):
        out = folder / f"{variant.name}.npy"
        try:
            with Runner(opened.contestant(variant, variant.name), conditions) as runner:
                if metric.needs_reference and variant.name == "original":
                    runner.call("reference", split=str(samples.folder), state=dict(given.state), folder=str(stored))
                reference = str(stored) if metric.needs_reference else None
                runner.call(
                    "score",
                    split=str(samples.folder),
                    metric=job.metric,
                    state=dict(given.state),
                    out=str(out),
                    reference=reference,
                )
        except ChildFailure as exc:
            raise InputError(exc.outcome.reason, where=f"variant {variant.name}") from exc
        rows.append(np.load(out, allow_pickle=False))
    own = opened.manifest.data_hashes.get(CERTIFICATION, "") if given.role == CERTIFICATION else ""
    return quality_certificate(
        metric,
        rows[0],
        rows[1],
        max_drop=parse_max_drop(job.max_drop if job.max_drop is not None else metric.default_max_drop),
        looks=record_look(cache, own or samples.content_hash),
        data_hashes={given.role: samples.content_hash},
    )


def _judged(certificate: Certificate) -> Check:
    status = {Verdict.CERTIFIED: "ok", Verdict.CANNOT_CERTIFY: "warning"}.get(certificate.verdict, "failed")
    return Check(name="quality", status=status, detail=certificate.claim, hint=certificate.reason)
