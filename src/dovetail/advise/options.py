"""From the prediction of one copy to what a job needs: how many devices, what they draw, what they cost."""

from __future__ import annotations

import math

from dovetail.advise import money
from dovetail.advise.job import AdviseJob
from dovetail.advise.offer import Offer
from dovetail.advise.requirements import judge
from dovetail.advise.work import LlmWork, TrainingWork
from dovetail.core.advice import Option
from dovetail.core.estimate import Estimate, joint_coverage
from dovetail.core.prediction import Prediction
from dovetail.core.source import Source, SourceKind

_COUNT = Source(kind=SourceKind.DERIVED, ref="rate wanted over the rate of one copy, and memory")
_RATE = Source(kind=SourceKind.DERIVED, ref="rate of one copy times copies")
_USED = Source(kind=SourceKind.DERIVED, ref="mean rate over what the devices can do")
_COST = Source(kind=SourceKind.DERIVED, ref="cost a month over the work done in it")
_SECONDS_PER_MONTH = money.HOURS_PER_MONTH * 3600


def option(offer: Offer, job: AdviseJob) -> Option:
    """Sizes a job on one kind of device and judges every requirement."""
    predicted, device = offer.prediction, offer.device
    devices, count_by = _devices(offer, job)
    rate = _rate(offer, devices)
    used = _used(rate, job)
    watts = None if devices is None else money.average_w(device, devices, _running(predicted, offer.group), used)
    known = devices or _exactly(1.0)
    cost = money.bill(device, known, watts, job.budget.basis, job.budget.usd_per_kwh)
    monthly = None if devices is None else cost.usd_per_month
    total = _total(monthly, offer)
    found = Option(
        device=device.name,
        kind=device.kind.value,
        precision=predicted.precision,
        devices=devices,
        group=offer.group,
        count_by=count_by,
        latency_s=predicted.latency_s,
        first_token_s=offer.first_token_s,
        throughput_per_s=rate,
        duration_s=offer.duration_s,
        memory_bytes=predicted.memory_bytes,
        most_w=None if devices is None else money.most_w(device, devices),
        average_w=watts,
        usd_per_month=monthly,
        usd_per_million=_per_million(monthly, total, rate, job),
        usd_total=total,
        purchase_usd=None if devices is None else cost.purchase_usd,
        basis=cost.basis,
        binds=predicted.binds,
        deployment=None if device.deployment is None else round(device.deployment.value),
        notes=tuple(note for note in (_told_by(predicted), *predicted.notes, offer.missing, cost.missing) if note),
    )
    return judge(found, offer, job)


def _told_by(predicted: Prediction) -> str:
    return f"time told by: {predicted.model}" if predicted.model else ""


def _exactly(number: float) -> Estimate:
    return Estimate(value=number, low=number, high=number, source=_COUNT)


def _devices(offer: Offer, job: AdviseJob) -> tuple[Estimate | None, str]:
    """How many, and what sets that number."""
    memory = offer.group_by or ("memory size" if offer.group > 1 else "one is enough")
    if offer.wanted_devices is not None:
        return offer.wanted_devices, offer.group_by
    if offer.copies is not None:
        return _exactly(float(offer.copies * offer.group)), "rate" if offer.copies > 1 else memory
    rate, wanted = offer.prediction.throughput_per_s, job.rate_per_s
    if wanted is None:
        return _exactly(float(offer.group)), memory
    if rate is None:
        return None, "unknown"
    counts = [max(1, math.ceil(wanted / (job.utilisation * end))) * offer.group for end in (rate.value, rate.high, rate.low)]
    found = Estimate(value=counts[0], low=counts[1], high=counts[2], source=_COUNT, coverage=rate.coverage)
    return found, "rate" if counts[0] > offer.group else memory


def _rate(offer: Offer, devices: Estimate | None) -> Estimate | None:
    one = offer.prediction.throughput_per_s
    return None if one is None or devices is None else money.scaled(one, devices.value / offer.group, _RATE)


def _used(rate: Estimate | None, job: AdviseJob) -> Estimate | None:
    """Share of the time that calls take; ``None`` where they follow each other."""
    wanted = job.mean_rate_per_s
    if rate is None or wanted is None or isinstance(job.workload, LlmWork | TrainingWork):
        return None
    value, low, high = (min(1.0, wanted / end) for end in (rate.value, rate.high, rate.low))
    return Estimate(value=value, low=low, high=high, source=_USED, coverage=rate.coverage)


def _running(predicted: Prediction, group: int) -> Estimate | None:
    """Watts of one device in a call, from the energy of a sample; time and energy err together, so that ends go together."""
    energy, rate = predicted.energy_j, predicted.throughput_per_s
    if energy is None or rate is None:
        return None
    ends = [energy.value * rate.value / group, energy.low * rate.high / group, energy.high * rate.low / group]
    coverage = joint_coverage(energy, rate)
    return Estimate(value=ends[0], low=min(ends), high=max(ends), source=energy.source, coverage=coverage)


def _total(monthly: Estimate | None, offer: Offer) -> Estimate | None:
    """Of a training run: its time at what its devices cost. More devices take less time, so the ends of the time decide."""
    if monthly is None or offer.duration_s is None:
        return None
    return money.scaled(offer.duration_s, monthly.value / _SECONDS_PER_MONTH, _COST)


def _per_million(monthly: Estimate | None, total: Estimate | None, rate: Estimate | None, job: AdviseJob) -> Estimate | None:
    if isinstance(job.workload, TrainingWork):
        return None if total is None else money.scaled(total, 1e6 / job.workload.tokens, _COST)
    wanted = job.mean_rate_per_s
    if monthly is None:
        return None
    if wanted is not None:
        return money.scaled(monthly, 1e6 / (wanted * _SECONDS_PER_MONTH), _COST)
    if rate is None:
        return None
    ends = (monthly.value / rate.value, monthly.low / rate.high, monthly.high / rate.low)
    value, low, high = (end * 1e6 / _SECONDS_PER_MONTH for end in ends)
    return Estimate(value=value, low=low, high=high, source=_COST, coverage=joint_coverage(monthly, rate))
