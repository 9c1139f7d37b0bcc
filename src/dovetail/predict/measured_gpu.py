"""Networks on a graphics processor that was calibrated: the roofline with what products, convolutions and copies reached there.

An operator's kernel takes ``max(operations / (share · peak) + ramp, bytes / (share of bandwidth))``: the roofline of
:mod:`dovetail.predict.roofline`, its shares and ramp fitted to the measured kernels in the logarithm. Kernels are launched
while earlier ones run, so that a call takes the greater of all kernels and all launches, and what one call alone costs. Off
where a runtime picks other kernels than torch does, or fuses more than activations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dovetail.core.device import Device
from dovetail.core.gpu import GpuCalibration, GpuRow
from dovetail.core.prediction import Binds, PerOp
from dovetail.core.source import Source, SourceKind
from dovetail.predict.op_table import OpTable
from dovetail.predict.priors import Prior
from dovetail.predict.rates import rates
from dovetail.predict.roofline import Roofline, roofline
from dovetail.predict.setting import Band, Declined, Setting, Told

Floats = NDArray[np.float64]

MODEL = "measured rates"

LEAST_SPREAD = (0.7, 1.6)
"""Ends of the interval on whole networks, at least (assumed: layouts, fusion and caches are not modelled)."""
_UNFUSED = {True: "", False: " that is not fused"}
_COMPUTE = ("gemm", "conv", "depthwise")
_STREAMS = ("copy", "triad", "reduce")
_START = (0.8, 0.1, 0.8, 3e-6)
_LEAST, _MOST = (0.02, 0.001, 0.02, 1e-8), (1.0, 1.0, 1.5, 1e-3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What the measured kernels reached of the measured peaks.

    Attributes:
        product: of the peak; ``depthwise`` likewise.
        bandwidth: of the largest stream's.
        ramp_s: that a product takes beside its operations at full rate.
        low: 5 % of the kernels took less than this multiple of what these numbers give; ``high``: 5 % took more.
    """

    product: float
    depthwise: float
    bandwidth: float
    ramp_s: float
    low: float
    high: float


class MeasuredGpu:
    """A specialist for one device.

    Args:
        calibration: of the part.
        device: with the measured rates, under the name by which it is asked.
        remark: said beside every prediction; empty for nothing.
    """

    def __init__(self, calibration: GpuCalibration, device: Device, remark: str = "") -> None:
        self.calibration, self._device, self._remark = calibration, device, remark
        self.shares = fit(calibration.rows, device)
        self._launch_s = calibration.least_s("launch") or 0.0
        self._call_s = calibration.least_s("call") or 0.0

    def knows(self, device: Device) -> bool:
        """Whether it is the calibrated one."""
        return device.name == self._device.name

    def tell(self, table: OpTable, devices: Sequence[Device], setting: Setting) -> Sequence[Told | Declined]:
        """Time of a call and the limit that binds; declined in a type that was not measured."""
        return [self._tell(table, setting)] * len(devices)

    def _tell(self, table: OpTable, setting: Setting) -> Told | Declined:
        found = rates([self._device], setting.precision, table.dtype)
        if math.isnan(found.peak[0]) or math.isnan(found.bandwidth[0]):
            return Declined(model=MODEL, reason=f"{setting.precision or table.dtype} was not measured")
        prior = self._prior(found.priors[0])
        times = roofline(table, replace(found, priors=(prior,), launch_s=np.zeros(1)), setting.batch)
        kernels_s = float(times.total[0])
        launches_s = self._launch_s * (len(table.names) if setting.eager else float((~table.fused).sum()))
        call_s = max(kernels_s, launches_s) + max(0.0, self._call_s - self._launch_s)
        compute, memory, _ = times.limits()[0]
        binds = Binds.OVERHEAD if launches_s > kernels_s else Binds.COMPUTE if compute >= memory else Binds.BANDWIDTH
        latency = Band(value=call_s, low=prior.low * call_s, high=prior.high * call_s)
        return Told(
            precision=found.precision[0],
            seconds=Band(**{end: getattr(latency, end) / setting.batch for end in ("value", "low", "high")}),
            latency_s=latency,
            binds=binds,
            source=prior.source,
            energy_j=self._energy(kernels_s / call_s, latency, setting.batch),
            note=self._note(setting),
            model=MODEL,
            per_op=partial(_per_op, table, times),
        )

    def _note(self, setting: Setting) -> str:
        launched = f"every operator{_UNFUSED[setting.eager]} is launched"
        return "; ".join(filter(None, (f"as calibrated with torch {self.calibration.torch}", launched, self._remark)))

    def _energy(self, busy: float, latency: Band, batch: int) -> Band | None:
        """Joules of a sample: power at work while kernels run, idle power else; ``None`` where power was not measured.

        Power at work lies between that of streams and that of products.
        """
        drawn = [row.power_w for row in self.calibration.rows if row.power_w is not None]
        idle_w = self.calibration.idle_power_w
        if not drawn or idle_w is None:
            return None
        low_w, high_w = (idle_w + busy * (power_w - idle_w) for power_w in (min(drawn), max(drawn)))
        middle = (low_w + high_w) / 2
        return Band(
            value=middle * latency.value / batch,
            low=min(low_w, high_w) * latency.low / batch,
            high=max(low_w, high_w) * latency.high / batch,
        )

    def _prior(self, base: Prior) -> Prior:
        """The class's, with what was measured in its place."""
        found, calibration = self.shares, self.calibration
        return replace(
            base,
            product=found.product,
            depthwise=found.depthwise,
            bandwidth=found.bandwidth,
            ramp_s=found.ramp_s,
            low=min(LEAST_SPREAD[0], found.low),
            high=max(LEAST_SPREAD[1], found.high),
            source=Source(
                kind=SourceKind.DERIVED,
                ref=f"roofline with rates measured on {calibration.gpu.name}, {len(calibration.rows)} kernels",
                date=calibration.date[:10],
            ),
        )


def _per_op(table: OpTable, times: Roofline) -> PerOp:
    """Kernels alone: launches overlap with them."""
    binds = tuple(Binds.COMPUTE if c >= m else Binds.BANDWIDTH for c, m in zip(times.compute[0], times.memory[0], strict=True))
    return PerOp(names=table.names, time_s=tuple(times.per_op[0].tolist()), binds=binds)


def fit(rows: Sequence[GpuRow], device: Device) -> Shares:
    """Least squares of the logarithm, outliers counted less (soft L1).

    Args:
        rows: measured kernels.
        device: with the measured peaks and bandwidth.
    """
    from scipy.optimize import least_squares

    used = [row for row in rows if row.probe.kind in (*_COMPUTE, *_STREAMS) and row.probe.dtype in device.peak_flop_per_s]
    bandwidth = device.bandwidth_bytes_per_s
    if not used or bandwidth is None:
        return Shares(product=_START[0], depthwise=_START[1], bandwidth=_START[2], ramp_s=_START[3], low=0.5, high=2.0)
    arrays = _arrays(used, device)
    floor_s = min((row.time_s for row in rows if row.probe.kind == "launch"), default=0.0)
    measured = np.log([row.time_s for row in used])

    def residual(logs: Floats) -> Floats:
        told: Floats = measured - np.log(np.maximum(_kernels_s(np.exp(logs), *arrays, bandwidth.value), floor_s))
        return told

    bounds = (np.log(_LEAST), np.log(_MOST))
    found = least_squares(residual, np.log(_START), bounds=bounds, loss="soft_l1", f_scale=0.1)
    product, depthwise, stream, ramp_s = np.exp(found.x).tolist()
    low, high = np.exp(np.quantile(residual(found.x), (0.05, 0.95))).tolist()
    return Shares(
        product=product, depthwise=depthwise, bandwidth=stream, ramp_s=ramp_s, low=min(low, 1.0), high=max(high, 1.0)
    )


def _arrays(rows: Sequence[GpuRow], device: Device) -> tuple[Floats, Floats, Floats, NDArray[np.int8]]:
    """Of each kernel: operations, bytes, peak, and 0 for a product, 1 for a depthwise one, 2 for what only streams."""
    kinds = [1 if r.probe.kind == "depthwise" else 2 if r.probe.kind in _STREAMS else 0 for r in rows]
    return (
        np.array([row.flop for row in rows]),
        np.array([row.bytes for row in rows]),
        np.array([device.peak_flop_per_s[row.probe.dtype].value for row in rows]),
        np.array(kinds, dtype=np.int8),
    )


def _kernels_s(
    parameters: Floats, flop: Floats, moved: Floats, peak: Floats, kinds: NDArray[np.int8], bandwidth: float
) -> Floats:
    product, depthwise, stream, ramp_s = parameters
    share = np.where(kinds == 1, depthwise, product)
    computing: Floats = np.where(kinds == 2, 0.0, flop / (peak * share) + ramp_s)
    kernels_s: Floats = np.maximum(computing, moved / (bandwidth * stream))
    return kernels_s
