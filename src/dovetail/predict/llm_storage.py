"""How language models are stored and multiplied: one mapping for what published runs were fitted with and what is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dovetail.core.device import Device
from dovetail.core.errors import InputError
from dovetail.core.transformer import Transformer

Floats = NDArray[np.float64]

WEIGHT_BYTES = {"": 2.0, "fp16": 2.0, "fp8": 1.0, "fp8_block": 1.0, "int8": 1.0, "nvfp4": 4.5 / 8, "int4_wo": 4.5 / 8}
"""Quantisation → bytes of one weight, scales included (one of 8 bits for 16 weights, one of 16 bits for 32)."""

_PLAIN = {"fp16": "", "bf16": "", "fp8": "fp8", "int8": "int8"}
"""Type that somebody asks for → quantisation; 4 bits depend on the device."""


def quantisation(device: Device, precision: str) -> str:
    """How a server stores a model that is asked for in a type of :data:`dovetail.core.device.DTYPES`.

    Four bits are floats where a device has units for them, else integers of weights alone.

    Raises:
        InputError: a type of more than 16 bits: servers load models in 16 bits, and no run in more was fitted.
    """
    if precision == "int4":
        return "nvfp4" if _multiplies_four_bits(device) else "int4_wo"
    if precision not in _PLAIN:
        hint = f"one of: {', '.join([*_PLAIN, 'int4'])}"
        raise InputError(f"a language model is served in 16 bits or fewer, not in {precision}", where="precision", hint=hint)
    return _PLAIN[precision]


def label(quantised: str) -> str:
    """What the corrections of fitted runs call a quantisation."""
    return quantised.removesuffix("_block") or "bf16"


def multiplied_in(device: Device, quantised: str) -> str:
    """Type that weights are multiplied in: floats of 4 and 8 bits only where a device has units for them, else in 16 bits."""
    if quantised == "nvfp4" and _multiplies_four_bits(device):
        return "int4"
    if quantised == "int8":
        return "int8"
    return "fp8" if quantised.startswith("fp8") and "fp8" in device.peak_flop_per_s else "fp16"


def _multiplies_four_bits(device: Device) -> bool:
    """Whether it has units for 4-bit floats. Older ones list 4-bit integers, which nobody serves language models in."""
    peaks = device.peak_flop_per_s
    return "int4" in peaks and "fp8" in peaks and peaks["int4"].value > 1.5 * peaks["fp8"].value


def stored(quantised: Sequence[str]) -> tuple[Floats, Floats]:
    """Bytes of a weight and of a key or value: caches of quantised models hold 8 bits."""
    weights = np.array([WEIGHT_BYTES[name] for name in quantised])
    return weights, np.where(weights == 2.0, 2.0, 1.0)


def outside_experts(models: Sequence[Transformer], weights: Floats) -> Floats:
    """Bytes of a weight outside experts, ``[n]``.

    Mixtures in 4 bits keep all but their experts in 16, as DeepSeek-R1-FP4, gpt-oss and Kimi-K2.5 do.
    """
    mixture = np.array([model.experts > 0 for model in models], dtype=bool)
    return np.where(mixture & (weights < 1), 2.0, weights)
