"""A device of the catalogue as where networks run in PyTorch."""

from __future__ import annotations

from dovetail.core.device import Device, Kind
from dovetail.predict.clock import attainable_clock
from dovetail.predict.nets.setting import Setting


def on_device(
    device: Device,
    *,
    training: bool = False,
    compiled: bool = False,
    precision: str = "amp",
    channels_last: bool = False,
    torch: float = 2.9,
) -> Setting | None:
    """The setting of :class:`~dovetail.predict.nets.setting.Setting` on one device.

    Returns:
        ``None`` where the device's peak in the type that products compute in, or its bandwidth, is not known.
    """
    dtype = "fp32" if precision == "fp32" else "bf16" if "bf16" in precision else "fp16"
    peak, bandwidth = device.peak_flop_per_s.get(dtype), device.bandwidth_bytes_per_s
    if peak is None or bandwidth is None:
        return None
    return Setting(
        device=device.name,
        cpu=device.kind is Kind.CPU,
        peak_flop_per_s=peak.value,
        bandwidth_bytes_per_s=bandwidth.value,
        training=training,
        compiled=compiled,
        precision=precision,
        channels_last=channels_last,
        torch=torch,
        clock=attainable_clock(device),
    )
