"""Pooling over windows and over all of an image."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.train.ops.node import Kernel, Maker, NodeView, always
from dovetail.train.ops.windows import Windows, pad, windows

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _plain(found: Windows) -> tuple[int, ...] | None:
    """Padding that torch's pooling takes as it is: equal on both sides and at most half a window; ``None`` otherwise."""
    fixed = found.fixed()
    if found.ceil or fixed is None or fixed[0] != fixed[1]:
        return None
    return fixed[0] if all(2 * p <= k for p, k in zip(fixed[0], found.kernel, strict=True)) else None


def _max_pool(node: NodeView) -> Kernel:
    found = windows(node, node.attributes["kernel_shape"])
    if found.n not in _MAX:
        raise node.refuse(f"over {found.n} axes")
    if node.wants(1):
        return _max_pool_with_indices(node, found)
    function, kernel, strides, dilations = _MAX[found.n], found.kernel, found.strides, found.dilations
    padding = _plain(found)

    def run(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return run(x.to(torch.float32)).to(x.dtype)
        if padding is not None:
            return function(x, kernel, strides, padding, dilations)
        before, after = found.padding(x.shape[2:])
        beyond = found.beyond(x.shape[2:], before, after)
        reached = pad(x, before, [a + b for a, b in zip(after, beyond, strict=True)], float("-inf"))
        return function(reached, kernel, strides, 0, dilations)

    return run


def _max_pool_with_indices(node: NodeView, found: Windows) -> Kernel:
    """Indices count through the whole tensor, axes in their order; torch counts within one image."""
    padding = _plain(found)
    if padding is None or node.get("storage_order", 0):
        raise node.refuse("with indices, and uneven padding or column-major order")
    function = _MAX[found.n]

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        values = x if x.is_floating_point() else x.to(torch.float32)
        pooled, places = function(values, found.kernel, found.strides, padding, found.dilations, return_indices=True)
        n, c = x.shape[:2]
        images = torch.arange(n * c).reshape(n, c, *[1] * found.n) * prod(x.shape[2:])
        return pooled.to(x.dtype), places + images

    return run


def _average_pool(node: NodeView) -> Kernel:
    found = windows(node, node.attributes["kernel_shape"])
    if found.n not in _AVERAGE:
        raise node.refuse(f"over {found.n} axes")
    counted = bool(node.get("count_include_pad", 0))
    padding = _plain(found)
    if padding is not None and all(d == 1 for d in found.dilations):
        function, kernel, strides = _AVERAGE[found.n], found.kernel, found.strides
        return lambda x: function(x, kernel, strides, padding, False, counted)

    def run(x: Tensor) -> Tensor:
        before, after = found.padding(x.shape[2:])
        beyond = found.beyond(x.shape[2:], before, after)
        behind = [a + b for a, b in zip(after, beyond, strict=True)]
        inside = x.new_ones((1, 1, *x.shape[2:]))
        inside = pad(pad(inside, before, after, float(counted)), [0] * found.n, beyond)
        return window_sums(pad(x, before, behind), found) / window_sums(inside, found)

    return run


def window_sums(x: Tensor, found: Windows) -> Tensor:
    """Sum in each window of an already padded input."""
    flat = x.reshape(-1, 1, *x.shape[2:])
    ones = x.new_ones((1, 1, *found.kernel))
    sums = _CONV[found.n](flat, ones, None, found.strides, 0, found.dilations)
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


def _lp_pool(node: NodeView) -> Kernel:
    found, p = windows(node, node.attributes["kernel_shape"]), node.get("p", 2)
    if found.n not in _CONV:
        raise node.refuse(f"over {found.n} axes")

    def run(x: Tensor) -> Tensor:
        before, after = found.padding(x.shape[2:])
        beyond = found.beyond(x.shape[2:], before, after)
        reached = pad(x, before, [a + b for a, b in zip(after, beyond, strict=True)])
        return window_sums(reached.abs() ** p, found) ** (1 / p)

    return run


def _spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


def _global_average(x: Tensor) -> Tensor:
    return x.mean(_spatial(x), keepdim=True)


def _global_max(x: Tensor) -> Tensor:
    return x.amax(_spatial(x), keepdim=True)


def _global_lp(node: NodeView) -> Kernel:
    p: Any = node.get("p", 2)
    return lambda x: torch.linalg.vector_norm(x, p, _spatial(x), keepdim=True)


TABLE: dict[str, Maker] = {
    "MaxPool": _max_pool, "AveragePool": _average_pool, "LpPool": _lp_pool, "GlobalAveragePool": always(_global_average),
    "GlobalMaxPool": always(_global_max), "GlobalLpPool": _global_lp,
}  # fmt: skip
