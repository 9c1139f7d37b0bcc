"""A language model on every device: over how many of them it is cut, how many copies serve the users, what they see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dovetail.advise.job import AdviseJob
from dovetail.advise.offer import Offer
from dovetail.advise.work import LlmWork
from dovetail.core.constraint import Answer
from dovetail.core.device import Device, Kind
from dovetail.core.errors import InputError
from dovetail.core.estimate import Estimate
from dovetail.core.prediction import Binds, Prediction
from dovetail.core.source import Source, SourceKind
from dovetail.core.transformer import Transformer
from dovetail.pipeline.offers import SHARED
from dovetail.predict.fitted_file import parameters
from dovetail.predict.llm_asked import Asked
from dovetail.predict.llm_memory import judge_fit
from dovetail.predict.llm_serving import serving, uncorrected
from dovetail.predict.llm_setting import Setting, link_note, machine
from dovetail.predict.llm_storage import label, multiplied_in, outside_experts, quantisation, stored
from dovetail.predict.priors import prior
from dovetail.workloads.architectures import architecture

_GROUPS = (1, 2, 4, 8)
_COPIES = (1, 2, 3, 4, 6, 8)
_BACKEND = "vllm"
_LIMITS = {
    "weights": Binds.BANDWIDTH, "cache": Binds.BANDWIDTH, "compute": Binds.COMPUTE, "link": Binds.LINK,
    "overhead": Binds.OVERHEAD,
}  # fmt: skip
_BUSY = (0.7, 0.4, 1.0)
"""Share of the maximum power that decoding draws: value and ends (assumed)."""
_SOURCE = Source(kind=SourceKind.DERIVED, ref="decode and prefill by bytes and operations, corrected by published serving runs")
_POWER = Source(kind=SourceKind.ASSUMED, ref="0.4 to 1 of the maximum power over the rate")
_MEMORY = Source(kind=SourceKind.DERIVED, ref="weights, keys and values, and a tenth of the memory as workspace")


def transformer(work: LlmWork) -> Transformer:
    """The model that a job means.

    Raises:
        InputError: neither an architecture nor sizes, both, or an unknown name.
    """
    if (work.architecture is None) == (work.shape is None):
        raise InputError("a language model is told by either `architecture` or `shape`", where="workload")
    if work.architecture is not None:
        return architecture(work.architecture)
    assert work.shape is not None
    try:
        return Transformer(name="given", source=Source(kind=SourceKind.USER, ref="job file"), **work.shape.model_dump())
    except ValueError as exc:
        raise InputError(str(exc), where="workload.shape") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    device: Device
    group: int
    copies: int


def llm_offers(work: LlmWork, devices: Sequence[Device], job: AdviseJob) -> list[Offer]:
    """For each device the fewest of it that fit and keep the limits on time; where none do, the fewest that fit.

    Raises:
        InputError: the model is not told.
    """
    model = transformer(work)
    chosen: dict[str, Offer] = {}
    ways: list[_Way] = []
    for device in devices:
        why = _untold(device, job)
        if why:
            chosen[device.name] = _without_time(model, device, work, job, why)
        else:
            groups = _GROUPS if device.kind in SHARED else (1,)
            ways += [_Way(device=device, group=g, copies=c) for g in groups for c in _COPIES]
    found: dict[str, list[Offer]] = {}
    for offer in _told(model, ways, work, job):
        found.setdefault(offer.device.name, []).append(offer)
    chosen |= {name: _best(options, job) for name, options in found.items()}
    return [chosen[device.name] for device in devices]


def _best(options: Sequence[Offer], job: AdviseJob) -> Offer:
    latency, first = job.quantity("latency"), job.quantity("first_token")

    def key(offer: Offer) -> tuple[bool, bool, int, float]:
        told, prompt = offer.prediction.latency_s, offer.first_token_s
        slow = bool(latency and told and told.value > latency) or bool(first and prompt and prompt.value > first)
        out = offer.prediction.fits is Answer.NO
        return (out, slow and not out, offer.group * (offer.copies or 1), told.value if told else np.inf)

    return min(options, key=key)


def _precision(job: AdviseJob) -> str:
    return job.precision or "bf16"


def _quantised(device: Device, job: AdviseJob) -> str:
    return quantisation(device, _precision(job))


def _setting(model: Transformer, ways: Sequence[_Way], work: LlmWork, job: AdviseJob) -> Setting:
    n = len(ways)
    full = np.ones(n)
    weights, cache = stored([_quantised(way.device, job) for way in ways])
    return Setting(
        devices=np.array([float(way.group) for way in ways]),
        stages=full,
        replicated=np.zeros(n, dtype=bool),
        concurrency=np.array([max(1.0, work.users / way.copies) for way in ways]),
        prompt=full * work.prompt,
        output=full * work.output,
        common_bytes=outside_experts([model] * n, weights),
        expert_bytes=weights,
        cache_bytes=cache,
    )


def _untold(device: Device, job: AdviseJob) -> str:
    quantised = _quantised(device, job)
    try:
        machine([device], [multiplied_in(device, quantised)])
    except InputError as exc:
        return exc.what
    return ""


def _told(model: Transformer, ways: Sequence[_Way], work: LlmWork, job: AdviseJob) -> list[Offer]:
    if not ways:
        return []
    setting, n = _setting(model, ways, work, job), len(ways)
    devices = [way.device for way in ways]
    quantised = [_quantised(device, job) for device in devices]
    asked = Asked(
        models=[model] * n, devices=devices, backends=[_BACKEND] * n, precisions=[label(name) for name in quantised],
        dtypes=[multiplied_in(device, name) for device, name in zip(devices, quantised, strict=True)], setting=setting,
    )  # fmt: skip
    fitted = parameters("serving")
    seconds, limits = serving(fitted, asked), uncorrected(fitted, asked).step.binding()
    known = fitted["effects"]["tpot_s"]["device"]
    made = []
    for i, way in enumerate(ways):
        wide = way.device.name not in known
        ends = {key: _estimate(band.value[i], band.low[i], band.high[i], way.device, wide) for key, band in seconds.items()}
        sent = float(setting.concurrency[i]) * work.output
        made.append(_offer(model, way, work, job, ends, sent, str(limits[i])))
    return made


def _estimate(value: float, low: float, high: float, device: Device, wide: bool) -> Estimate:
    """Of a device that no run was seen on, at least as wide as its class."""
    kind = prior(device)
    if wide:
        low, high = min(low, value * kind.low), max(high, value * kind.high)
    return Estimate(value=float(value), low=float(low), high=float(high), source=_SOURCE)


def _offer(
    model: Transformer, way: _Way, work: LlmWork, job: AdviseJob, ends: dict[str, Estimate], sent: float, limit: str
) -> Offer:
    plain = _memory(model, way, work, job)
    if plain.fits is Answer.NO:
        return Offer(device=way.device, prediction=plain, group=way.group, copies=way.copies)
    request = ends["request_s"]
    rate = Estimate(value=sent / request.value, low=sent / request.high, high=sent / request.low, source=_SOURCE)
    prediction = Prediction(
        device=way.device.name,
        precision=_precision(job),
        batch=max(1, round(work.users / way.copies)),
        latency_s=ends["tpot_s"],
        throughput_per_s=rate,
        memory_bytes=plain.memory_bytes,
        fits=plain.fits,
        fits_reason=plain.fits_reason,
        energy_j=_energy(way, rate),
        cost_usd_per_million=None,
        binds=_LIMITS[limit],
        notes=tuple(filter(None, (*plain.notes, link_note(way.device, way.group)))),
    )
    by = "memory size" if way.group > 1 and way.copies == 1 else ""
    return Offer(
        device=way.device, prediction=prediction, group=way.group, copies=way.copies, first_token_s=ends["ttft_s"], group_by=by
    )


def _energy(way: _Way, rate: Estimate) -> Estimate | None:
    if way.device.power_w is None:
        return None
    ends = [share * way.device.power_w.value * way.group / rate.value for share in _BUSY]
    return Estimate(value=ends[0], low=ends[1], high=ends[2], source=_POWER, coverage=None)


def _memory(model: Transformer, way: _Way, work: LlmWork, job: AdviseJob) -> Prediction:
    fit = judge_fit(model, way.device, _setting(model, [way], work, job))
    answer = Answer.UNKNOWN if fit.fits is None else Answer.YES if fit.fits else Answer.NO
    if way.device.kind is Kind.MCU and answer is Answer.UNKNOWN:
        answer = Answer.NO
    size, bare = fit.need.total_bytes, fit.need.weights_bytes + fit.need.cache_bytes
    return Prediction(
        device=way.device.name, precision=_precision(job), batch=1, latency_s=None, throughput_per_s=None,
        memory_bytes=Estimate(value=size, low=bare, high=size, source=_MEMORY, coverage=None),
        fits=answer, fits_reason=fit.reason, energy_j=None, cost_usd_per_million=None,
        binds=Binds.MEMORY if answer is Answer.NO else None,
    )  # fmt: skip


def _without_time(model: Transformer, device: Device, work: LlmWork, job: AdviseJob, why: str) -> Offer:
    """What is known without a bandwidth or a peak: whether it fits. Where one does not, several may."""
    tried = [_memory(model, _Way(device=device, group=1, copies=1), work, job)]
    return Offer(device=device, prediction=tried[0], copies=1, missing=f"no time can be told: {why}")
