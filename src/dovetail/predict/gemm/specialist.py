"""The model of matrix products, asked for networks that consist of them, on GPUs in 16-bit floats.

Products of activations with weights take what was learned from profiled kernels; everything else what the model of networks
in PyTorch says of such operators. Checked on 15 vision transformers of timm on four GPUs that the products were not fitted to
(89 rows): 13 % median error compiled and 15 % eager, where the roofline is 63 and 41 % off; 95 % lie in the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from dovetail.core.device import Device, Kind
from dovetail.core.prediction import Binds, PerOp
from dovetail.predict.fitted_file import parameters, source
from dovetail.predict.gemm.model import GemmModel, GemmTimes
from dovetail.predict.gemm.on_device import on_device
from dovetail.predict.gemm.shapes import Gemms, Gpus
from dovetail.predict.nets.quantities import FIXED, Counted, summed
from dovetail.predict.nets.rest import PRECISIONS, Rest, rest_of
from dovetail.predict.nets.specialist import SHORTEST_S
from dovetail.predict.op_table import OpTable
from dovetail.predict.rates import computed_in
from dovetail.predict.setting import Band, Declined, Setting, Told

Floats = NDArray[np.float64]

LEAST_SHARE = 0.5
"""Of the operations that have to be products with weights."""
START_S = {False: 1e-5, True: 3e-5}
"""Eager or not → that PyTorch may need to start an operator (assumed): a short call may take as long as starting them all."""
_NAME = "the model of matrix products"
_NO_BANDWIDTH = "its memory bandwidth is not known"
_LIMITS = (Binds.COMPUTE, Binds.BANDWIDTH, Binds.OVERHEAD)


@cache
def _model() -> GemmModel:
    return GemmModel(parameters("gemm"))


class Products:
    """Networks whose products were learned."""

    def knows(self, device: Device) -> bool:
        """Whether it is a GPU."""
        return device.kind is Kind.GPU

    def tell(self, table: OpTable, devices: Sequence[Device], setting: Setting) -> Sequence[Told | Declined]:
        """Time of a call."""
        work = _work(table)
        types = [computed_in(device, setting.precision, table.dtype)[0] for device in devices]
        reasons = [_unlike(work, dtype) for dtype in types]
        found = [None if reasons[i] else on_device(device, 1, types[i]) for i, device in enumerate(devices)]
        told: list[Told | Declined] = [Declined(model=_NAME, reason=reason or _NO_BANDWIDTH) for reason in reasons]
        places = [i for i, gpu in enumerate(found) if gpu is not None]
        gpus = [gpu for gpu in found if gpu is not None]
        if gpus:
            some, dtypes = [devices[i] for i in places], [types[i] for i in places]
            gemms = work.gemms(setting.batch, len(gpus))
            joined = _repeated(gpus, len(work.shapes))
            times, floors = _model().predict(gemms, joined), _floors(gemms, joined)
            rest = rest_of(work.rest, float(table.batch), some, dtypes, setting)
            for k, i in enumerate(places):
                own = slice(k * len(work.shapes), (k + 1) * len(work.shapes))
                told[i] = _told(work, _ends(work, times, own), floors[:, own], rest[k], devices[i], types[i], setting)
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A table cut in two.

    Attributes:
        shapes: ``[s, 3]`` rows, columns and depth of the products, equal ones once; ``which`` of them each product is ``[p]``.
        names: of the products.
        rest: name of all other operators that are launched, and what they do.
        share: of the operations that are such products.
        batch: that the table was analysed at.
    """

    shapes: Floats
    which: NDArray[np.intp]
    names: tuple[str, ...]
    rest: tuple[tuple[str, Counted], ...]
    share: float
    batch: int

    def gemms(self, batch: int, devices: int) -> Gemms:
        """The products of a call, once for each device."""
        rows, columns, depth = np.tile(self.shapes, (devices, 1)).T
        return Gemms(m=np.maximum(rows * batch / self.batch, 1.0), n=columns, k=depth, role=[""] * len(rows))


def _work(table: OpTable) -> _Work:
    plain = table.products[:, 0] > 0
    shapes, which = np.unique(table.products[plain], axis=0, return_inverse=True)
    names = tuple(name for name, one in zip(table.names, plain, strict=True) if one)
    known = frozenset(names)
    return _Work(
        shapes=shapes,
        which=which.reshape(-1),
        names=names,
        rest=tuple(item for item in table.launched if item[0] not in known),
        share=float(table.flop[plain].sum() / max(table.flop.sum(), 1.0)),
        batch=table.batch,
    )


def _unlike(work: _Work, dtype: str) -> str:
    """Why the model does not apply; empty where it does."""
    if dtype not in PRECISIONS:
        return f"it was fitted to {' and '.join(PRECISIONS)}, not to {dtype or 'what it was asked for'}"
    return "" if work.share >= LEAST_SHARE else f"{work.share:.0%} of the operations are products with weights"


def _repeated(gpus: Sequence[Gpus], products: int) -> Gpus:
    numbers = {item.name: np.repeat([getattr(gpu, item.name)[0] for gpu in gpus], products) for item in fields(Gpus)[1:]}
    return Gpus(name=[gpu.name[0] for gpu in gpus for _ in range(products)], **numbers)


def _ends(work: _Work, times: GemmTimes, own: slice) -> Floats:
    """``[3, products]`` seconds and their ends."""
    return np.stack([times.seconds[own], times.low_s[own], times.high_s[own]])[:, work.which]


def _floors(gemms: Gemms, gpus: Gpus) -> Floats:
    """``[2, n]`` seconds of operations and of traffic at the data sheet's rates."""
    return np.stack([gemms.flop / gpus.peak_flop_per_s, gemms.bytes / gpus.bandwidth_bytes_per_s])


def _told(work: _Work, ends: Floats, floors: Floats, rest: Rest, device: Device, dtype: str, setting: Setting) -> Told:
    products, n = ends.sum(axis=1), len(work.names) + len(work.rest)
    value, low, high = float(products[0]) + rest.seconds, float(products[1]), float(products[2])
    if n > 1:
        # Kernels one by one are known better than a network of them.
        low, high = rest.spread[0] * value, max(rest.spread[1] * value, START_S[setting.eager] * n)
    share, way = float(products[0]) / value, "eager" if setting.eager else "compiled"
    near = "fitted on this device" if device.name in _model().devices else "by the tiles of other GPUs"
    return Told(
        precision=dtype,
        seconds=Band(value=value / setting.batch, low=low / setting.batch, high=high / setting.batch),
        latency_s=Band(value=value, low=low, high=high),
        binds=_binds(ends[0], floors[:, work.which], rest),
        source=source("gemm"),
        model=f"matrix products, {near}; the rest as PyTorch runs it {way}",
        sure=n == 1 or (rest.sure and value >= SHORTEST_S[f"gpu {way}"]),
        note=f"products with weights take {share:.0%} of the time",
        per_op=partial(_operators, work, ends[0], floors[:, work.which], rest),
    )


def _binds(seconds: Floats, floors: Floats, rest: Rest) -> Binds:
    """What most of the time goes into: of a product, whichever of operations and traffic would take longer."""
    computes = floors[0] >= floors[1]
    products = np.array([seconds[computes].sum(), seconds[~computes].sum(), 0.0])
    return _LIMITS[int((products + rest.limits).argmax())]


def _operators(work: _Work, seconds: Floats, floors: Floats, rest: Rest) -> PerOp:
    """Products first, then the rest."""
    each, which = rest.per_operator(np.array([summed([counted], 0.0) for _, counted in work.rest]).reshape(-1, len(FIXED)))
    products = np.where(floors[0] >= floors[1], 0, 1)
    return PerOp(
        names=(*work.names, *(name for name, _ in work.rest)),
        time_s=(*seconds.tolist(), *each.tolist()),
        binds=tuple(_LIMITS[limit] for limit in (*products, *which)),
    )
