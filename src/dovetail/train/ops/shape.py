"""Shapes, and moving elements about. Shapes are int64 tensors on the processor."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dovetail.train.ops.node import Kernel, Maker, NodeView, always, axis_of
from dovetail.train.ops.types import from_array, torch_type


def _shape(node: NodeView) -> Kernel:
    start, end = node.get("start", 0), node.get("end")
    if start == 0 and end is None:
        return lambda x: torch.tensor(x.shape, dtype=torch.int64)
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


def _size(x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64)


def _reshape(node: NodeView) -> Kernel:
    read, zero_is_size = node.ints(1, "shape"), bool(node.get("allowzero", 0))

    def run(*inputs: Tensor) -> Tensor:
        x, sizes = inputs[0], read(inputs) or []
        if 0 in sizes:
            if not zero_is_size:
                sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
            if -1 in sizes and 0 in sizes:  # torch cannot tell the size of an axis of an empty tensor
                known = prod(size for size in sizes if size > 0)
                sizes = [0 if size == -1 and known else size for size in sizes]
        return x.reshape(sizes)

    return run


def _flatten(node: NodeView) -> Kernel:
    axis = node.get("axis", 1)
    if axis == 1:
        return lambda x: x.flatten(1) if x.dim() > 1 else x.reshape(x.shape[0], 1)

    def run(x: Tensor) -> Tensor:
        split = axis_of(axis, x.dim())
        return x.reshape(prod(x.shape[:split]), prod(x.shape[split:]))

    return run


def _transpose(node: NodeView) -> Kernel:
    order = node.get("perm")
    if order is None:
        return lambda x: x.permute(*range(x.dim() - 1, -1, -1)) if x.dim() else x
    order = tuple(order)
    return lambda x: x.permute(order)


def _squeeze(node: NodeView) -> Kernel:
    read = node.ints(1, "axes")

    def run(*inputs: Tensor) -> Tensor:
        x, axes = inputs[0], read(inputs)
        if axes is None:
            return x.squeeze()
        return x.squeeze(axes[0]) if len(axes) == 1 else x.squeeze(tuple(axes))

    return run


def _unsqueeze(node: NodeView) -> Kernel:
    read = node.ints(1, "axes")

    def run(*inputs: Tensor) -> Tensor:
        x, axes = inputs[0], read(inputs) or []
        rank = x.dim() + len(axes)
        for axis in sorted(axis_of(axis, rank) for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return run


def _concat(node: NodeView) -> Kernel:
    axis = node.attributes["axis"]
    return lambda *inputs: torch.cat(inputs, axis) if len(inputs) > 1 else inputs[0]


def _split(node: NodeView) -> Kernel:
    read, axis, count = node.ints(1, "split"), node.get("axis", 0), len(node.outputs)

    def run(*inputs: Tensor) -> Any:
        x, sizes = inputs[0], read(inputs)
        if sizes is None:
            each = -(-x.shape[axis] // count)
            sizes = [max(0, min(each, x.shape[axis] - index * each)) for index in range(count)]
        return torch.split(x, sizes, axis)

    return _single(run, count)


def _single(run: Callable[..., Any], outputs: int) -> Kernel:
    """A kernel of one output returns the tensor itself."""
    return run if outputs > 1 else lambda *inputs: run(*inputs)[0]


def _slice(node: NodeView) -> Kernel:
    starts, ends = node.ints(1, "starts"), node.ints(2, "ends")
    axes, steps = node.ints(3, "axes"), node.ints(4)

    def run(*inputs: Tensor) -> Tensor:
        x, first, last = inputs[0], starts(inputs) or [], ends(inputs) or []
        along = axes(inputs) or range(len(first))
        by = steps(inputs) or [1] * len(first)
        for start, end, axis, step in zip(first, last, along, by, strict=True):
            x = _sliced(x, axis, range(*slice(start, end, step).indices(x.shape[axis])))
        return x

    return run


def _sliced(x: Tensor, axis: int, taken: range) -> Tensor:
    if len(taken) == x.shape[axis] and taken.step == 1:
        return x
    if taken.step == 1:
        return x.narrow(axis, taken.start, len(taken))
    if taken.step > 0:
        index: list[Any] = [slice(None)] * axis_of(axis, x.dim())
        return x[(*index, slice(taken.start, max(taken.start, taken.stop), taken.step))]
    return x.index_select(axis, torch.tensor(taken, dtype=torch.int64))


def _expand(node: NodeView) -> Kernel:
    read = node.ints(1)

    def run(*inputs: Tensor) -> Tensor:
        x, sizes = inputs[0], read(inputs) or []
        return x.expand(torch.broadcast_shapes(x.shape, tuple(sizes)))

    return run


def _tile(node: NodeView) -> Kernel:
    read = node.ints(1)
    return lambda *inputs: inputs[0].repeat(read(inputs) or []) if inputs[0].dim() else inputs[0]


def _constant(node: NodeView) -> Kernel:
    value = stored_constant(node)
    return lambda: value


def stored_constant(node: NodeView) -> Tensor:
    """The value of a Constant node.

    Raises:
        Unsupported: it holds strings or a sparse tensor.
    """
    for name in ("value_float", "value_floats", "value_int", "value_ints"):
        if name in node.attributes:
            return torch.from_numpy(np.array(node.attributes[name], np.float32 if "float" in name else np.int64))
    if "value" not in node.attributes:
        raise node.refuse("of strings or of a sparse tensor")
    return from_array(node.attributes["value"])


def _constant_of_shape(node: NodeView) -> Kernel:
    read = node.ints(0)
    given = node.get("value")
    fill = torch.zeros(1) if given is None else from_array(given)
    number, dtype = fill.reshape(-1)[0].item(), fill.dtype
    return lambda *inputs: torch.full(read(inputs), number, dtype=dtype)


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _depth_to_space(node: NodeView) -> Kernel:
    block = node.attributes["blocksize"]
    if node.get("mode", "DCR") == "CRD":
        return lambda x: torch.nn.functional.pixel_shuffle(x, block)

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        inner = c // block**2
        moved = x.reshape(n, block, block, inner, h, w).permute(0, 3, 4, 1, 5, 2)
        return moved.reshape(n, inner, h * block, w * block)

    return run


def _space_to_depth(node: NodeView) -> Kernel:
    block = node.attributes["blocksize"]
    if node.get("mode", "DCR") == "CRD":
        return lambda x: torch.nn.functional.pixel_unshuffle(x, block)

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        moved = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
        return moved.reshape(n, c * block**2, h // block, w // block)

    return run


def _triangle(node: NodeView) -> Kernel:
    cut, read = (torch.triu if node.get("upper", 1) else torch.tril), node.ints(1)
    return lambda *inputs: cut(inputs[0], (read(inputs) or [0])[0])


def _eye_like(node: NodeView) -> Kernel:
    given, k = node.get("dtype"), node.get("k", 0)
    dtype = None if given is None else torch_type(given)

    def run(x: Tensor) -> Tensor:
        ones = torch.ones(x.shape, dtype=dtype or x.dtype)
        return torch.triu(torch.tril(ones, k), k)

    return run


TABLE: dict[str, Maker] = {
    "Shape": _shape, "Size": always(_size), "Reshape": _reshape, "Flatten": _flatten, "Transpose": _transpose,
    "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Concat": _concat, "Split": _split, "Slice": _slice, "Expand": _expand,
    "Tile": _tile, "Constant": _constant, "ConstantOfShape": _constant_of_shape, "Range": always(_range),
    "DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth, "Trilu": _triangle, "EyeLike": _eye_like,
}  # fmt: skip
