"""Convolutions. Layouts are ONNX's, which are torch's: x ``[N, C, ...]``, weights ``[M, C/group, ...]``."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dovetail.train.ops.node import Kernel, Maker, NodeView
from dovetail.train.ops.windows import pad, windows

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _of_kernel(node: NodeView, make: Any) -> Kernel:
    """Makes the kernel at once where the size of the window is known, else at the first call."""
    kernel = node.get("kernel_shape")
    shape = node.shape(1)
    if kernel is None and shape is not None:
        kernel = shape[2:]
    if kernel is not None:
        found: Kernel = make(node, tuple(kernel))
        return found
    made: dict[tuple[int, ...], Kernel] = {}

    def late(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        size = tuple(weight.shape[2:])
        if size not in made:
            made[size] = make(node, size)
        result: Tensor = made[size](x, weight, bias)
        return result

    return late


def _conv(node: NodeView, kernel: tuple[int, ...]) -> Kernel:
    found = windows(node, kernel)
    if found.n not in _CONV:
        raise node.refuse(f"over {found.n} axes")
    function, strides, dilations, group = _CONV[found.n], found.strides, found.dilations, node.get("group", 1)
    fixed = found.fixed()
    if fixed is not None and fixed[0] == fixed[1]:
        padding = fixed[0]
        return lambda x, w, b=None: function(x, w, b, strides, padding, dilations, group)

    def run(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        before, after = found.padding(x.shape[2:])
        if before == after:
            return function(x, w, b, strides, before, dilations, group)
        return function(pad(x, before, after), w, b, strides, 0, dilations, group)

    return run


def _transposed(node: NodeView, kernel: tuple[int, ...]) -> Kernel:
    found = windows(node, kernel)
    if found.n not in _TRANSPOSED:
        raise node.refuse(f"over {found.n} axes")
    function, strides, dilations, group = _TRANSPOSED[found.n], found.strides, found.dilations, node.get("group", 1)
    extra = tuple(node.get("output_padding", (0,) * found.n))
    wanted = node.get("output_shape")
    fixed = found.auto_pad in ("NOTSET", "", "VALID") and wanted is None
    before, after = (found.fixed() or ((), ())) if fixed else ((), ())
    if fixed and before == after and all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        return lambda x, w, b=None: function(x, w, b, strides, before, extra, group, dilations)

    def run(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        full = function(x, w, b, strides, 0, 0, group, dilations)
        for axis in range(found.n):
            size = full.shape[axis + 2]
            if fixed:
                start, length = before[axis], size + extra[axis] - before[axis] - after[axis]
            else:
                given = None if wanted is None else wanted[-found.n :][axis]
                length = x.shape[axis + 2] * strides[axis] if given is None else given
                total = size + extra[axis] - length
                less = total // 2
                start = max(0, less if found.auto_pad == "SAME_UPPER" else total - less)
            if start + length > size:
                margins = [0] * found.n
                margins[axis] = start + length - size
                full = _with_bias_behind(full, margins, b)
            full = full.narrow(axis + 2, start, length)
        return full

    return run


def _with_bias_behind(x: Tensor, margins: list[int], bias: Tensor | None) -> Tensor:
    """Room that no window reaches holds the bias alone."""
    padded = pad(x, [0] * len(margins), margins)
    if bias is None:
        return padded
    inside = pad(x.new_ones((1, 1, *x.shape[2:])), [0] * len(margins), margins)
    return padded + (1 - inside) * bias.reshape(1, -1, *[1] * len(margins))


TABLE: dict[str, Maker] = {
    "Conv": lambda node: _of_kernel(node, _conv),
    "ConvTranspose": lambda node: _of_kernel(node, _transposed),
}
