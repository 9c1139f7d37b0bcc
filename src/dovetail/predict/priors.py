"""What share of its data sheet a kind of hardware reaches where nobody calibrated it, and how far off that may be.

Shares of peak of large products come from best achieved rates (stas00/ml-engineering, maximum achievable matmul FLOPS: median
0.80 of nine NVIDIA parts in bf16, 0.60 of three AMD parts, 0.86 of Gaudi 2 and 3). GPU and CPU shares of whole networks, and
their spreads, come from timm's published benchmarks (huggingface/pytorch-image-models): fitting ``FLOP/(a·peak) +
bytes/(b·bandwidth)`` to 300 to 640 networks a device gives a = 0.8 to 1.4 and b = 0.35 to 0.44 on compiled GPUs, a = 0.35 and
0.47, b = 0.13 and 0.21 on two CPUs; about 90 % of them lie between 0.5 and 3 times what these shares give. Of accelerators that
have models of their own, the spreads are of a constant share of the peak in their zoos. All else is assumed, and wide.
"""

from __future__ import annotations

from dataclasses import dataclass

from dovetail.core.device import Device, Kind
from dovetail.core.source import Source, SourceKind

_TIMM = Source(kind=SourceKind.DERIVED, ref="huggingface/pytorch-image-models benchmarks; stas00/ml-engineering MAMF")
_ZOO = Source(kind=SourceKind.DERIVED, ref="median reached share of peak in the vendor's model zoo")
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


_CPU = Prior(
    product=0.4, depthwise=0.1, vector=0.03, bandwidth=0.2, launch_s=3e-6, ramp_s=1e-6, low=0.45, high=3.0,
    runtime_bytes=1e8, source=_TIMM,
)  # fmt: skip
_NVIDIA = Prior(
    product=0.65, depthwise=0.05, vector=0.02, bandwidth=0.4, launch_s=4e-6, ramp_s=3e-6, low=0.5, high=2.6,
    runtime_bytes=5e8, source=_TIMM,
)  # fmt: skip
_OTHER_GPU = Prior(
    product=0.5, depthwise=0.04, vector=0.02, bandwidth=0.4, launch_s=6e-6, ramp_s=4e-6, low=0.35, high=3.5,
    runtime_bytes=5e8, source=_TIMM,
)  # fmt: skip
_ASIC = Prior(
    product=0.6, depthwise=0.03, vector=0.01, bandwidth=0.6, launch_s=8e-6, ramp_s=5e-6, low=0.3, high=4.0,
    runtime_bytes=5e8, source=_ASSUMED,
)  # fmt: skip
_EDGE = Prior(
    product=0.4, depthwise=0.05, vector=0.02, bandwidth=0.5, launch_s=1.5e-5, ramp_s=5e-6, low=0.3, high=4.0,
    runtime_bytes=3e8, source=_ASSUMED,
)  # fmt: skip
_NPU = Prior(
    product=0.25, depthwise=0.05, vector=0.02, bandwidth=0.5, launch_s=1e-5, ramp_s=5e-6, low=0.2, high=6.0,
    runtime_bytes=1e7, source=_ZOO,
)  # fmt: skip
_FPGA = Prior(
    product=0.4, depthwise=0.1, vector=0.02, bandwidth=0.5, launch_s=1e-5, ramp_s=5e-6, low=0.3, high=5.0,
    runtime_bytes=1e7, source=_ZOO,
)  # fmt: skip
_MCU = Prior(
    product=0.3, depthwise=0.2, vector=0.2, bandwidth=0.5, launch_s=2e-5, ramp_s=1e-7, low=0.3, high=5.0,
    runtime_bytes=3e4, source=_ASSUMED,
)  # fmt: skip

_BY_KIND = {
    Kind.CPU: _CPU, Kind.GPU: _OTHER_GPU, Kind.TPU: _ASIC, Kind.ASIC: _ASIC, Kind.EDGE: _EDGE, Kind.NPU: _NPU,
    Kind.FPGA: _FPGA, Kind.MCU: _MCU,
}  # fmt: skip


def prior(device: Device) -> Prior:
    """The class that a device belongs to."""
    return _NVIDIA if device.kind is Kind.GPU and device.vendor == "NVIDIA" else _BY_KIND[device.kind]
