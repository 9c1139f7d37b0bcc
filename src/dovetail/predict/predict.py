"""Predictions of an analysed model on any device, without calibration.

Devices that somebody fitted a model to (:class:`~dovetail.predict.setting.Specialist`) are told by that, where it applies; all
others by the roofline, with the shares and the spread of their class (:mod:`dovetail.predict.priors`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dovetail.core.constraint import Answer
from dovetail.core.device import STORED_BYTES, Device
from dovetail.core.estimate import Estimate
from dovetail.core.prediction import Binds, PerOp, Prediction
from dovetail.core.source import Source, SourceKind
from dovetail.predict import capacity, cost
from dovetail.predict.cost import Bands
from dovetail.predict.op_table import OpTable
from dovetail.predict.rates import Rates, rates
from dovetail.predict.roofline import Roofline, roofline
from dovetail.predict.setting import Declined, Setting, Specialist, Told
from dovetail.predict.specialists import SPECIALISTS

Floats = NDArray[np.float64]

_LIMITS = (Binds.COMPUTE, Binds.BANDWIDTH, Binds.OVERHEAD)
_BUSY_TOLD = 0.7
"""Share of the time that a device is busy where a fitted model tells only the time (assumed)."""
COVERAGE = 0.9
"""Of intervals that come from errors on rows that were not fitted."""
_MEMORY_SOURCE = Source(kind=SourceKind.DERIVED, ref="weights and live activations; what runtimes add is assumed")
_POWER_SOURCE = Source(kind=SourceKind.ASSUMED, ref="idle power and the rest by how busy it is, at most the maximum")
_COST_SOURCE = Source(kind=SourceKind.DERIVED, ref="price over throughput")


@dataclass(frozen=True, slots=True, kw_only=True)
class Many:
    """One workload on ``d`` devices, as arrays; :meth:`at` gives one of them in full.

    Attributes:
        memory: bytes that a call takes.
        latency: seconds a call; NaN where nothing can be told, here and below.
        seconds: of one sample when calls follow each other.
        energy: joules of one sample.
        usd: of a million samples.
        fits: of each device.
        binds: of each device.
        told: what specialists said of their devices.
        declined: those that know a device and could not tell this workload on it.
    """

    table: OpTable
    devices: tuple[Device, ...]
    setting: Setting
    rates: Rates
    times: Roofline
    need: capacity.Need
    memory: Bands
    latency: Bands
    seconds: Bands
    energy: Bands
    usd: Bands
    fits: tuple[Answer, ...]
    binds: tuple[Binds | None, ...]
    told: tuple[Told | None, ...]
    declined: tuple[tuple[Declined, ...], ...]

    def at(self, i: int, *, per_op: bool = False) -> Prediction:
        """The prediction for one device; with the operators' times where what tells it adds them up."""
        device, told = self.devices[i], self.told[i]
        time_source = told.source if told else self._class_source(i)
        sure = told is None or told.sure
        rate = _estimate(self.seconds, i, time_source, sure=sure)
        return Prediction(
            device=device.name,
            precision=told.precision if told else self.rates.precision[i],
            batch=self.setting.batch,
            latency_s=_estimate(self.latency, i, time_source, sure=sure),
            throughput_per_s=rate and _inverse(rate),
            memory_bytes=_estimate(self.memory, i, _MEMORY_SOURCE, sure=False),
            fits=self.fits[i],
            fits_reason=self._fits_reason(i),
            energy_j=_estimate(self.energy, i, told.source if told and told.energy_j else _POWER_SOURCE),
            cost_usd_per_million=_estimate(self.usd, i, _COST_SOURCE, sure=rate is not None and rate.coverage is not None),
            binds=self.binds[i],
            model=(told.model if told else "roofline") if rate else "",
            per_op=self._per_op(i) if per_op else None,
            notes=self._notes(i),
        )

    def _class_source(self, i: int) -> Source:
        found = self.rates.priors[i].source
        return Source(kind=found.kind, ref=f"roofline with the shares of its class: {found.ref}", date=found.date)

    def _fits_reason(self, i: int) -> str:
        told = self.told[i]
        if told and told.streams and self.fits[i] is not Answer.NO:
            return told.note
        return capacity.reason(self.devices[i], self.need, i, self.fits[i])

    def _per_op(self, i: int) -> PerOp | None:
        told = self.told[i]
        if told is not None:
            return told.per_op() if told.per_op and not np.isnan(self.seconds.value[i]) else None
        if np.isnan(self.times.total[i]):
            return None
        which = np.argmax([self.times.compute[i], self.times.memory[i], self.times.launch[i]], axis=0)
        times = tuple(self.times.per_op[i].tolist())
        return PerOp(names=self.table.names, time_s=times, binds=tuple(_LIMITS[k] for k in which))

    def _told_notes(self, told: Told) -> list[str]:
        asked, brought = self.setting.precision, ""
        if asked not in (None, told.precision):
            brought = f"it has no known {asked} rate: computed in {told.precision}"
        elif told.precision != self.table.dtype:
            brought = f"the model must be brought to {told.precision}"
        return [brought, told.note]

    def _notes(self, i: int) -> tuple[str, ...]:
        device, told = self.devices[i], self.told[i]
        notes = self._told_notes(told) if told else list(self.rates.notes[i])
        notes += [f"{one.model} does not apply: {one.reason}" for one in self.declined[i]]
        if self.fits[i] is Answer.NO:
            notes.append("no time is told, as it does not fit")
        if self.table.uncounted:
            notes.append(f"{self.table.uncounted} operators could not be counted and are left out")
        if device.power_w is None:
            notes.append("its power is not known, so neither is the energy")
        elif device.idle_power_w is None and not (told and told.energy_j):
            notes.append("its idle power is not known: taken as 5 to 60 % of the maximum")
        if device.price_usd_per_h is None:
            life = f"purchase price over {self.setting.life_h:,.0f} h in use (assumed), electricity apart"
            notes.append("its price is not known" if device.price_usd is None else life)
        return tuple(note for note in notes if note)


def predict(
    table: OpTable, device: Device, setting: Setting | None = None, specialists: Sequence[Specialist] = SPECIALISTS
) -> Prediction:
    """Predicts one model on one device, operator by operator where what tells it adds them up.

    Raises:
        InputError: the setting is impossible.
    """
    return predict_many(table, [device], setting, specialists).at(0, per_op=True)


def predict_many(
    table: OpTable, devices: Sequence[Device], setting: Setting | None = None, specialists: Sequence[Specialist] = SPECIALISTS
) -> Many:
    """Predicts one model on many devices at once.

    Args:
        table: the analysed model.
        devices: ``[d]``.
        setting: how it is run.
        specialists: fitted models, asked in order; the first that knows a device and does not decline tells it.
    """
    setting = setting or Setting()
    told, declined = _told(table, devices, setting, specialists)
    found = rates(devices, setting.precision, table.dtype, setting.threads)
    found = replace(found, element_bytes=_element_bytes(found.element_bytes, told))
    times = roofline(table, found, setting.batch)
    need = capacity.need(table, found, setting.batch)
    fitting = _streaming(capacity.fits(need, devices), told)
    possible = np.array([answer is not Answer.NO for answer in fitting])
    latency = _latency(times, found, told, setting, possible)
    alone, limits = _seconds(times, found, told, setting, possible), times.limits()
    seconds, binds = _behind_links(alone, _binds(limits, told, fitting, alone), table, devices, setting)
    total = limits.sum(axis=1)
    busy = np.where([one is None for one in told], 1 - limits[:, 2] / np.where(total > 0, total, 1.0), _BUSY_TOLD)
    return Many(
        table=table,
        devices=tuple(devices),
        setting=setting,
        rates=found,
        times=times,
        need=need,
        memory=Bands(value=need.value, low=need.low, high=need.high),
        latency=latency,
        seconds=seconds,
        energy=_energy(seconds, busy * alone.value / seconds.value, devices, told, possible),
        usd=cost.usd_per_million(seconds, devices, setting.life_h),
        fits=fitting,
        binds=binds,
        told=told,
        declined=declined,
    )


def _told(
    table: OpTable, devices: Sequence[Device], setting: Setting, specialists: Sequence[Specialist]
) -> tuple[tuple[Told | None, ...], tuple[tuple[Declined, ...], ...]]:
    told: list[Told | None] = [None] * len(devices)
    declined: list[tuple[Declined, ...]] = [()] * len(devices)
    for one in specialists:
        places = [i for i, device in enumerate(devices) if told[i] is None and one.knows(device)]
        for i, said in zip(places, one.tell(table, [devices[i] for i in places], setting) if places else (), strict=True):
            if isinstance(said, Declined):
                declined[i] = (*declined[i], said)
            else:
                told[i] = said
    return tuple(told), tuple(declined)


def _element_bytes(plain: Floats, told: Sequence[Told | None]) -> Floats:
    return np.array([STORED_BYTES[one.precision] if one else size for size, one in zip(plain, told, strict=True)])


def _streaming(fitting: Sequence[Answer], told: Sequence[Told | None]) -> tuple[Answer, ...]:
    """Chips that take a network in parts run what is not known to fit; capacity that is known still limits them."""
    return tuple(
        Answer.YES if one and one.streams and answer is Answer.UNKNOWN else answer
        for answer, one in zip(fitting, told, strict=True)
    )


def _interval(value: Floats, found: Rates, possible: NDArray[np.bool_]) -> Bands:
    kept = np.where(possible & (value > 0), value, np.nan)
    return Bands(value=kept, low=kept * found.of_priors("low"), high=kept * found.of_priors("high"))


def _latency(
    times: Roofline, found: Rates, told: Sequence[Told | None], setting: Setting, possible: NDArray[np.bool_]
) -> Bands:
    plain = _interval(times.total, found, possible)
    return _replaced(plain, [one and (one.latency_s or _NOTHING) for one in told], possible)


def _seconds(
    times: Roofline, found: Rates, told: Sequence[Told | None], setting: Setting, possible: NDArray[np.bool_]
) -> Bands:
    plain = _interval(times.total / setting.batch, found, possible)
    return _replaced(plain, [one and one.seconds for one in told], possible)


_NOTHING = Bands(value=np.array(np.nan), low=np.array(np.nan), high=np.array(np.nan))


def _replaced(plain: Bands, told: Sequence[object], possible: NDArray[np.bool_]) -> Bands:
    """What specialists say in place of the roofline."""
    ends = {}
    for name in ("value", "low", "high"):
        values = np.array(getattr(plain, name), dtype=np.float64)
        for i, one in enumerate(told):
            if one is not None:
                values[i] = getattr(one, name) if possible[i] else np.nan
        ends[name] = values
    return Bands(**ends)


def _binds(limits: Floats, told: Sequence[Told | None], fitting: Sequence[Answer], seconds: Bands) -> list[Binds | None]:
    found: list[Binds | None] = []
    for row, one, answer, value in zip(limits, told, fitting, seconds.value, strict=True):
        if answer is Answer.NO:
            found.append(Binds.MEMORY)
        elif np.isnan(value):
            found.append(None)
        else:
            found.append(one.binds if one else _LIMITS[int(np.argmax(row))])
    return found


def _behind_links(
    seconds: Bands, binds: list[Binds | None], table: OpTable, devices: Sequence[Device], setting: Setting
) -> tuple[Bands, tuple[Binds | None, ...]]:
    """No sample is done before the next one arrives: over the link to the host, and from the pipeline before the model."""
    arrives = np.array([_transfer_s(device, table) for device in devices])
    delivered = 1 / setting.input_per_s if setting.input_per_s else 0.0
    slowest = np.maximum(arrives, delivered)
    for i, wait in enumerate(slowest):
        if binds[i] not in (None, Binds.MEMORY) and wait > seconds.value[i]:
            binds[i] = Binds.INPUT if delivered >= arrives[i] else Binds.LINK
    held = {name: np.maximum(getattr(seconds, name), slowest) for name in ("value", "low", "high")}
    return Bands(**held), tuple(binds)


def _transfer_s(device: Device, table: OpTable) -> float:
    rate = device.host_link.pair_bytes_per_s if device.host_link else None
    return table.input_bytes / table.batch / rate.value if rate else 0.0


def _energy(
    seconds: Bands, busy: Floats, devices: Sequence[Device], told: Sequence[Told | None], possible: NDArray[np.bool_]
) -> Bands:
    return _replaced(cost.energy(seconds, busy, devices), [one and one.energy_j for one in told], possible)


def _inverse(seconds: Estimate) -> Estimate:
    return replace(seconds, value=1 / seconds.value, low=1 / seconds.high, high=1 / seconds.low)


def _estimate(bands: Bands, i: int, source: Source, *, sure: bool = True) -> Estimate | None:
    """One of the values. What is assumed states no coverage; nor does what is not ``sure``, though it is derived."""
    value, low, high = float(bands.value[i]), float(bands.low[i]), float(bands.high[i])
    if math.isnan(value + low + high):
        return None
    coverage = COVERAGE if sure and source.kind is not SourceKind.ASSUMED else None
    return Estimate(value=value, low=low, high=high, source=source, coverage=coverage)
