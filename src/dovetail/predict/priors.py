"""What share of its data sheet a kind of hardware reaches where nobody calibrated it, and how far off that may be.

Shares of peak of large products come from best achieved rates (stas00/ml-engineering, maximum achievable matmul FLOPS: median
0.80 of nine NVIDIA parts in bf16, 0.60 of three AMD parts, 0.86 of Gaudi 2 and 3). GPU and CPU shares of whole networks, and
their spreads, come from timm's published benchmarks (huggingface/pytorch-image-models): fitting ``FLOP/(a·peak) +
bytes/(b·bandwidth)`` to 300 to 640 networks a device gives a = 0.8 to 1.4 and b = 0.35 to 0.44 on compiled GPUs, a = 0.35 and
0.47, b = 0.13 and 0.21 on two CPUs; about 90 % of them lie between 0.5 and 3 times what these shares give. Of accelerators that
have models of their own, the spreads are of a constant share of the peak in their zoos, which chips of other makers are taken
to be like. All else is assumed, and wide. A range that is assumed states no coverage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dovetail.core.device import Device, Kind
from dovetail.core.source import Source, SourceKind

_TIMM = Source(kind=SourceKind.DERIVED, ref="huggingface/pytorch-image-models benchmarks; stas00/ml-engineering MAMF")
_ZOO = Source(kind=SourceKind.ASSUMED, ref="like chips whose makers publish model zoos: the share of peak reached there")
_LIKE_NVIDIA = Source(kind=SourceKind.ASSUMED, ref="NVIDIA's shares in timm's benchmarks, lowered; no rows of other GPUs")
_ASSUMED = Source(kind=SourceKind.ASSUMED, ref="no published rows of this kind of device")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Of one class of devices.

    Attributes:
        product: share of the peak that a large product reaches; ``depthwise`` likewise.
        vector: share of the peak at which everything that is no product computes.
        bandwidth: share of the memory bandwidth that streams reach.
        launch_s: of one operator, where the device states none.
        ramp_s: time at peak in which a product's operations only fill the device; half its share is reached at that size.
        low: factor of the interval's lower end on times; ``high`` likewise.
        runtime_bytes: that a runtime takes beside the model.
        source: of the shares and the spread.
    """

    product: float
    depthwise: float
    vector: float
    bandwidth: float
    launch_s: float
    ramp_s: float
    low: float
    high: float
    runtime_bytes: float
    source: Source


_COLUMNS = (
    "product", "depthwise", "vector", "bandwidth", "launch_s", "ramp_s", "low", "high", "runtime_bytes", "source",
)  # fmt: skip
_NVIDIA = "NVIDIA's GPUs"
_TABLE: Mapping[str, tuple[Any, ...]] = {
    Kind.CPU:  (0.40, 0.10, 0.03, 0.20, 3.0e-6, 1e-6, 0.45, 3.0, 1e8, _TIMM),
    _NVIDIA:   (0.65, 0.05, 0.02, 0.40, 4.0e-6, 3e-6, 0.50, 2.6, 5e8, _TIMM),
    Kind.GPU:  (0.50, 0.04, 0.02, 0.40, 6.0e-6, 4e-6, 0.35, 3.5, 5e8, _LIKE_NVIDIA),
    Kind.TPU:  (0.60, 0.03, 0.01, 0.60, 8.0e-6, 5e-6, 0.30, 4.0, 5e8, _ASSUMED),
    Kind.ASIC: (0.60, 0.03, 0.01, 0.60, 8.0e-6, 5e-6, 0.30, 4.0, 5e8, _ASSUMED),
    Kind.EDGE: (0.40, 0.05, 0.02, 0.50, 1.5e-5, 5e-6, 0.30, 4.0, 3e8, _ASSUMED),
    Kind.NPU:  (0.25, 0.05, 0.02, 0.50, 1.0e-5, 5e-6, 0.20, 6.0, 1e7, _ZOO),
    Kind.FPGA: (0.40, 0.10, 0.02, 0.50, 1.0e-5, 5e-6, 0.30, 5.0, 1e7, _ZOO),
    Kind.MCU:  (0.30, 0.20, 0.20, 0.50, 2.0e-5, 1e-7, 0.30, 5.0, 3e4, _ASSUMED),
}  # fmt: skip
"""Class → values of :data:`_COLUMNS`."""
_PRIORS = {name: Prior(**dict(zip(_COLUMNS, row, strict=True))) for name, row in _TABLE.items()}


def prior(device: Device) -> Prior:
    """The class that a device belongs to."""
    return _PRIORS[_NVIDIA if device.kind is Kind.GPU and device.vendor == "NVIDIA" else device.kind]
