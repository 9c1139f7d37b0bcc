"""Puts options in order. What lacks a number comes after all that have it, and never onto the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dovetail.advise.job import AdviseJob
from dovetail.advise.offer import Offer
from dovetail.advise.options import option
from dovetail.advise.requirements import device_rules
from dovetail.core.advice import Advice, Option, Standing
from dovetail.core.device import Device
from dovetail.core.errors import InputError
from dovetail.core.estimate import Estimate

_UNKNOWN = float("inf")


def rank(offers: Sequence[Offer], job: AdviseJob, unit: str, notes: Sequence[str] = ()) -> Advice:
    """Sizes, judges and orders all offers.

    Raises:
        InputError: two requirements on devices that each leave some but together leave none.
    """
    check_rules([offer.device for offer in offers], job)
    options = sorted((option(offer, job) for offer in offers), key=lambda item: order(item, job.prefer))
    ranked = [item for item in options if item.standing in (Standing.SURE, Standing.LIKELY)]
    return Advice(
        job=job.name,
        unit=unit,
        prefer=job.prefer,
        ranked=tuple(front(ranked)),
        unknown=tuple(item for item in options if item.standing is Standing.UNKNOWN),
        excluded=tuple(item for item in options if item.standing.excludes),
        notes=tuple(notes),
    )


def check_rules(devices: Sequence[Device], job: AdviseJob) -> None:
    """Raises an :class:`InputError` that names two requirements which no device of the catalogue meets together."""
    rules = list(device_rules(job).items())
    kept = {key: {d.name for d in devices if rule(d) is not Standing.NO} for key, rule in rules}
    for i, (first, _) in enumerate(rules):
        if not kept[first]:
            raise InputError(f"no device of the catalogue meets {first}", hint="dovetail devices lists what there is")
        for second, _ in rules[:i]:
            if kept[second] and not kept[first] & kept[second]:
                what = f"{second} and {first} contradict each other: no device of the catalogue meets both"
                raise InputError(what, hint="change one of the two")


def order(item: Option, prefer: str) -> tuple[float, ...]:
    """Sorts by what is preferred, then by the others; unknown is last in each."""
    values = {"cost": _value(item.usd_total or item.usd_per_month), "latency": _value(item.latency_s or item.duration_s)}
    values["power"] = _value(item.average_w)
    rest = [values[name] for name in ("cost", "power", "latency") if name != prefer]
    return (values[prefer], *rest)


def _value(found: Estimate | None) -> float:
    return _UNKNOWN if found is None else found.value


def front(options: Sequence[Option]) -> list[Option]:
    """Marks the Pareto front of latency, cost and mean power; an option that lacks one of them is not on it."""
    points = [order(item, "cost") for item in options]
    whole = [i for i, point in enumerate(points) if _UNKNOWN not in point]
    best = {i for i in whole if not any(_dominates(points[j], points[i]) for j in whole)}
    return [replace(item, front=i in best) for i, item in enumerate(options)]


def _dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))
