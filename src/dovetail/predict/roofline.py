"""Times of operators on devices that nobody calibrated.

An operator takes the greater of its operations over the rate that its family and size reach, and its bytes over the bandwidth
that streams reach (Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009), and the launch on top. A product
of few operations reaches ``share · w / (w + w_half)`` of the peak, with ``w_half`` what the device would do in its ramp time.
Off where caches hold what is counted as memory traffic, and where operators overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.family import Family
from dovetail.predict.op_table import OpTable
from dovetail.predict.rates import Rates

Floats = NDArray[np.float64]

COMPUTE, BANDWIDTH, OVERHEAD = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """One workload on ``d`` devices, seconds a call.

    Attributes:
        per_op: ``[d, n]``.
        compute: ``[d, n]`` if only operations took time.
        memory: ``[d, n]`` if only bytes did; 0 where the bandwidth is not known.
        launch: ``[d, n]``.
    """

    per_op: Floats
    compute: Floats
    memory: Floats
    launch: Floats

    @property
    def total(self) -> Floats:
        """``[d]``."""
        total: Floats = self.per_op.sum(axis=1)
        return total

    def limits(self) -> Floats:
        """``[d, 3]`` seconds that each of compute, bandwidth and launches is what an operator waits for."""
        bound = self.compute >= self.memory
        return np.stack(
            [
                np.where(bound, self.compute, 0.0).sum(axis=1),
                np.where(bound, 0.0, self.memory).sum(axis=1),
                self.launch.sum(axis=1),
            ],
            axis=1,
        )


def roofline(table: OpTable, rates: Rates, batch: int) -> Roofline:
    """Predicts a workload on all devices at once.

    Args:
        table: the workload.
        rates: of ``d`` devices; NaN peaks give NaN times.
        batch: samples a call; operations and activations grow with it, weights do not.
    """
    scale = batch / table.batch
    flop = table.flop * scale
    share, product = _shares(table, rates), table.family <= Family.DEPTHWISE
    peak, launch_s = rates.peak[:, None], rates.launch_s[:, None]
    half = np.where(product, peak * share * rates.of_priors("ramp_s")[:, None], 0.0)
    compute = (flop + np.where(flop > 0, half, 0.0)) / (peak * share)
    moved = (table.activations * scale + table.weights) * rates.element_bytes[:, None] + table.stored_bytes * scale
    bandwidth = (rates.bandwidth * rates.of_priors("bandwidth"))[:, None]
    memory = np.where(np.isnan(bandwidth), 0.0, moved / bandwidth)
    launch = np.where(table.fused, 0.0, launch_s) + np.zeros_like(compute)
    return Roofline(per_op=np.maximum(compute, memory) + launch, compute=compute, memory=memory, launch=launch)


def _shares(table: OpTable, rates: Rates) -> Floats:
    """``[d, n]`` share of the peak that each operator can reach."""
    by_family = np.stack(
        [rates.of_priors(name) for name in ("product", "depthwise", "vector", "vector", "vector", "vector")], axis=1
    )
    return by_family[:, table.family]
