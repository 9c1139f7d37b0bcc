"""``dovetail train``: model and samples → settings (searched for where asked) → trained weights, recipe and report."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dovetail.core import json_lines, units
from dovetail.core.errors import InputError, ModelError, StorageError
from dovetail.core.measurement import Environment
from dovetail.core.protocols import Model
from dovetail.core.recipe import digest
from dovetail.core.serial import decode, encode
from dovetail.core.training import Epoch, Objective, Schedule, TrainResult, Tried
from dovetail.data.job import FitJob
from dovetail.data.metrics import get_metric
from dovetail.devices.probe import environment
from dovetail.export.artifact import sha256
from dovetail.measure.child import Child, ChildFailure
from dovetail.pipeline.describe import MEMORY_SHARE, cache_folder, stored_training
from dovetail.pipeline.reading import gathered, model_file, normalized
from dovetail.report.progress import Progress
from dovetail.search.hyperparameters import Study
from dovetail.workloads.load import content_hash, load_onnx, signature

FILE, SUMMARY = "model.onnx", "training.json"
TRIAL, TRIALS = "trial.onnx", "trials.jsonl"
_OURS = frozenset({
    *(f"{name}{end}" for name in (FILE, TRIAL) for end in ("", ".data", ".partial")),
    *(f"{name}{end}" for name in (SUMMARY, "report.html") for end in ("", ".part")), TRIALS,
})  # fmt: skip
"""What a training writes into its folder, and what a kill may leave half-written there."""
SEARCH_SHARE = 0.6
"""Of the budget: for the search, where there is one; the rest trains with the best settings."""
SHORT = 0.2
"""Of the epochs: what one setting is tried for."""
SILENCE_S = 900.0
"""Without a word for so long, a training is taken for hung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What the user asked for.

    Attributes:
        job: model, training samples, inputs and labels as in a job file.
        data: training samples in memory; stand in for the job's path.
        objective: what is minimised.
        schedule: how; ``budget_s`` is the time for everything.
        out: folder for the result.
        teacher: model to learn from, besides or instead of labels.
        trials: settings to try first; 0 for none.
        augmentations: names that the search chooses from.
    """

    job: FitJob
    objective: Objective
    schedule: Schedule
    out: Path
    data: Any = None
    teacher: str | None = None
    trials: int = 0
    augmentations: tuple[str, ...] = ("none",)


def train(request: TrainRequest, progress: Progress) -> TrainResult:
    """Trains a model.

    Raises:
        DovetailError: bad input, or nothing good came of it; says what, where, and what to do.
    """
    started = time.monotonic()
    if len(request.augmentations) > 1 and not request.trials:
        hint = "name one, or let --trials choose between them"
        raise InputError(f"{len(request.augmentations)} augmentations", where="augment", hint=hint)
    metric = _metric(request.job.metric)
    cache, machine = cache_folder(), environment()
    progress.stage("describe", None)
    source, teacher = _source(request.job, cache), None
    if request.teacher is not None:
        teacher = _source(request.job.model_copy(update={"model": request.teacher}), cache)
    inputs, _ = signature(load_onnx(source.path, weights=False))
    data = stored_training(request.job, request.data, inputs, cache)
    _claim(request.out)
    run = _Trainings(source, teacher, request, machine, cache, {
        "samples": str(data.folder), "original": str(source.path), "state": str(cache / "training"),
        "threads": machine.cores, "metric": metric,
    })  # fmt: skip
    schedule, found = request.schedule, _Found()
    if request.trials:
        files = [[sha256(file) for file in model.files()] for model in (source, teacher) if model is not None]
        choice = [metric, encode(request.objective), encode(schedule), list(request.augmentations)]
        key = digest([files, data.content_hash, *choice])
        schedule, found = _searched(request, run, key, progress, started)
    progress.stage("train", None)
    answer = run(schedule, request.out / FILE, progress, spent_s=found.before_s + time.monotonic() - started)
    result = TrainResult(
        folder=request.out,
        model_name=Path(str(request.job.model)).name,
        objective=request.objective,
        schedule=schedule,
        history=tuple(decode(Epoch, row) for row in answer["history"]),
        score_name=answer["score_name"],
        score=answer["score"],
        seconds=answer["seconds"],
        samples_per_s=answer["samples_per_s"],
        samples=len(data),
        environment=machine,
        tried=found.tried,
        notes=tuple(answer["notes"]),
    )
    _write_summary(result, source, teacher, {"data": data.content_hash, "metric": metric})
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What a search tried, and the seconds that an interrupted run had spent on it."""

    tried: tuple[Tried, ...] = ()
    before_s: float = 0.0


class _Trainings:
    """Runs trainings in child processes."""

    def __init__(
        self, source: Model, teacher: Model | None, request: TrainRequest, machine: Environment, cache: Path,
        training: dict[str, Any],
    ) -> None:  # fmt: skip
        self._source, self._teacher, self._request, self._machine = source, teacher, request, machine
        self._log, self._training = cache / "logs" / "train.log", training

    def __call__(self, schedule: Schedule, out: Path, progress: Progress, *, spent_s: float = 0.0) -> dict[str, Any]:
        """Trains once; ``spent_s`` of the schedule's budget are gone.

        Raises:
            ModelError: it failed.
        """
        last = time.monotonic()

        def told(share: float, text: str) -> None:
            nonlocal last
            if time.monotonic() - last >= 5.0:
                last = time.monotonic()
                progress.note(f"{share:.0%} {text}")

        try:
            with Child(self._log, memory_limit_bytes=MEMORY_SHARE * self._machine.memory_bytes) as child:
                return child.call(
                    "train",
                    timeout_s=SILENCE_S,
                    on_progress=told,
                    path=str(self._source.path),
                    out=str(out),
                    environment=encode(self._machine),
                    objective=encode(self._request.objective),
                    schedule=encode(schedule),
                    training={**self._training, "spent_s": spent_s},
                    teacher=None if self._teacher is None else str(self._teacher.path),
                )
        except ChildFailure as exc:
            raise ModelError(exc.outcome.reason, where="train") from exc


def _source(job: FitJob, cache: Path) -> Model:
    """The model in its normal form."""
    original = model_file(job, cache)
    model_hash = content_hash(original.path)
    return normalized(gathered(original, model_hash, cache), model_hash, cache, cache / "logs")


def _metric(spec: str | Mapping[str, Any] | None) -> str:
    """The metric by its name, which tells the loss.

    Raises:
        InputError: there is none of that name.
    """
    if spec is None:
        return ""
    get_metric(spec)
    if isinstance(spec, str):
        return spec
    return ":".join(str(spec[key]) for key in ("name", "average", "prediction") if key in spec)


def _searched(
    request: TrainRequest, run: _Trainings, key: str, progress: Progress, started: float
) -> tuple[Schedule, _Found]:
    """The best of some settings, each tried for a short while. Finished ones are kept beside the result and not repeated.

    Their time counts on when an interrupted search goes on.

    Raises:
        InputError: no samples are held out, or the time is too short.
        ModelError: none of them trained anything.
    """
    short = replace(request.schedule, epochs=max(1.0, SHORT * request.schedule.epochs), budget_s=None)
    if not short.hold_out:
        raise InputError("a search needs held-out samples to judge by", where="train", hint="give --hold-out 0.1")
    journal = request.out / TRIALS
    rows = [row for row in json_lines.resume(journal) if row.get("key") == key]
    tried, before_s = [decode(Tried, row["tried"]) for row in rows], float(rows[-1].get("seconds", 0.0)) if rows else 0.0
    study, why = Study(short, request.augmentations, tried), ""
    limit_s = SEARCH_SHARE * (request.schedule.budget_s or math.inf)
    progress.stage("search", request.trials)
    while len(tried) < request.trials and (left_s := limit_s - before_s - (time.monotonic() - started)) > 0:
        row, why = _tried(study, run, request.out / TRIAL, progress, left_s)
        study.tell(row)
        tried.append(row)
        spent_s = before_s + time.monotonic() - started
        with journal.open("a") as file:
            file.write(json.dumps({"key": key, "tried": encode(row), "seconds": spent_s}) + "\n")
        shown = "failed" if row.score is None else f"{row.score_name} {row.score:.4f}"
        progress.advance(1, f"{shown}: " + ", ".join(f"{k} {_short(v)}" for k, v in row.settings.items()))
    for end in ("", ".data"):
        (request.out / f"{TRIAL}{end}").unlink(missing_ok=True)
    if not tried:
        what = f"{units.duration(request.schedule.budget_s or 0.0)} are too short to try one setting"
        raise InputError(what, where="training budget", hint="give it more, or no --trials")
    good = [row for row in tried if row.cost is not None]
    if not good:
        raise ModelError(f"no setting trained anything: {why}" if why else "no setting trained anything", where="train")
    best = min(good, key=lambda row: row.cost or 0.0)
    return study.schedule(best.settings, request.schedule), _Found(tried=tuple(tried), before_s=before_s)


def _tried(study: Study, run: _Trainings, out: Path, progress: Progress, left_s: float) -> tuple[Tried, str]:
    """One short training within the time left, and why it failed, which is a result too."""
    settings = study.ask().settings
    schedule = replace(study.schedule(settings), budget_s=left_s if math.isfinite(left_s) else None)
    try:
        answer = run(schedule, out, progress)
    except ModelError as exc:
        progress.note(exc.what)
        return Tried(settings=settings, score=None), exc.what
    why = "" if answer["score"] is not None else "the samples are one independent unit, so that none can be held out"
    return Tried(settings=settings, score=answer["score"], score_name=answer["score_name"]), why


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _claim(out: Path) -> None:
    """Makes the folder; what an earlier training wrote there is replaced, anything else is not touched."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        strange = sorted(path.name for path in out.iterdir() if path.name not in _OURS)
    except OSError as exc:
        raise StorageError(f"cannot write there: {exc.strerror}", where=str(out), hint="choose another --out") from exc
    if strange:
        raise InputError(f"{strange[0]} is there, and is no earlier training's", where=str(out), hint="choose another --out")


def _write_summary(result: TrainResult, source: Model, teacher: Model | None, names: Mapping[str, str]) -> None:
    """``training.json``: all that is needed to train again, and what came of it."""
    kept = ("objective", "schedule", "history", "tried", "notes", "environment")
    plain = {name: encode(getattr(result, name)) for name in kept}
    numbers = {name: getattr(result, name) for name in ("score_name", "score", "seconds", "samples_per_s", "samples")}
    document = {
        "schema": 1, "model": result.model_name, **numbers, **plain,
        "source_sha256": sha256(source.path), "teacher_sha256": None if teacher is None else sha256(teacher.path),
        "model_sha256": sha256(result.folder / FILE), **names,
    }  # fmt: skip
    partial = result.folder / f"{SUMMARY}.part"
    partial.write_text(json.dumps(document, indent=1))
    partial.replace(result.folder / SUMMARY)
