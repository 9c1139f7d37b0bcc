"""The job file, ``fit.yaml``: what is to be fitted, judged by what, within which limits."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dovetail.core.constraint import Constraint, MaxDrop
from dovetail.core.errors import InputError
from dovetail.core.protocols import TensorSpec
from dovetail.data.functions import is_function_name
from dovetail.data.limits import parse_budget, parse_limits, parse_max_drop
from dovetail.data.prepare import DataFiles
from dovetail.data.preprocess import Preprocess, parse_layout
from dovetail.data.request import DataRequest, InputPlan

OBJECTIVES = ("latency", "throughput", "size", "memory")
_Numbers = float | list[float]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class InputJob(_Strict):
    """One model input: where its values come from and what is done to them (:class:`dovetail.data.preprocess.Preprocess`)."""

    from_: str | None = Field(None, alias="from")
    value: float | int | list[Any] | None = None
    shape: list[int | str | None] | None = None
    resize: list[int] | None = Field(None, min_length=2, max_length=2)
    layout: str | None = None
    scale: float | None = None
    mean: _Numbers | None = None
    std: _Numbers | None = None
    dtype: str | None = None

    def raw(self) -> InputJob:
        """The same input where the model itself does what follows resizing."""
        shape = self.shape
        if shape and self.layout:
            source, target = parse_layout(self.layout)
            sizes = dict(zip(target, shape[-len(target) :], strict=True))
            shape = [*shape[: -len(target)], *(sizes[letter] for letter in source)]
        return self.model_copy(update={"shape": shape, "layout": None, "scale": None, "mean": None, "std": None, "dtype": None})


class DataJob(_Strict):
    """One file per split instead of one to be split."""

    calibrate: str | None = None
    select: str | None = None
    certify: str | None = None


class LabelsJob(_Strict):
    """Key of the labels, and class names in the order of the model's outputs for labels that are text."""

    from_: str | None = Field(None, alias="from")
    classes: list[str] = []


class FitJob(_Strict):
    """Everything ``fit.yaml`` may say; unset keys are ``None`` or empty."""

    model: str | None = None
    data: str | DataJob | None = None
    train: str | None = None
    train_budget: str | float | None = None
    inputs: dict[str, InputJob | None] = {}
    preprocessing: Literal["host", "model"] = "host"
    labels: str | LabelsJob | None = None
    groups: str | None = None
    state: dict[str, str] = {}
    metric: str | dict[str, Any] | None = None
    max_drop: str | float | None = None
    limits: dict[str, str | float] = {}
    objective: str | list[str] | None = None
    budget: str | float | None = None
    batch: int | None = Field(default=None, ge=1)
    variants: int | None = Field(default=None, ge=1, le=10)
    target_isa: str | None = None
    runtimes: list[str] | None = None
    seed: int = 0

    def constraints(self) -> tuple[Constraint, ...]:
        """The limits, parsed.

        Raises:
            InputError: as :func:`dovetail.data.limits.parse_limits`.
        """
        return parse_limits(self.limits)

    def permitted_drop(self) -> MaxDrop | None:
        """The permitted drop, parsed; ``None`` when unset.

        Raises:
            InputError: as :func:`dovetail.data.limits.parse_max_drop`.
        """
        return None if self.max_drop is None else parse_max_drop(self.max_drop)

    def budget_s(self) -> float | None:
        """The budget in seconds; ``None`` when unset.

        Raises:
            InputError: as :func:`dovetail.data.limits.parse_budget`.
        """
        return None if self.budget is None else parse_budget(self.budget)

    def train_budget_s(self) -> float | None:
        """The time for training in seconds; ``None`` when unset.

        Raises:
            InputError: as :func:`dovetail.data.limits.parse_budget`.
        """
        return None if self.train_budget is None else parse_budget(self.train_budget)

    def objectives(self) -> tuple[str, ...]:
        """What to optimise, most important first; latency when unset.

        Raises:
            InputError: an unknown objective.
        """
        given = [self.objective] if isinstance(self.objective, str) else self.objective or ["latency"]
        for name in given:
            if name not in OBJECTIVES:
                raise _unknown(name, OBJECTIVES, "objective", "objective")
        return tuple(given)

    def files(self) -> DataFiles | None:
        """The data as declared; ``None`` when unset.

        Raises:
            DataError: no selection data among several files.
        """
        if self.data is None:
            return None
        if isinstance(self.data, str):
            return DataFiles(data=self.data)
        return DataFiles(calibrate=self.data.calibrate, select=self.data.select, certify=self.data.certify)

    def deployed(self) -> FitJob:
        """The job as a model sees it that has taken its preprocessing in: the data come as they are, or only resized."""
        if self.preprocessing == "host":
            return self
        inputs = {name: job and job.raw() for name, job in self.inputs.items()}
        return self.model_copy(update={"inputs": inputs, "preprocessing": "host"})

    def request(self, specs: tuple[TensorSpec, ...]) -> DataRequest:
        """What the data must hold for a model with these inputs.

        Raises:
            InputError: an input that the model lacks, or a shape, layout or value that does not suit it.
        """
        names = [spec.name for spec in specs]
        for name in [*self.inputs, *self.state]:
            if name not in names:
                raise _unknown(name, names, "input", "inputs" if name in self.inputs else "state")
        labels = _labels(self.labels)
        return DataRequest(
            inputs=tuple(
                _plan(s, self.inputs.get(s.name) or InputJob.model_validate({})) for s in specs if s.name not in self.state
            ),
            labels=labels.from_ or "",
            classes=tuple(labels.classes),
            groups=self.groups or "",
        )


def _plan(spec: TensorSpec, job: InputJob) -> InputPlan:
    where = f"inputs.{spec.name}"
    shape = spec.shape if job.shape is None else _declared_shape(spec, job.shape, where)
    try:
        preprocess = Preprocess(
            resize=None if job.resize is None else (job.resize[0], job.resize[1]),
            layout=job.layout or "",
            scale=job.scale,
            mean=_numbers(job.mean),
            std=_numbers(job.std),
            dtype="" if job.dtype is None else np.dtype(job.dtype).name,
        )
        value = None if job.value is None else np.asarray(job.value, dtype=spec.dtype)
    except InputError as error:
        raise InputError(error.what, where=f"{where}.{error.where}", hint=error.hint) from error
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(str(error), where=where) from error
    return InputPlan(
        spec=TensorSpec(name=spec.name, dtype=spec.dtype, shape=shape), key=job.from_ or "", value=value, preprocess=preprocess
    )


def _labels(labels: str | LabelsJob | None) -> LabelsJob:
    if isinstance(labels, LabelsJob):
        return labels
    return LabelsJob.model_validate({} if labels is None else {"from": labels})


def _numbers(value: _Numbers | None) -> tuple[float, ...]:
    return () if value is None else tuple(value) if isinstance(value, list) else (value,)


def _declared_shape(spec: TensorSpec, shape: list[int | str | None], where: str) -> tuple[int | str | None, ...]:
    fits = len(shape) == len(spec.shape) and all(
        not isinstance(own, int) or declared in (None, own) for own, declared in zip(spec.shape, shape, strict=True)
    )
    if not fits or any(isinstance(d, int) and d < 1 for d in shape):
        raise InputError(f"shape {shape} does not fit the model's {list(spec.shape)}", where=where)
    return tuple(own if declared is None else declared for own, declared in zip(spec.shape, shape, strict=True))


def load_job(path: Path | str) -> FitJob:
    """Reads and checks a job file; paths in it count from its own folder.

    Raises:
        InputError: not there, not YAML, an unknown or repeated key (with its line and the nearest known one), or a wrong value.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"cannot be read: {reason}", where=str(path)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"not YAML: {getattr(error, 'problem', error)}", where=f"{path}{line}") from error
    lines: dict[tuple[str, ...], int] = {}
    _note_lines(tree, (), lines, path)
    if not isinstance(data, Mapping):
        raise InputError("a job file is a list of `key: value` lines", where=str(path))
    try:
        job = FitJob.model_validate({key: value for key, value in data.items() if value is not None})
    except ValidationError as error:
        raise _job_error(error, lines, path) from error
    for check in (job.constraints, job.permitted_drop, job.budget_s, job.train_budget_s, job.objectives):
        try:
            check()
        except InputError as error:
            raise InputError(error.what, where=f"{path}: {error.where}", hint=error.hint) from error
    return _anchored(job, path.parent)


def _note_lines(node: yaml.Node | None, at: tuple[str, ...], lines: dict[tuple[str, ...], int], path: Path) -> None:
    """Collects the line of every key; a key that comes twice would silently win over the first."""
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            lines[(*at, str(i))] = item.start_mark.line + 1
            _note_lines(item, (*at, str(i)), lines, path)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        place = (*at, str(key.value))
        if place in lines:
            raise InputError(
                f"{key.value!r} occurs twice, first in line {lines[place]}", where=f"{path}, line {key.start_mark.line + 1}"
            )
        lines[place] = key.start_mark.line + 1
        _note_lines(value, place, lines, path)


def _job_error(error: ValidationError, lines: Mapping[tuple[str, ...], int], path: Path) -> InputError:
    """The first fault of the file in words; pydantic's names of union members are left out of the place."""
    faults = [(_place(fault["loc"], lines), fault) for fault in error.errors()]
    # Where a value may have two forms each reports a fault; the one that got deepest is of the form that was meant.
    place, first = max(faults, key=lambda item: (len(item[0]), item[1]["type"] == "extra_forbidden"))
    line = f", line {lines[place]}" if place in lines else ""
    where = f"{path}{line}"
    if first["type"] == "extra_forbidden":
        return _unknown(place[-1], _known_keys(place[:-1]), "key", where)
    return InputError(f"{'.'.join(place)}: {first['input']!r:.60} does not fit: {first['msg'].lower()}", where=where)


def _place(loc: tuple[int | str, ...], lines: Mapping[tuple[str, ...], int]) -> tuple[str, ...]:
    place: tuple[str, ...] = ()
    for part in loc:
        if (*place, str(part)) in lines:
            place = (*place, str(part))
    return place


def _known_keys(at: tuple[str, ...]) -> list[str]:
    models: dict[str, type[BaseModel]] = {"inputs": InputJob, "data": DataJob, "labels": LabelsJob}
    model = models[at[0]] if at else FitJob
    return [field.alias or name for name, field in model.model_fields.items()]


def _unknown(name: str, known: list[str] | tuple[str, ...], what: str, where: str) -> InputError:
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return InputError(f"there is no {what} {name!r}{meant}", where=where, hint=f"known: {', '.join(known)}")


def _anchored(job: FitJob, folder: Path) -> FitJob:
    """Paths made to count from the job file's folder."""

    def anchor(text: str | None) -> str | None:
        if text is None or Path(text).is_absolute():
            return text
        if is_function_name(text) and not text.rpartition(":")[0].endswith(".py"):
            return text
        return str(folder / text)

    changes: dict[str, Any] = {"model": anchor(job.model), "train": anchor(job.train)}
    if isinstance(job.data, DataJob):
        changes["data"] = DataJob(**{key: anchor(value) for key, value in job.data})
    else:
        changes["data"] = anchor(job.data)
    if isinstance(job.metric, str) and job.metric.rpartition(":")[0].endswith(".py"):
        changes["metric"] = anchor(job.metric)
    return job.model_copy(update=changes)
