"""How far a power limit lowers a GPU's clock below the one that its data sheet's peak stands for."""

from __future__ import annotations

from dovetail.core.device import Device, Kind

_NEEDED_W_PER_FLOP_PER_S = 5.45e-12
"""Power that an Ada or Blackwell GPU is given where it need not lower its clock: 450 W for 82.6 TFLOPS of fp32 in an RTX 4090,
575 W for 104.8 in an RTX 5090 (data sheets)."""
_FIRST_YEAR = 2022
"""Older processes need more, which their parts are given."""


def attainable_clock(device: Device) -> float:
    """Share of the clock that the peak stands for; 1 where power or fp32 peak are not stated, and on all but NVIDIA's GPUs.

    Power goes with frequency times voltage squared, and voltage with frequency, so that frequency goes with the cube root of
    power (Hennessy & Patterson, *Computer Architecture*, section 1.5). Off for loads that do not draw full power.
    """
    peak = device.peak_flop_per_s.get("fp32")
    if device.kind is not Kind.GPU or device.vendor != "NVIDIA" or (device.year or 0) < _FIRST_YEAR:
        return 1.0
    if peak is None or device.power_w is None:
        return 1.0
    return float(min(1.0, (device.power_w.value / (_NEEDED_W_PER_FLOP_PER_S * peak.value)) ** (1 / 3)))
