"""A device of the catalogue as where products run."""

from __future__ import annotations

import numpy as np

from dovetail.core.device import Device
from dovetail.predict.clock import attainable_clock
from dovetail.predict.fitted_file import parameters
from dovetail.predict.gemm.processors import processors
from dovetail.predict.gemm.shapes import Gpus
from dovetail.predict.peak_share import peak_shares


def on_device(device: Device, products: int, dtype: str = "bf16") -> Gpus | None:
    """The device for so many products, at the clock that its power limit leaves.

    Returns:
        ``None`` where its peak in that type or its bandwidth is not known.
    """
    peak, bandwidth = device.peak_flop_per_s.get(dtype), device.bandwidth_bytes_per_s
    if peak is None or bandwidth is None:
        return None
    return Gpus(
        name=[device.name] * products,
        peak_flop_per_s=np.full(products, peak.value * attainable_clock(device)),
        bandwidth_bytes_per_s=np.full(products, bandwidth.value),
        processors=np.full(products, processors(device)),
        reached=np.repeat(peak_shares(parameters("matmul_peak_share"), [device.vendor], [dtype]).share, products),
    )
