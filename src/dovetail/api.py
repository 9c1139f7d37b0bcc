"""The Python API: the same steps as the command line, for data and modules in memory too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.core.errors import InputError
from dovetail.core.outcome import CandidateRecord, FitResult

if TYPE_CHECKING:
    from dovetail.core.protocols import Session
    from dovetail.pipeline.describe import Request
    from dovetail.report.progress import Progress


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """The answer of :func:`optimize`; shows itself in a notebook.

    Attributes:
        fit: everything that was found (:class:`dovetail.core.outcome.FitResult`).
    """

    fit: FitResult

    @property
    def artifact(self) -> Path:
        """The folder that was written.

        Raises:
            InputError: there is none, because no variant meets the limits.
        """
        if not self.fit.artifact:
            raise InputError("there is no artifact: no variant meets the limits", hint=self.fit.relaxation or None)
        return Path(self.fit.artifact)

    @property
    def status(self) -> str:
        """``certified``, ``best_effort`` or ``infeasible``."""
        return self.fit.status.value

    @property
    def winner(self) -> CandidateRecord | None:
        """The answer's record; ``None`` when infeasible."""
        return self.fit.record(self.fit.winner) if self.fit.winner else None

    def __repr__(self) -> str:
        return f"<dovetail.Result {self}>"

    def __str__(self) -> str:
        return f"{self.status}: {self.fit.headline}"

    def _repr_html_(self) -> str:
        from dovetail.report.notebook import result_html

        return result_html(self.fit)


def optimize(
    model: Any = None,
    data: Any = None,
    *,
    job: str | Path | None = None,
    train: Any = None,
    train_budget: str | float | None = None,
    metric: str | Mapping[str, Any] | None = None,
    max_drop: str | float | None = None,
    objective: str | None = None,
    limits: Mapping[str, str | float] | None = None,
    budget: str | float | None = None,
    batch: int | None = None,
    variants: int | None = None,
    runtimes: list[str] | None = None,
    target_isa: str | None = None,
    seed: int | None = None,
    inputs: Mapping[str, Any] | None = None,
    preprocessing: str | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Fits a model to this machine and proves the result.

    Args:
        model: path of an ``.onnx`` or ``.pt2`` file, ``file.py:factory``, or an ``nn.Module`` (with ``data`` for an example).
        data: a path, ``module:function``, a mapping with ``calibrate``/``select``/``certify``, arrays ``(x, y)`` or
            ``{name: array}``, a callable, or an iterable of ``(feeds, label)`` such as a DataLoader.
        job: a job file; the other arguments override it.
        train: samples to train on, in the forms of ``data``; labels are used where there are some.
        train_budget: time for training, beside ``budget``; ``"30m"`` by default.
        metric: as in the job file; a function must be importable and is named ``module:function``.
        max_drop: ``"1pp"`` absolute, ``"1%"`` relative, or a number in the metric's unit.
        objective: ``latency``, ``throughput``, ``size`` or ``memory``.
        limits: such as ``{"latency_p99": "5ms", "memory": "200MB"}``.
        budget: time for everything, ``"10m"`` or seconds.
        batch: samples per call.
        variants: how many variants to certify.
        runtimes: registry names to try.
        target_isa: instruction set to build for.
        seed: of splits and every random choice.
        inputs: preprocessing by input, as in the job file.
        preprocessing: ``host`` (the default), or ``model`` to move it into the deployed model, timed with it.
        out: folder for the artifact; ``MODEL.fit`` by default.
        progress: shows what happens; silent by default.

    Raises:
        DovetailError: bad input; says what was wrong, where, and what to do.
    """
    from dovetail.pipeline.optimize import optimize as run

    given = {
        "model": model,
        "data": data,
        "train": train,
        "train_budget": train_budget,
        "metric": metric,
        "max_drop": max_drop,
        "objective": objective,
        "limits": limits,
        "budget": budget,
        "batch": batch,
        "variants": variants,
        "runtimes": runtimes,
        "target_isa": target_isa,
        "seed": seed,
        "inputs": inputs,
        "preprocessing": preprocessing,
    }
    return Result(run(make_request(job, given, out=out, command="dovetail.optimize(…)"), progress))


def load(path: str | Path, variant: str | None = None) -> Session:
    """Opens an artifact's answer (or a named variant) for running; needs the one runtime, not the tools that made it.

    Raises:
        InputError: no artifact, no such variant, or files that are not as they were written.
    """
    from dovetail.pipeline.artifacts import load as open_artifact

    return open_artifact(Path(path), variant)


def make_request(job: str | Path | None, given: Mapping[str, Any], *, out: str | Path | None, command: str) -> Request:
    """Lays arguments over the job file.

    Raises:
        InputError: an argument or the job file cannot be used.
    """
    from pydantic import ValidationError

    from dovetail.data.job import FitJob, load_job
    from dovetail.pipeline.describe import Request, cache_folder
    from dovetail.pipeline.memory import importable, module_file

    base = load_job(job) if job is not None else FitJob()
    changes = {name: value for name, value in given.items() if value is not None}
    data = None if _is_text(changes.get("data")) else changes.pop("data")
    train = None if _is_text(changes.get("train")) else changes.pop("train")
    cache = cache_folder()
    if "model" in changes and not isinstance(changes["model"], str | os.PathLike):
        changes["model"] = module_file(changes["model"], data, cache)
    if callable(changes.get("metric")):
        changes["metric"] = importable(changes["metric"])
    for name in ("model", "data", "train"):
        if isinstance(changes.get(name), os.PathLike):
            changes[name] = str(changes[name])
    try:
        merged = FitJob.model_validate({**base.model_dump(by_alias=True, exclude_unset=True), **changes})
    except ValidationError as exc:
        first = exc.errors()[0]
        raise InputError(f"{first['input']!r:.60} does not fit: {first['msg'].lower()}", where=str(first["loc"][0])) from exc
    for check in (merged.constraints, merged.permitted_drop, merged.budget_s, merged.train_budget_s, merged.objectives):
        check()
    folder = Path(out) if out is not None else Path(f"{_stem(merged.model)}.fit")
    return Request(job=merged, data=data, train=train, out=folder, cache=cache, command=command)


def _is_text(data: Any) -> bool:
    return data is None or isinstance(data, str | os.PathLike) or (isinstance(data, Mapping) and _names_splits(data))


def _names_splits(data: Mapping[str, Any]) -> bool:
    return bool(data) and set(data) <= {"calibrate", "select", "certify"}


def _stem(model: str | None) -> str:
    return Path(model.rpartition(":")[2] if model and ".py:" in model else model or "model").stem
