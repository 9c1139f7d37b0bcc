"""The job file of ``dovetail advise``: what is to run, how much of it, and within which limits."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dovetail.advise.work import CnnWork, LlmWork, RecommenderWork, TrainingWork
from dovetail.advise.yaml_file import read_yaml
from dovetail.core.device import DTYPES, LEAST_DEPLOYMENT, Kind
from dovetail.core.errors import InputError
from dovetail.core.units import parse_quantity

Quantity = str | float
PREFERENCES = ("cost", "latency", "power")
_QUANTITIES = {
    "latency": "time", "first_token": "time", "within": "time", "memory": "bytes", "power": "power", "host_memory": "bytes",
}  # fmt: skip


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class VolumeJob(_Strict):
    """How much is to be done. The busiest hour has ``peak_factor`` times the mean rate."""

    requests_per_day: float = Field(gt=0)
    peak_factor: float = Field(1.0, ge=1)


class BatteryJob(_Strict):
    """A battery and how long it has to last."""

    capacity_wh: float = Field(gt=0)
    hours: float = Field(gt=0)

    @property
    def average_w(self) -> float:
        """What may be drawn in the mean."""
        return self.capacity_wh / self.hours


class BudgetJob(_Strict):
    """What may be spent. ``basis``: compare rents, purchases, or rents where they are known."""

    usd_per_month: float | None = Field(None, gt=0)
    purchase_usd: float | None = Field(None, gt=0)
    usd_total: float | None = Field(None, gt=0)
    basis: Literal["rent", "buy", "any"] = "any"
    usd_per_kwh: float = Field(0.15, ge=0)


class DeploymentJob(_Strict):
    """Where it has to run."""

    highest_level: int | None = Field(None, ge=1, le=5)
    kinds: list[Kind] | None = Field(None, min_length=1)
    battery: BatteryJob | None = None
    most_devices: int | None = Field(None, ge=1)


class AdviseJob(_Strict):
    """Everything a job may say; unset keys are ``None`` or empty."""

    name: str = ""
    model: str | None = None
    workload: CnnWork | RecommenderWork | LlmWork | TrainingWork | None = Field(None, discriminator="kind")
    volume: VolumeJob | None = None
    throughput: float | None = Field(None, gt=0)
    batch: int = Field(1, ge=1)
    precision: str | None = None
    latency: Quantity | None = None
    first_token: Quantity | None = None
    within: Quantity | None = None
    memory: Quantity | None = None
    power: Quantity | None = None
    host_memory: Quantity | None = None
    utilisation: float = Field(0.7, gt=0, le=1)
    budget: BudgetJob = Field(default_factory=lambda: BudgetJob.model_validate({}))
    stack: list[str] = []
    deployment: DeploymentJob = Field(default_factory=lambda: DeploymentJob.model_validate({}))
    prefer: Literal["cost", "latency", "power"] = "cost"

    def quantity(self, key: str) -> float | None:
        """One of the limits in its SI unit; ``None`` when unset.

        Raises:
            InputError: not a quantity of that kind, or not above zero.
        """
        given = getattr(self, key)
        if given is None:
            return None
        value = parse_quantity(given, _QUANTITIES[key])
        if value <= 0:
            raise InputError(f"{key} is above zero, not {given}", where=key)
        return value

    @property
    def rate_per_s(self) -> float | None:
        """Units of work a second that have to be done in the busiest time; ``None`` when the job names none."""
        volume = self.volume.requests_per_day * self.volume.peak_factor / 86400 if self.volume else 0.0
        return max(volume, self.throughput or 0.0) or None

    @property
    def mean_rate_per_s(self) -> float | None:
        """The same over a day."""
        return self.volume.requests_per_day / 86400 if self.volume else self.throughput

    @property
    def most_devices(self) -> int:
        """Devices that may be used: 8 unless the job says otherwise (assumed: one server), 1,024 to train."""
        return self.deployment.most_devices or (1024 if isinstance(self.workload, TrainingWork) else 8)

    def check(self) -> None:
        """Raises an :class:`InputError` where a value is impossible or two keys contradict each other."""
        if (self.model is None) == (self.workload is None):
            what = "a job names a model or a workload, not both" if self.model else "a job names a model or a workload"
            raise InputError(what, where="model, workload")
        if self.precision is not None and self.precision not in DTYPES:
            raise InputError(f"{self.precision!r} is no precision", where="precision", hint=f"one of: {', '.join(DTYPES)}")
        for key in _QUANTITIES:
            self.quantity(key)
        for first, second, why in self._contradictions():
            raise InputError(f"{first} and {second} contradict each other: {why}", hint="change one of the two")

    def _contradictions(self) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = []
        work, kinds, level = self.workload, self.deployment.kinds, self.deployment.highest_level
        training = isinstance(work, TrainingWork)
        for key in ("latency", "throughput", "volume", "first_token"):
            if training and getattr(self, key) is not None:
                found.append(("workload: training", key, "a training run has a duration, which `within` limits"))
        if self.within is not None and not training:
            found.append(("within", "workload", "only training has an end; inference has a latency or a throughput"))
        if self.first_token is not None and not isinstance(work, LlmWork):
            found.append(("first_token", "workload", "only a language model has a first token"))
        if kinds and level and all(LEAST_DEPLOYMENT.get(kind, 1) > level for kind in kinds):
            least = min(LEAST_DEPLOYMENT[kind] for kind in kinds)
            why = f"{', '.join(kinds)} is level {least} at least, not {level}"
            found.append(("deployment.kinds", "deployment.highest_level", why))
        latency, rate = self.quantity("latency"), self.rate_per_s
        if latency and rate and (self.batch - 1) / rate > latency and not isinstance(work, LlmWork):
            fill = (self.batch - 1) / rate
            why = f"at {rate:.3g}/s the first of {self.batch} samples waits {fill:.3g} s for the last, more than {latency:g} s"
            found.append(("batch", "latency", why))
        if isinstance(work, LlmWork) and (self.throughput or self.volume):
            found.append(("workload: llm", "throughput or volume", "its rate follows from users, prompt and output"))
        if self.budget.basis == "rent" and self.budget.purchase_usd is not None:
            found.append(("budget.basis: rent", "budget.purchase_usd", "what is rented is not bought"))
        return found


def load_job(path: Path) -> AdviseJob:
    """Reads and checks a job file; the model's path counts from its folder.

    Raises:
        InputError: not there, not YAML, an unknown key, a key that is there twice, a wrong value, or two keys that contradict
            each other.
    """
    data, _ = read_yaml(path)
    if not isinstance(data, Mapping):
        raise InputError("a job file is a list of `key: value` lines", where=str(path))
    job = parse_job(data, str(path))
    named = job.model_copy(update={"name": job.name or path.stem})
    return named if job.model is None else named.model_copy(update={"model": str(path.parent / job.model)})


def parse_job(data: Mapping[str, Any], where: str) -> AdviseJob:
    """A checked job from its keys.

    Raises:
        InputError: as :func:`load_job`, ``where`` named as the place.
    """
    try:
        job = AdviseJob.model_validate(dict(data))
    except ValidationError as exc:
        raise _fault(exc, where) from exc
    try:
        job.check()
    except InputError as exc:
        raise InputError(exc.what, where=f"{where}: {exc.where}" if exc.where else where, hint=exc.hint) from exc
    return job


def _fault(error: ValidationError, where: str) -> InputError:
    """The first fault in words; an unknown key first, as it often is the cause of the others."""
    faults = error.errors()
    first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    kinds = {"cnn", "recommender", "llm", "training"}
    place = [str(part) for part in first["loc"] if str(part) not in kinds or part == first["loc"][-1]]
    if first["type"] == "extra_forbidden":
        known = _known(place[:-1], first["loc"])
        near = difflib.get_close_matches(place[-1], known, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        return InputError(f"there is no key {'.'.join(place)!r}{meant}", where=where, hint=f"known: {', '.join(known)}")
    what = f"{'.'.join(place)}: {first['msg'][0].lower()}{first['msg'][1:]}"
    return InputError(what, where=where)


def _known(at: list[str], loc: tuple[int | str, ...]) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "volume": VolumeJob, "budget": BudgetJob, "deployment": DeploymentJob, "battery": BatteryJob, "cnn": CnnWork,
        "recommender": RecommenderWork, "llm": LlmWork, "training": TrainingWork,
    }  # fmt: skip
    inner = [str(part) for part in loc[:-1] if str(part) in models]
    return list((models[inner[-1]] if inner else AdviseJob).model_fields)
