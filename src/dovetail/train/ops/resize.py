"""Resize: each axis is a weighted sum of a few elements, so that a small matrix per axis covers every mode.

Where torch's own interpolation computes the same, it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.core.protocols import Array
from dovetail.train.ops.node import Kernel, Maker, NodeView, axis_of

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How an axis is sampled; names are those of the ONNX attributes."""

    mode: str
    transform: str
    nearest: str
    cubic: float
    exclude_outside: bool


def _resize(node: NodeView) -> Kernel:
    old = node.kind == "Upsample" or node.opset < 11
    how = Sampling(
        mode=node.get("mode", "nearest"),
        transform=node.get("coordinate_transformation_mode", "asymmetric" if old else "half_pixel"),
        nearest=node.get("nearest_mode", "floor" if old else "round_prefer_floor"),
        cubic=node.get("cubic_coeff_a", -0.75),
        exclude_outside=bool(node.get("exclude_outside", 0)),
    )
    if node.get("antialias", 0) and how.mode != "nearest":
        raise node.refuse("with antialiasing")
    if how.transform == "tf_crop_and_resize" or node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.refuse("that crops, or keeps the aspect ratio")
    sizes = (lambda inputs: None) if old else node.ints(3)
    scales = _scales(node, 1 if old else 2)
    axes = node.get("axes")

    def run(*inputs: Any) -> Tensor:
        x = inputs[0]
        along = range(x.dim()) if axes is None else [axis_of(axis, x.dim()) for axis in axes]
        wanted = sizes(inputs)
        if wanted:
            factors = [size / x.shape[axis] for axis, size in zip(along, wanted, strict=True)]
        else:
            factors = scales(inputs)
            wanted = [int(np.floor(x.shape[axis] * factor)) for axis, factor in zip(along, factors, strict=True)]
        return _resized(x, dict(zip(along, zip(wanted, factors, strict=True), strict=True)), how)

    return run


def _scales(node: NodeView, index: int) -> Any:
    given = node.get("scales")
    if given is not None:
        return lambda inputs: list(given)
    known = node.value(index)
    if known is not None:
        factors = known.reshape(-1).tolist()
        return lambda inputs: factors
    return lambda inputs: inputs[index].reshape(-1).tolist()


def _resized(x: Tensor, targets: dict[int, tuple[int, float]], how: Sampling) -> Tensor:
    targets = {axis: pair for axis, pair in targets.items() if pair[0] != x.shape[axis] or pair[1] != 1.0}
    if not targets:
        return x
    if x.is_floating_point() and min(targets) >= 2 and (fast := _by_torch(x, targets, how)) is not None:
        return fast
    dtype = x.dtype
    real = x if x.is_floating_point() else x.to(torch.float32)
    for axis, (size, factor) in targets.items():
        weights = matrix(x.shape[axis], size, factor, how)
        if how.mode == "nearest":
            real = real.index_select(axis, torch.from_numpy(weights.argmax(1)))
        else:
            real = torch.tensordot(real, torch.from_numpy(weights).to(real.dtype), ([axis], [1])).movedim(-1, axis)
    return real if dtype.is_floating_point else real.round().to(dtype)


def _by_torch(x: Tensor, targets: dict[int, tuple[int, float]], how: Sampling) -> Tensor | None:
    """Torch's interpolation where it samples at the same points; ``None`` elsewhere."""
    sizes = [targets.get(axis, (x.shape[axis], 1.0))[0] for axis in range(2, x.dim())]
    exact = all(size == x.shape[axis] * factor for axis, (size, factor) in targets.items())
    if not exact or x.dim() not in _LINEAR:
        return None
    whole = all(size % x.shape[axis] == 0 for axis, (size, _) in targets.items())
    if how.mode == "nearest" and whole and (how.transform, how.nearest) in _NEAREST:
        return F.interpolate(x, size=sizes, mode="nearest")
    if how.mode == "linear" and how.transform in ("half_pixel", "align_corners"):
        return F.interpolate(x, size=sizes, mode=_LINEAR[x.dim()], align_corners=how.transform == "align_corners")
    return None


_NEAREST = {("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil")}
"""For whole factors of growth these repeat each element; ``half_pixel`` never lands half-way between two of them."""


@lru_cache(maxsize=256)
def matrix(size: int, out: int, factor: float, how: Sampling) -> Array:
    """Weights ``[out, size]`` of each output element.

    Positions, rounding and weights are those of the operator's definition in the ONNX standard.
    """
    at = positions(size, out, factor, how.transform)
    if how.mode == "nearest":
        places = _ROUND[how.nearest](at).astype(np.int64)
        weights = np.zeros((out, size), np.float32)
        weights[np.arange(out), places.clip(0, size - 1)] = 1
        return weights
    reach = 1 if how.mode == "linear" else 2
    taps = np.floor(at - reach).astype(np.int64)[:, None] + np.arange(2 * reach + 3)[None]
    weights = _kernel(taps - at[:, None], how)
    if how.exclude_outside:
        weights = np.where((taps >= 0) & (taps < size), weights, 0.0)
    weights = weights / weights.sum(1, keepdims=True)
    dense = np.zeros((out, size))
    np.add.at(dense, (np.arange(out)[:, None], taps.clip(0, size - 1)), weights)
    return dense.astype(np.float32)


def positions(size: int, out: int, factor: float, transform: str) -> Array:
    """Where each output element lies on the input's axis, in float32, in which ONNX Runtime rounds."""
    index, scale = np.arange(out, dtype=np.float32), np.float32(factor)
    if transform == "align_corners":
        return index * np.float32(size - 1) / np.float32(out - 1) if out > 1 else index * 0
    if transform == "asymmetric":
        return index / scale
    if transform == "pytorch_half_pixel" and out == 1:
        return index * 0
    if transform == "half_pixel_symmetric":
        offset = np.float32(size / 2) * (1 - np.float32(out) / (scale * np.float32(size)))
        return offset + (index + np.float32(0.5)) / scale - np.float32(0.5)
    return (index + np.float32(0.5)) / scale - np.float32(0.5)


def _kernel(distance: Array, how: Sampling) -> Array:
    d = np.abs(distance)
    if how.mode == "linear":
        result: Array = np.clip(1 - d, 0, None)
        return result
    a = how.cubic  # Keys 1981, equation 4
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


_ROUND: dict[str, Any] = {
    "floor": np.floor, "ceil": np.ceil, "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
}  # fmt: skip


TABLE: dict[str, Maker] = {"Resize": _resize, "Upsample": _resize}
