"""A sheet to a :class:`Device`: units become SI here and nowhere else, and every number gets its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dovetail.core.device import Device, Fact, Link, Memory
from dovetail.core.source import Source, SourceKind
from dovetail.devices.catalogue.deployment import deployment
from dovetail.devices.catalogue.sheet import DeviceSheet, LinkSheet, NumberSheet, SourceSheet, StoreSheet

_PEAKS = (("peak_tflops", 1e12), ("peak_tops", 1e12), ("peak_gflops", 1e9), ("peak_gops", 1e9))
_SIZES = (("memory_gb", 1e9), ("memory_mb", 1e6), ("memory_kb", 1e3))
_FOUR_BITS = {"fp4": "int4"}
"""One name stands for all 4-bit types (:data:`dovetail.core.device.DTYPES`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sources:
    """Short names of a file, and what a device's plain numbers rest on."""

    table: Mapping[str, SourceSheet]
    own: Source

    def fact(self, number: NumberSheet | None, scale: float = 1.0) -> Fact | None:
        if number is None:
            return None
        found = self.own if number.source is None else _source(number.source, self.table)
        kind, date = number.kind or found.kind, number.date or found.date
        return Fact(value=number.value * scale, source=Source(kind=kind, ref=found.ref, date=date))


def to_device(sheet: DeviceSheet, table: Mapping[str, SourceSheet], default: Source) -> Device:
    """One device.

    Args:
        sheet: what the file says.
        table: the file's short names of sources.
        default: source of the plain numbers of a device that names none.

    Raises:
        ValueError: two keys give the peak of the same type.
    """
    sources = _Sources(table=table, own=default if sheet.source is None else _source(sheet.source, table))
    return Device(
        name=sheet.name,
        vendor=sheet.vendor,
        kind=sheet.kind,
        year=sheet.year,
        peak_flop_per_s=_peaks(sheet, sources),
        memory=_memory(sheet, sources),
        power_w=sources.fact(sheet.power_w) or sources.fact(sheet.power_mw, 1e-3),
        idle_power_w=sources.fact(sheet.idle_power_w) or sources.fact(sheet.idle_power_mw, 1e-3),
        launch_s=sources.fact(sheet.launch_us, 1e-6),
        link=_link(sheet.link, sources),
        host_link=_link(sheet.host_link, sources),
        price_usd=sources.fact(sheet.price_usd),
        price_usd_per_h=sources.fact(sheet.price_usd_per_h),
        software=tuple(sheet.software),
        deployment=_deployment(sheet, sources),
        cores=sources.fact(sheet.cores),
        aliases=tuple(sheet.aliases),
        notes=(*sheet.notes, *(f"the rule of {rule} does not hold: {reason}" for rule, reason in sheet.allowed.items())),
    )


def _source(names: str | list[str], table: Mapping[str, SourceSheet]) -> Source:
    """The source behind one or several short names; a name that the table lacks is a reference itself."""
    listed = [names] if isinstance(names, str) else names
    found = [table.get(name) or SourceSheet(ref=name) for name in listed]
    kinds = {sheet.kind for sheet in found}
    return Source(
        # Where one of several was only assumed, the number may be too.
        kind=kinds.pop() if len(kinds) == 1 else SourceKind.ASSUMED,
        ref="; ".join(sheet.ref for sheet in found),
        date=max((sheet.date for sheet in found), default=""),
    )


def _peaks(sheet: DeviceSheet, sources: _Sources) -> dict[str, Fact]:
    peaks: dict[str, Fact] = {}
    for key, scale in _PEAKS:
        for written, number in getattr(sheet, key).items():
            dtype = _FOUR_BITS.get(written, written)
            fact = sources.fact(number, scale)
            if dtype in peaks:
                raise ValueError(f"{key}: the peak for {written} is given twice")
            if fact is not None:
                peaks[dtype] = fact
    return peaks


def _memory(sheet: DeviceSheet, sources: _Sources) -> tuple[Memory, ...]:
    """The tiers; the main one also where nothing but its kind is known."""
    main = _tier(sheet.memory_kind or "memory", sheet, sources)
    known = sheet.memory_kind or main.capacity_bytes or main.bandwidth_bytes_per_s
    rest = [_tier(tier.name, tier, sources) for tier in sheet.tiers]
    return (main, *rest) if known or rest else ()


def _tier(name: str, store: StoreSheet, sources: _Sources) -> Memory:
    sizes = (sources.fact(getattr(store, key), scale) for key, scale in _SIZES)
    return Memory(
        name=name,
        capacity_bytes=next((size for size in sizes if size), None),
        bandwidth_bytes_per_s=sources.fact(store.memory_gbps, 1e9),
    )


def _link(sheet: LinkSheet | None, sources: _Sources) -> Link | None:
    if sheet is None:
        return None
    pair, everyone = sources.fact(sheet.pair_gbps, 1e9), sources.fact(sheet.all_gbps, 1e9)
    return Link(name=sheet.name, pair_bytes_per_s=pair, all_bytes_per_s=everyone)


def _deployment(sheet: DeviceSheet, sources: _Sources) -> Fact | None:
    if sheet.deployment is None:
        return deployment(sheet.kind, sheet.software)
    return Fact(value=float(sheet.deployment), source=sources.own)
