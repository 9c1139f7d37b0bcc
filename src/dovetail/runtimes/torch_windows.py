"""Convolution, pooling, padding and resizing in torch. Loads torch: import it only where a model is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from dovetail.runtimes.torch_graph import Builder, Lowering, Operator, Unsupported, Value, shape_of

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _pads(op: Operator, sizes: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Padding before and after each spatial axis, ``auto_pad`` resolved."""
    n = len(sizes)
    auto = op.attributes.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        pads = op.attributes.get("pads", [0] * 2 * n) if auto == "NOTSET" else [0] * 2 * n
        return list(pads[:n]), list(pads[n:])
    strides, dilations = op.attributes.get("strides", [1] * n), op.attributes.get("dilations", [1] * n)
    spans = zip(sizes, kernel, strides, dilations, strict=True)
    total = [max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size) for size, k, s, d in spans]
    less = [t // 2 for t in total]
    more = [t - half for t, half in zip(total, less, strict=True)]
    return (less, more) if auto == "SAME_UPPER" else (more, less)


def _pad(b: Builder, x: Value, before: Sequence[int], after: Sequence[int], value: float) -> Value:
    """Pads the trailing axes; torch lists them from the last to the first."""
    pairs = [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
    return b.call(F.pad, x, pairs, value=value) if any(pairs) else x


def _conv(b: Builder, op: Operator) -> Value:
    x, weight, bias = op.operands[0], b.tensor(op.operands[1]), op.operand(2)
    kernel = shape_of(weight)[2:]
    n = len(kernel)
    before, after = _pads(op, shape_of(x)[2:], kernel)
    padding = tuple(before)
    if before != after:
        x, padding = _pad(b, x, before, after, 0.0), (0,) * n
    return b.call(
        _CONV[n],
        x,
        weight,
        None if bias is None else b.tensor(bias),
        tuple(op.attributes.get("strides", [1] * n)),
        padding,
        tuple(op.attributes.get("dilations", [1] * n)),
        op.attributes.get("group", 1),
    )


def _conv_transpose(b: Builder, op: Operator) -> Value:
    x, weight, bias = op.operands[0], b.tensor(op.operands[1]), op.operand(2)
    n = len(shape_of(weight)) - 2
    pads = op.attributes.get("pads", [0] * 2 * n)
    if "output_shape" in op.attributes or op.attributes.get("auto_pad", "NOTSET") != "NOTSET" or pads[:n] != pads[n:]:
        raise Unsupported("ConvTranspose with automatic or uneven padding", where=op.name)
    return b.call(
        _CONV_TRANSPOSE[n],
        x,
        weight,
        None if bias is None else b.tensor(bias),
        tuple(op.attributes.get("strides", [1] * n)),
        tuple(pads[:n]),
        tuple(op.attributes.get("output_padding", [0] * n)),
        op.attributes.get("group", 1),
        tuple(op.attributes.get("dilations", [1] * n)),
    )


def _max_pool(b: Builder, op: Operator) -> Value:
    if op.outputs > 1:
        raise Unsupported("MaxPool with indices", where=op.name)
    x, kernel = op.operands[0], op.attributes["kernel_shape"]
    n = len(kernel)
    before, after = _pads(op, shape_of(x)[2:], kernel)
    x = _pad(b, x, before, after, float("-inf"))
    strides, dilations = op.attributes.get("strides", [1] * n), op.attributes.get("dilations", [1] * n)
    return b.call(_MAX_POOL[n], x, kernel, strides, 0, dilations, bool(op.attributes.get("ceil_mode", 0)))


def _average_pool(b: Builder, op: Operator) -> Value:
    x, kernel = op.operands[0], op.attributes["kernel_shape"]
    n = len(kernel)
    if any(d != 1 for d in op.attributes.get("dilations", [])):
        raise Unsupported("AveragePool with dilation", where=op.name)
    before, after = _pads(op, shape_of(x)[2:], kernel)
    settings = (kernel, op.attributes.get("strides", [1] * n))
    ceil_mode = bool(op.attributes.get("ceil_mode", 0))
    if before == after:
        counted = bool(op.attributes.get("count_include_pad", 0))
        return b.call(_AVERAGE_POOL[n], x, *settings, tuple(before), ceil_mode, counted)
    pooled = b.call(_AVERAGE_POOL[n], _pad(b, x, before, after, 0.0), *settings, 0, ceil_mode)
    if op.attributes.get("count_include_pad", 0):
        return pooled
    ones = torch.ones((1, 1, *shape_of(x)[2:]))
    pairs = [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
    share = _AVERAGE_POOL[n](F.pad(ones, pairs), *settings, 0, ceil_mode)
    return b.call(torch.div, pooled, share.numpy())


def _global_pool(reduce: Any) -> Lowering:
    def lower(b: Builder, op: Operator) -> Value:
        axes = tuple(range(2, len(shape_of(op.operands[0]))))
        return b.call(reduce, op.operands[0], dim=axes, keepdim=True)

    return lower


def _pad_operator(b: Builder, op: Operator) -> Value:
    x, pads, mode = op.operands[0], op.constant(1, "pads"), op.attributes.get("mode", "constant")
    rank, axes = len(shape_of(x)), op.constant(3)
    if axes is not None:
        spread = [0] * 2 * rank
        for i, axis in enumerate(axes):
            spread[axis % rank], spread[axis % rank + rank] = pads[i], pads[i + len(axes)]
        pads = spread
    if mode == "constant":
        value = op.constant(2, "value")
        return _pad(b, x, pads[:rank], pads[rank:], 0.0 if value is None else float(np.ravel(value)[0]))
    inner = [axis for axis in range(rank) if pads[axis] or pads[axis + rank]]
    if mode not in ("reflect", "edge") or not inner or inner[0] < rank - 2:
        raise Unsupported(f"Pad with mode {mode} on these axes", where=op.name)
    padded = range(min(inner[0], rank - 1), rank)
    pairs = [amount for axis in reversed(padded) for amount in (pads[axis], pads[axis + rank])]
    return b.call(F.pad, x, pairs, mode="reflect" if mode == "reflect" else "replicate")


def _resize(b: Builder, op: Operator) -> Value:
    x, mode = op.operands[0], op.attributes.get("mode", "nearest")
    rank = len(shape_of(x))
    last = 1 if op.kind == "Upsample" or op.opset < 11 else 2
    sizes = op.constant(3) or [int(np.floor(n * s)) for n, s in zip(shape_of(x), op.constant(last, "scales"), strict=True)]
    transform = op.attributes.get("coordinate_transformation_mode", "half_pixel" if last == 2 else "asymmetric")
    rounding = op.attributes.get("nearest_mode", "round_prefer_floor" if last == 2 else "floor")
    target = tuple(int(size) for size in sizes[2:])
    whole = all(new % old == 0 for new, old in zip(sizes, shape_of(x), strict=True))
    if tuple(sizes[:2]) != shape_of(x)[:2]:
        raise Unsupported("Resize of batch or channels", where=op.name)
    if mode == "nearest" and transform == "asymmetric" and rounding == "floor":
        return b.call(F.interpolate, x, size=target, mode="nearest")
    if mode == "nearest" and transform == "half_pixel" and rounding == "round_prefer_floor" and whole:
        return b.call(F.interpolate, x, size=target, mode="nearest-exact")
    names = {("linear", 3): "linear", ("linear", 4): "bilinear", ("linear", 5): "trilinear"}
    if (mode, rank) in names and transform in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        corners = transform == "align_corners"
        return b.call(F.interpolate, x, size=target, mode=names[mode, rank], align_corners=corners)
    raise Unsupported(f"Resize with {mode}, {transform}, {rounding}", where=op.name)


def _depth_to_space(b: Builder, op: Operator) -> Value:
    x, block = op.operands[0], op.attributes["blocksize"]
    if op.attributes.get("mode", "DCR") == "CRD":
        return b.call(F.pixel_shuffle, x, block)
    n, c, h, w = shape_of(x)
    split = b.call(torch.reshape, x, (n, block, block, c // block**2, h, w))
    moved = b.call(torch.permute, split, (0, 3, 4, 1, 5, 2))
    return b.call(torch.reshape, moved, (n, c // block**2, h * block, w * block))


WINDOWED: dict[str, Lowering] = {
    "Conv": _conv, "ConvTranspose": _conv_transpose, "MaxPool": _max_pool, "AveragePool": _average_pool,
    "GlobalAveragePool": _global_pool(torch.mean), "GlobalMaxPool": _global_pool(torch.amax),
    "Pad": _pad_operator, "Resize": _resize, "Upsample": _resize, "DepthToSpace": _depth_to_space,
}  # fmt: skip
"""ONNX operator type → what it becomes, for operators that look through a window."""
