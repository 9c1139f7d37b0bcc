"""Numbers of a device that cannot all be right: what data sheets and catalogues get wrong, as rules on one device.

The bounds were set around the catalogue's own devices, wide enough for the next generation. A finding is a reason to look at
the source again; a device that breaks a rule rightly says so, with the reason, under ``allowed`` in its file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dovetail.core import units
from dovetail.core.device import Device, Fact, Kind, Link

_CLASSES = (("fp64",), ("fp32",), ("tf32",), ("fp16", "bf16"), ("fp8", "int8"), ("int4",))
"""Types of peaks by how much arithmetic they are, most first."""
_HALVINGS = (("tf32",), ("fp16", "bf16"), ("fp8", "int8"), ("int4",))
"""Matrix units double their rate from each of these to the next; fp32 is left out, which runs on other units."""
_PER_HALVING = 2.2

_RIDGE = {
    Kind.CPU: (5.0, 1000.0), Kind.GPU: (50.0, 500.0), Kind.TPU: (40.0, 700.0), Kind.ASIC: (50.0, 1500.0),
    Kind.FPGA: (10.0, 6000.0), Kind.EDGE: (2.0, 1000.0), Kind.NPU: (2.0, 6000.0), Kind.MCU: (0.01, 100.0),
}  # fmt: skip
"""Peak over memory bandwidth, FLOP per byte, of devices that stream from outside their chip."""
_PER_JOULE = {
    Kind.CPU: (2e9, 2e12), Kind.GPU: (1e11, 2.5e12), Kind.TPU: (1e11, 5e12), Kind.ASIC: (2e11, 2e13),
    Kind.FPGA: (1e10, 5e12), Kind.EDGE: (5e9, 5e12), Kind.NPU: (2e11, 1e13), Kind.MCU: (5e8, 2e11),
}  # fmt: skip
"""Peak over maximum power, 16-bit FLOP per joule."""
_BANDWIDTH = {"HBM": (2.5e11, 2.5e13), "GDDR": (8e10, 2.2e12), "DRAM": (1e9, 1e12), "SRAM": (1e8, 1e17)}
"""Bytes per second of a kind of memory."""
_CAPACITY = {"HBM": (4e9, 6e11), "GDDR": (1e9, 1.5e11), "DRAM": (1.6e7, 1.3e13), "SRAM": (1e3, 1e11)}
_MESHES = ("xgmi", "ici", "xe link")
"""Links without a switch: a pair gets one of them, not all."""
_YEARS = (1995, 2035)
_PRICE_USD = (0.1, 5e6)
_HOURS = (100.0, 100_000.0)
"""Hours of renting that cost as much as buying."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule that a device breaks.

    Attributes:
        rule: name of the rule.
        what: the rule in words, with the numbers.
        values: the numbers, in SI, by what they are.
    """

    rule: str
    what: str
    values: Mapping[str, float] = field(default_factory=dict)


def findings(device: Device, allowed: Mapping[str, str] | None = None) -> tuple[Finding, ...]:
    """What cannot all be right, or is not what it was allowed for.

    Args:
        device: any device.
        allowed: rule → reason why this device may break it. One that it does not break is a finding itself: then either the
            numbers changed, or the reason is about another device.
    """
    reasons = allowed or {}
    found = [finding for rule in _RULES for finding in rule(device)]
    broken = {finding.rule for finding in found}
    stale = [
        Finding(rule="allowed", what=f"it may break the rule {rule!r} because {reason}, but it does not")
        for rule, reason in reasons.items()
        if rule not in broken
    ]
    return (*(finding for finding in found if finding.rule not in reasons), *stale)


def _order(device: Device) -> Iterator[Finding]:
    """A narrower type is not slower than a wider one: at worst it runs on the wider one's units."""
    peaks = _values(device.peak_flop_per_s)
    for index, narrow_class in enumerate(_CLASSES):
        wider = {name: peaks[name] for names in _CLASSES[:index] for name in names if name in peaks}
        for narrow in narrow_class:
            if narrow in peaks and wider and peaks[narrow] < max(wider.values()) * 0.99:
                wide = max(wider, key=wider.__getitem__)
                what = f"{narrow} at {_rate(peaks[narrow], narrow)} is slower than {wide} at {_rate(peaks[wide], wide)}"
                yield Finding(rule="order", what=what, values={narrow: peaks[narrow], wide: peaks[wide]})


def _halving(device: Device) -> Iterator[Finding]:
    """Half the bits at most double the rate; four times as much is a figure with sparsity, or one of another unit."""
    peaks = _values(device.peak_flop_per_s)
    groups = [{name: peaks[name] for name in names if name in peaks} for names in _HALVINGS]
    base: tuple[int, str] | None = None
    for index, group in enumerate(groups):
        for narrow, rate in group.items():
            if base is not None and rate > peaks[base[1]] * _PER_HALVING ** (index - base[0]):
                wide = base[1]
                what = (
                    f"{narrow} at {_rate(rate, narrow)} is {units.ratio(rate / peaks[wide], 1)} the {wide} rate, and half the"
                    f" bits at most double it; one of the two may be a figure with sparsity, or of another unit"
                )
                yield Finding(rule="halving", what=what, values={narrow: rate, wide: peaks[wide]})
        if group:
            base = index, max(group, key=group.__getitem__)


def _ridge(device: Device) -> Iterator[Finding]:
    """Peak and bandwidth belong together: a machine far from the others of its kind has one of them wrong."""
    peak, bandwidth = _sixteen_bit(device), device.bandwidth_bytes_per_s
    if peak is None or bandwidth is None or device.memory[0].name == "SRAM":
        return
    ridge = peak / bandwidth.value
    least, most = _RIDGE[device.kind]
    if not least <= ridge <= most:
        what = (
            f"{_rate(peak)} on {units.size(bandwidth.value)}/s is {units.count(ridge)} FLOP per byte;"
            f" between {least:g} and {most:g} are usual for a {device.kind}"
        )
        yield Finding(rule="ridge", what=what, values={"peak": peak, "bandwidth": bandwidth.value})


def _efficiency(device: Device) -> Iterator[Finding]:
    """Peak and power belong together."""
    peak = _sixteen_bit(device)
    if peak is None or device.power_w is None:
        return
    per_joule = peak / device.power_w.value
    least, most = _PER_JOULE[device.kind]
    if not least <= per_joule <= most:
        what = (
            f"{_rate(peak)} on {units.count(device.power_w.value, 'W')} is {units.count(per_joule, 'FLOP/J')};"
            f" between {units.count(least, 'FLOP/J')} and {units.count(most, 'FLOP/J')} are usual for a {device.kind}"
        )
        yield Finding(rule="efficiency", what=what, values={"peak": peak, "power": device.power_w.value})


def _memory(device: Device) -> Iterator[Finding]:
    """Sizes and speeds that a kind of memory does not have."""
    for tier in device.memory:
        measures = ((_CAPACITY, tier.capacity_bytes, ""), (_BANDWIDTH, tier.bandwidth_bytes_per_s, "/s"))
        for bounds, fact, per in measures:
            least, most = bounds.get(tier.name, (0.0, float("inf")))
            if fact is not None and not least <= fact.value <= most:
                usual = f"between {units.size(least)}{per} and {units.size(most)}{per} are usual"
                what = f"{units.size(fact.value)}{per} of {tier.name}; {usual}"
                yield Finding(rule="memory", what=what, values={tier.name: fact.value})


def _links(device: Device) -> Iterator[Finding]:
    """What goes to one neighbour goes to all of them together at least; on a link without a switch it is only a part."""
    for link in (device.link, device.host_link):
        if link is None or link.pair_bytes_per_s is None or link.all_bytes_per_s is None:
            continue
        pair, everyone = link.pair_bytes_per_s.value, link.all_bytes_per_s.value
        speeds = f"{link.name}: {units.size(pair)}/s to one, {units.size(everyone)}/s to all"
        if pair > everyone:
            yield Finding(rule="links", what=f"{speeds}, which is less", values={"pair": pair, "all": everyone})
        elif _is_mesh(link) and pair == everyone:
            what = f"{speeds}; without a switch a pair gets only its own link"
            yield Finding(rule="links", what=what, values={"pair": pair, "all": everyone})


def _dates_and_money(device: Device) -> Iterator[Finding]:
    """Years, prices and idle power out of this world."""
    if device.year is not None and not _YEARS[0] <= device.year <= _YEARS[1]:
        yield Finding(rule="year", what=f"the year {device.year}", values={"year": device.year})
    price, rent = device.price_usd, device.price_usd_per_h
    if price is not None and not _PRICE_USD[0] <= price.value <= _PRICE_USD[1]:
        yield Finding(rule="price", what=f"a price of {price.value:,.2f} USD", values={"price": price.value})
    if price is not None and rent is not None and not _HOURS[0] <= price.value / rent.value <= _HOURS[1]:
        what = f"to buy it costs as much as to rent it for {price.value / rent.value:,.0f} h"
        yield Finding(rule="price", what=what, values={"price": price.value, "per hour": rent.value})
    idle, most = device.idle_power_w, device.power_w
    if idle is not None and most is not None and idle.value > most.value:
        what = f"{units.count(idle.value, 'W')} idle is more than {units.count(most.value, 'W')} at most"
        yield Finding(rule="idle", what=what, values={"idle": idle.value, "most": most.value})


_RULES = (_order, _halving, _ridge, _efficiency, _memory, _links, _dates_and_money)


def _values(facts: Mapping[str, Fact]) -> dict[str, float]:
    return {name: fact.value for name, fact in facts.items()}


def _sixteen_bit(device: Device) -> float | None:
    """The best rate in FLOP per second at 16 bits, or what stands nearest to it."""
    peaks = _values(device.peak_flop_per_s)
    for names, share in ((("fp16", "bf16"), 1.0), (("fp32", "tf32"), 1.0), (("int8", "fp8"), 0.5), (("int4",), 0.25)):
        found = [peaks[name] for name in names if name in peaks]
        if found:
            return max(found) * share
    return None


def _is_mesh(link: Link) -> bool:
    return link.name.lower().startswith(_MESHES)


def _rate(flop_per_s: float, dtype: str = "fp") -> str:
    return units.count(flop_per_s, "OP/s" if dtype.startswith("int") else "FLOP/s", digits=4)
