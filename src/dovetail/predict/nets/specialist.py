"""The model of networks in PyTorch, asked for devices of the catalogue: NVIDIA's GPUs, and processors that it was fitted to.

It was fitted to image networks, on GPUs in 16-bit floats and at batches that fill them. What is unlike that is declined: other
types, inputs and sizes of images, and calls shorter than any fitted one, where starting operators takes the time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache, partial

import numpy as np

from dovetail.core.device import Device, Kind
from dovetail.core.prediction import Binds, PerOp
from dovetail.predict.fitted_file import parameters, source
from dovetail.predict.nets.model import FITTED, NEW, SIMILAR, NetModel
from dovetail.predict.nets.on_device import on_device
from dovetail.predict.nets.quantities import FIXED, summed
from dovetail.predict.nets.setting import Setting as Way
from dovetail.predict.nets.terms import TERMS, limits, terms_s
from dovetail.predict.op_table import OpTable
from dovetail.predict.rates import computed_in
from dovetail.predict.setting import Band, Declined, Setting, Told

SIDES = (106.0, 1024.0)
"""Sides of the images that it was fitted to."""
SHORTEST_S = {"gpu compiled": 3.2e-3, "gpu eager": 4.4e-3, "cpu compiled": 1e-3}
"""Shortest step of the fitted rows, of each way to run."""
START_S = 2e-5
"""That PyTorch takes to start an operator without ``torch.compile`` (assumed); a step of many operators is not shorter."""
_TYPES: Mapping[bool, Mapping[str, tuple[str, ...]]] = {
    True: {"fp32": ("fp32",)},
    False: {"fp16": ("amp",), "bf16": ("bf16", "amp_bf16")},
}
"""Whether it is a processor → type → how PyTorch is told to compute in it, the one that a user would take first."""
_DTYPES = {name: dtype for types in _TYPES.values() for dtype, names in types.items() for name in names}
_WORDS = {"amp": "automatic mixed precision", "amp_bf16": "automatic mixed precision", "bf16": "bf16", "fp32": "fp32"}
_NEAR = {
    FITTED: "fitted on this device",
    SIMILAR: "fitted on this device in a similar setting",
    NEW: "by the weights of other GPUs",
}
_NAME = "the model of networks in PyTorch"
_LIMITS = (Binds.COMPUTE, Binds.BANDWIDTH, Binds.OVERHEAD)


@cache
def model() -> NetModel:
    """With the parameters that the package brings."""
    return NetModel(parameters("vision"))


class Networks:
    """Networks as PyTorch runs them."""

    def knows(self, device: Device) -> bool:
        """Whether it is a GPU of NVIDIA's, or a processor that was fitted."""
        gpu = device.kind is Kind.GPU and device.vendor == "NVIDIA"
        return gpu or (device.kind is Kind.CPU and bool(model().fitted(device.name, "cpu compiled")))

    def tell(self, table: OpTable, devices: Sequence[Device], setting: Setting) -> Sequence[Told | Declined]:
        """Time of a call at the batch, compiled unless the setting says eager."""
        unlike = _unlike(table)
        ways = [unlike or _way(table, device, setting) for device in devices]
        told: list[Told | Declined] = [Declined(model=_NAME, reason=way if isinstance(way, str) else "") for way in ways]
        places = [i for i, way in enumerate(ways) if isinstance(way, Way)]
        known = [way for way in ways if isinstance(way, Way)]
        if not known:
            return told
        n, quantities = len(known), np.repeat(table.quantities[None], len(known), axis=0)
        found = model().predict(quantities, np.full(n, float(setting.batch)), np.full(n, _side(table)), known)
        spent = limits(found.shares, quantities).argmax(axis=1)
        for k, (i, way) in enumerate(zip(places, known, strict=True)):
            ends = (float(found.seconds[k]), float(found.low_s[k]), float(found.high_s[k]))
            told[i] = _told(table, way, ends, _LIMITS[spent[k]], setting)
        return told


def _side(table: OpTable) -> float:
    return math.sqrt(table.network.pixels or 0.0)


def _unlike(table: OpTable) -> str:
    """Why a network is unlike those that were fitted; empty where it is not."""
    if table.network.pixels is None:
        return "it was fitted to networks that look at images"
    if not SIDES[0] <= _side(table) <= SIDES[1]:
        return f"it was fitted to images of {SIDES[0]:.0f} to {SIDES[1]:.0f} pixels a side"
    return "" if table.quantities.any() else "it has no operators that could be counted"


def _way(table: OpTable, device: Device, setting: Setting) -> Way | str:
    """How PyTorch would run it, or why that is not known."""
    cpu, (dtype, _) = device.kind is Kind.CPU, computed_in(device, setting.precision, table.dtype)
    if dtype not in _TYPES[cpu]:
        return f"it was fitted to {' and '.join(_TYPES[cpu])} there, not to {dtype or 'what it was asked for'}"
    if cpu and (setting.batch > 1 or setting.threads is not None):
        return "on processors it was fitted to single images on all cores"
    name = " ".join(("cpu" if cpu else "gpu", "eager" if setting.eager else "compiled"))
    if name not in model().ways:
        return "on processors it was fitted to compiled networks"
    same = [way for way in model().fitted(device.name, name) if way.precision in _TYPES[cpu][dtype]]
    if same:
        return max(same, key=lambda way: (-_TYPES[cpu][dtype].index(way.precision), way.torch, not way.channels_last))
    found = on_device(device, compiled=not setting.eager, precision=_TYPES[cpu][dtype][0])
    return found or "its memory bandwidth is not known"


def _told(table: OpTable, way: Way, ends: tuple[float, float, float], binds: Binds, setting: Setting) -> Told | Declined:
    value, low, high = ends
    call_s, least_s = value * setting.batch, _shortest_s(table, way)
    if call_s < least_s:
        short = f"{call_s * 1e3:.2g} ms a call is less than the {least_s * 1e3:.2g} ms from which it was fitted"
        return Declined(model=_NAME, reason=f"{short}: a larger batch can be told")
    how = f"{'compiled' if way.compiled else 'eager'} in {_WORDS[way.precision]}"
    near = model().weights(way).near
    return Told(
        precision=_DTYPES[way.precision],
        seconds=Band(value=value, low=low, high=high),
        latency_s=Band(value=value * setting.batch, low=low * setting.batch, high=high * setting.batch),
        binds=binds,
        source=source("vision"),
        model=f"networks in PyTorch, {'compiled' if way.compiled else 'eager'}, {_NEAR[near]}",
        note=f"as PyTorch {way.torch:g} runs it {how}",
        per_op=partial(per_operator, table, way, setting.batch, value * setting.batch),
    )


def _shortest_s(table: OpTable, way: Way) -> float:
    started = 0.0 if way.compiled or way.cpu else START_S * len(table.launched)
    return max(SHORTEST_S[way.way], started)


def per_operator(table: OpTable, way: Way, batch: int, call_s: float) -> PerOp:
    """Times of the operators that PyTorch launches, scaled to those of a call: what none of them takes alone is shared."""
    calls = np.array([summed([counted], 0.0) for _, counted in table.launched])
    each = np.where(FIXED, calls, calls / table.batch)
    n = len(each)
    parts = terms_s(each, np.full(n, float(batch)), [way] * n) * model().weights(way).values
    parts[:, TERMS.index("step")] /= n
    seconds = np.maximum(parts.sum(axis=1), 1e-15)
    spent = limits(parts / seconds[:, None], each).argmax(axis=1)
    return PerOp(
        names=tuple(name for name, _ in table.launched),
        time_s=tuple((seconds * call_s / seconds.sum()).tolist()),
        binds=tuple(_LIMITS[k] for k in spent),
    )
