"""Stored integer weights as real values, and back."""

from __future__ import annotations

import numpy as np
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor

from dovetail.core.protocols import Array
from dovetail.train.ops.quantization import Grid, shaped, to_levels
from dovetail.train.ops.types import INTEGER_LIMITS, from_proto
from dovetail.train.source import Item, view


def dequantized(tensor: TensorProto, item: Item, scale: Tensor, zero: TensorProto | None) -> Tensor:
    """Real values, as the DequantizeLinear ``item`` computes them: (levels - zero point) * scale."""
    levels = from_proto(tensor).to(torch.int32)
    if zero is not None:
        levels = levels - _shaped(from_proto(zero).to(torch.int32), levels, item)
    return levels.to(scale.dtype) * _shaped(scale, levels, item)


_NARROW = {TensorProto.INT8: ((-64, 64), (-127, 127)), TensorProto.UINT8: ((0, 127),)}
"""Levels of ONNX Runtime's ``reduce_range``, and of a grid that is symmetric around zero; the narrowest first."""


def span(tensor: TensorProto) -> tuple[int, int]:
    """Lowest and highest level that training may give a stored weight: those of the narrowest grid that it keeps to.

    Weights of 7 bits cannot saturate the 16-bit sums of machines without VNNI; trained beyond, they would. Of -128 kernels may
    assume that there is none: LiteRT's weights have none, so that a file with one would compute something else there.
    """
    levels = numpy_helper.to_array(tensor)
    for low, high in _NARROW.get(tensor.data_type, ()):
        if bool((levels >= low).all() and (levels <= high).all()):
            return low, high
    return INTEGER_LIMITS[tensor.data_type]


def quantized(
    value: Tensor, tensor: TensorProto, item: Item, scale: Tensor, before: Tensor, zero: TensorProto | None,
    limits: tuple[int, int],
) -> Array:  # fmt: skip
    """Levels round(value / scale) + zero point, saturated, in the type of ``tensor``.

    Where neither value nor scale moved, the stored level stays: float32 cannot tell the levels of large int32 biases apart.

    Args:
        value: the trained values.
        tensor: the levels that are stored.
        item: the DequantizeLinear that reads them.
        scale: the scale in use.
        before: the stored scale.
        zero: the stored zero point.
        limits: lowest and highest level, as :func:`span` gives them before the first training step.
    """
    stored = numpy_helper.to_array(tensor)
    point = None if zero is None else from_proto(zero)
    grid = Grid(view(item, [None, None, point]), limits)
    levels = to_levels(value, _shaped(scale, value, item), grid.limits(value, point)).to(torch.float64)
    if point is not None:
        levels = levels + _shaped(point.to(torch.float64), value, item)
    fresh = levels.numpy().clip(*limits).astype(stored.dtype)
    same = (value == dequantized(tensor, item, before, zero)) & (_shaped(scale, value, item) == _shaped(before, value, item))
    levels_now: Array = np.where(same.numpy(), stored.astype(np.int64), fresh.astype(np.int64)).astype(stored.dtype)
    return levels_now


def _shaped(parameter: Tensor, x: Tensor, item: Item) -> Tensor:
    return shaped(parameter, x, item.attributes.get("axis", 1), item.attributes.get("block_size", 0))
