"""What trees are asked about a product: sizes, how full tiles and waves are, and what the tile model says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.gemm.shapes import ROLES, Gemms, Gpus

Floats = NDArray[np.float64]

_SHAPES = (
    (256, 128), (128, 256), (128, 128), (64, 256), (256, 64), (64, 128), (128, 64), (64, 64), (192, 128), (128, 192), (96, 128),
)  # fmt: skip
_IN_WAVES = _SHAPES[:7]
_MANY = 40.0
"""Waves past this count make no difference."""


def roof_s(gemms: Gemms, gpus: Gpus) -> Floats:
    """``[n]`` a plain roofline, which features are taken relative to: 0.8 of the peak, 0.85 of the bandwidth, 4 µs."""
    arithmetic = gemms.flop / (0.8 * gpus.peak_flop_per_s)
    return np.asarray(np.maximum(arithmetic, gemms.bytes / (0.85 * gpus.bandwidth_bytes_per_s)) + 4e-6)


def work_features(gemms: Gemms, gpus: Gpus, log_seconds: Floats) -> Floats:
    """``[n, features]`` but for device and role.

    Args:
        gemms: the products.
        gpus: where they run.
        log_seconds: ``[n]`` of the tile model.
    """
    roof = roof_s(gemms, gpus)
    found = [np.log(gemms.m), np.log(gemms.n), np.log(gemms.k), np.log(roof), np.log(gemms.flop / gemms.bytes)]
    for rows, columns in _SHAPES:
        tiles = np.ceil(gemms.m / rows) * np.ceil(gemms.n / columns)
        waves = tiles / gpus.processors
        area = rows * columns / (gemms.m * gemms.n)
        found += [np.log(np.ceil(waves) * gpus.processors * area), np.log(tiles * area)]
        if (rows, columns) in _IN_WAVES:
            found += [np.minimum(waves, _MANY), np.minimum(np.ceil(waves), _MANY), waves - np.ceil(waves)]
    return np.stack([*found, log_seconds - np.log(roof)], axis=1)


def flags(devices: Sequence[str], roles: Sequence[str], fitted: Sequence[str]) -> Floats:
    """``[n, fitted + roles]``: which of the fitted devices and which role each product has; none is all zero."""
    pairs = zip(devices, roles, strict=True)
    rows = [[device == name for name in fitted] + [role == name for name in ROLES] for device, role in pairs]
    return np.array(rows, dtype=np.float64).reshape(len(devices), len(fitted) + len(ROLES))
