"""What devices draw and cost, with intervals; what is not known stays unknown."""

from __future__ import annotations

from dataclasses import dataclass

from dovetail.core.device import IDLE_SHARE, Device, Kind
from dovetail.core.estimate import Estimate, joint_coverage
from dovetail.core.source import Source, SourceKind

HOURS_PER_MONTH = 730.0
LIFE_MONTHS = 36.0
"""Over which a purchase price is spread (assumed)."""
SLEEP_SHARE = (0.02, 0.001, 0.25)
"""Idle power over the maximum of a microcontroller, which sleeps between calls: stop modes draw microwatts, sleep
modes a quarter (assumed)."""
RUNNING_SHARE = (0.7, 0.4, 1.0)
"""Power in a call over the maximum where no energy is told: value and ends of the interval (assumed)."""

_WATTS = Source(kind=SourceKind.ASSUMED, ref="idle power, and power in a call by the share of time that calls take")
_MOST = Source(kind=SourceKind.DERIVED, ref="maximum power times the number of devices")
_MONEY = Source(kind=SourceKind.DERIVED, ref="rent for 730 h, or purchase price over 36 months and electricity")


def scaled(found: Estimate, factor: float, source: Source | None = None) -> Estimate:
    """An estimate times a positive number."""
    return Estimate(
        value=found.value * factor, low=found.low * factor, high=found.high * factor, source=source or found.source,
        coverage=found.coverage,
    )  # fmt: skip


def product(first: Estimate, second: Estimate, source: Source) -> Estimate:
    """Of two positive estimates, low ends and high ends together (the widest case)."""
    return Estimate(
        value=first.value * second.value, low=first.low * second.low, high=first.high * second.high, source=source,
        coverage=joint_coverage(first, second),
    )  # fmt: skip


def most_w(device: Device, devices: Estimate) -> Estimate | None:
    """Watts of all devices at their maximum."""
    return None if device.power_w is None else scaled(devices, device.power_w.value, _MOST)


def average_w(device: Device, devices: Estimate, running_w: Estimate | None, used: Estimate | None) -> Estimate | None:
    """Watts of all devices in the mean.

    Args:
        device: one of them.
        devices: how many.
        running_w: of one in a call; ``None`` takes a share of the maximum.
        used: share of the time that calls take; ``None`` for always.
    """
    if device.power_w is None:
        return None
    top = device.power_w.value
    rests = SLEEP_SHARE if device.kind is Kind.MCU else IDLE_SHARE
    idle = (device.idle_power_w.value,) * 3 if device.idle_power_w else tuple(share * top for share in rests)
    found = (running_w.value, running_w.low, running_w.high) if running_w else tuple(share * top for share in RUNNING_SHARE)
    shares = (used.value, used.low, used.high) if used else (1.0, 1.0, 1.0)
    mean = [rest + max(0.0, min(top, run) - rest) * share for rest, run, share in zip(idle, found, shares, strict=True)]
    each = Estimate(value=mean[0], low=min(mean), high=max(mean), source=_WATTS, coverage=None)
    # More devices share the same work: their number and the share that each is used go against each other.
    return scaled(each, devices.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What devices cost.

    Attributes:
        basis: ``rented``, ``bought`` or ``unknown``.
        missing: which price is not known.
    """

    usd_per_month: Estimate | None
    purchase_usd: Estimate | None
    basis: str
    missing: str = ""


def bill(device: Device, devices: Estimate, watts: Estimate | None, basis: str, usd_per_kwh: float) -> Bill:
    """What a number of devices costs a month.

    Args:
        device: one of them.
        devices: how many.
        watts: all of them in the mean; without it a purchase has no monthly cost.
        basis: ``rent``, ``buy``, or ``any`` for rent where it is known.
        usd_per_kwh: of electricity, for what is bought.
    """
    rent, price = device.price_usd_per_h, device.price_usd
    bought = scaled(devices, price.value, _MONEY) if price else None
    if rent and basis != "buy":
        return Bill(usd_per_month=scaled(devices, rent.value * HOURS_PER_MONTH, _MONEY), purchase_usd=bought, basis="rented")
    if basis == "rent":
        return Bill(usd_per_month=None, purchase_usd=bought, basis="unknown", missing="its rent is not known")
    if bought is None:
        return Bill(usd_per_month=None, purchase_usd=None, basis="unknown", missing="its price is not known")
    if watts is None:
        return Bill(usd_per_month=None, purchase_usd=bought, basis="bought", missing="its power is not known")
    power = scaled(watts, HOURS_PER_MONTH / 1000 * usd_per_kwh)
    monthly = Estimate(
        value=bought.value / LIFE_MONTHS + power.value, low=bought.low / LIFE_MONTHS + power.low,
        high=bought.high / LIFE_MONTHS + power.high, source=_MONEY, coverage=joint_coverage(bought, power),
    )  # fmt: skip
    return Bill(usd_per_month=monthly, purchase_usd=bought, basis="bought")
