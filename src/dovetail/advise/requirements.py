"""Judges every requirement of a job on one option. A missing number meets nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from dovetail.advise.job import AdviseJob
from dovetail.advise.offer import Offer
from dovetail.advise.work import TrainingWork
from dovetail.core import units
from dovetail.core.advice import Judged, Option, Standing, at_most
from dovetail.core.constraint import Answer
from dovetail.core.device import Device, Kind
from dovetail.core.estimate import Estimate
from dovetail.core.prediction import Binds

_TRAINS = frozenset({"cuda", "rocm", "xla", "synapseai", "oneapi", "cann", "neuron", "pytorch-cpu"})
"""Platforms that train in mixed precision (a judgement by what their makers document); boards and phones are left out."""
_INFERENCE_ONLY = ("Inferentia",)
"""Chips of such a platform that their maker offers for inference alone (AWS)."""


def judge(option: Option, offer: Offer, job: AdviseJob) -> Option:
    """The option with every requirement judged."""
    found = (*_of_device(offer.device, job), *_of_model(option, offer, job), *_of_limits(option, offer, job))
    return replace(option, judged=found)


def device_rules(job: AdviseJob) -> dict[str, Callable[[Device], Standing]]:
    """Requirements that a device meets or not whatever runs on it, by key of the job file."""
    found: dict[str, Callable[[Device], Standing]] = {}
    kinds, level, stack = job.deployment.kinds, job.deployment.highest_level, job.stack
    if kinds:
        found["deployment.kinds"] = lambda device: Standing.SURE if device.kind in kinds else Standing.NO
    if level:
        found["deployment.highest_level"] = lambda device: _level(device, level)
    if stack:
        found["stack"] = lambda device: Standing.SURE if any(_runs(device, word) for word in stack) else Standing.NO
    if isinstance(job.workload, TrainingWork):
        found["workload: training"] = lambda device: Standing.SURE if _trains(device) else Standing.NO
    return found


def _level(device: Device, most: int) -> Standing:
    if device.deployment is None:
        return Standing.UNKNOWN
    return Standing.SURE if device.deployment.value <= most else Standing.NO


def _runs(device: Device, word: str) -> bool:
    """``pytorch`` is met by ``pytorch-cpu`` too."""
    asked = word.lower()
    return any(name.lower() == asked or name.lower().startswith(f"{asked}-") for name in device.software)


def _trains(device: Device) -> bool:
    if device.kind not in (Kind.CPU, Kind.GPU, Kind.TPU, Kind.ASIC):
        return False
    return not device.name.startswith(_INFERENCE_ONLY) and any(word in _TRAINS for word in device.software)


def _of_device(device: Device, job: AdviseJob) -> Iterator[Judged]:
    level = f"its level is {device.deployment.value:g}" if device.deployment else "its level is not known"
    said = {
        "deployment.kinds": f"it is of kind {device.kind.value}",
        "deployment.highest_level": level,
        "stack": f"it runs {', '.join(device.software) or 'nothing known'}",
        "workload: training": "its software trains" if _trains(device) else "it is for inference",
    }
    for key, rule in device_rules(job).items():
        yield Judged(requirement=key, standing=rule(device), why=said[key])


def _of_model(option: Option, offer: Offer, job: AdviseJob) -> Iterator[Judged]:
    """That it fits, and that a time can be told at all."""
    standing = _fits(offer)
    yield Judged(requirement="memory of the device", standing=standing, why=offer.prediction.fits_reason)
    if option.throughput_per_s is None and not standing.excludes:
        why = offer.missing or "; ".join(note for note in offer.prediction.notes if "no time" in note) or "no time can be told"
        yield Judged(requirement="time", standing=Standing.UNKNOWN, why=why)


def _fits(offer: Offer) -> Standing:
    answer, capacity = offer.prediction.fits, offer.device.capacity_bytes
    if answer is not Answer.UNKNOWN:
        return Standing.SURE if answer is Answer.YES else Standing.NO
    # A microcontroller's weights may lie in flash, so that its working memory alone says nothing.
    if capacity is None or offer.device.kind is Kind.MCU:
        return Standing.UNKNOWN
    return at_most(offer.prediction.memory_bytes, capacity.value)


def _of_limits(option: Option, offer: Offer, job: AdviseJob) -> Iterator[Judged]:
    budget, battery = job.budget, job.deployment.battery
    out = offer.prediction.binds is Binds.MEMORY and option.latency_s is None
    limits: list[tuple[str, Estimate | None, float | None, Callable[[float], str]]] = [
        ("latency", option.latency_s, job.quantity("latency"), units.time),
        ("first_token", option.first_token_s, job.quantity("first_token"), units.time),
        ("within", option.duration_s, job.quantity("within"), units.duration),
        ("deployment.most_devices", option.devices, job.most_devices, lambda n: f"{n:,.0f} devices"),
        ("memory", option.memory_bytes, job.quantity("memory"), units.size),
        ("power", option.most_w, job.quantity("power"), watts),
        ("deployment.battery", option.average_w, battery.average_w if battery else None, watts),
        ("budget.usd_per_month", option.usd_per_month, budget.usd_per_month, lambda n: f"{n:,.2f} USD"),
        ("budget.purchase_usd", option.purchase_usd, budget.purchase_usd, lambda n: f"{n:,.0f} USD"),
        ("budget.usd_total", option.usd_total, budget.usd_total, lambda n: f"{n:,.0f} USD"),
    ]
    for key, found, bound, shown in limits:
        # What does not fit has no time, and all that follows from the time is not missing but pointless.
        if bound is None or (found is None and out):
            continue
        yield Judged(requirement=key, standing=at_most(found, bound), why=_why(key, found, bound, shown, option))
    wanted = job.rate_per_s
    if wanted and option.throughput_per_s:
        rate = option.throughput_per_s
        met = Standing.SURE if rate.low >= wanted else Standing.LIKELY if rate.value >= wanted else Standing.UNLIKELY
        why = f"{units.count(rate.value)}/s ({units.count(rate.low)} to {units.count(rate.high)}) of {units.count(wanted)}/s"
        yield Judged(requirement="throughput", standing=met, why=why)


def _why(key: str, found: Estimate | None, bound: float, shown: Callable[[float], str], option: Option) -> str:
    if found is not None:
        return f"{shown(found.value)} ({shown(found.low)} to {shown(found.high)}), at most {shown(bound)}"
    words = {
        "power": "its maximum power is not known", "deployment.battery": "its power is not known",
        "memory": "its memory use is not known", "budget.purchase_usd": "its purchase price is not known",
    }  # fmt: skip
    priced = key in ("budget.usd_per_month", "budget.usd_total")
    starts = ("its price", "its rent", "its power")
    cost = next((note for note in option.notes if note.startswith(starts)), "its time is not known")
    return cost if priced else words.get(key, "its time is not known")


def watts(value: float) -> str:
    """``0.03`` → ``30 mW``."""
    return f"{value * 1e3:.3g} mW" if value < 1 else units.count(value, "W")
