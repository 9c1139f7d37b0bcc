"""QuantizeLinear, DequantizeLinear, and both in a row as fake quantisation with a gradient that passes straight through.

The levels are ONNX Runtime's: x / scale rounded half to even, then saturated. Between the two operators levels are carried as
floats, so that gradients flow; they hold every level of up to 16 bits exactly. A gradient passes where the value lies on the
grid and stops where it saturates (Bengio 2013). Scales that are trained receive the gradient of learned step sizes times
1/sqrt(n * Qmax) (Esser 2020, equation 3 and section 2.2); n is the number of values per scale, for activations of one sample.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor

from dovetail.train.ops.node import Kernel, Maker, NodeView, Unsupported, axis_of
from dovetail.train.ops.types import INTEGER_LIMITS, TORCH_TYPES

Limits = tuple[Any, Any]
"""Lowest and highest level, counted from the zero point: integers, or tensors where zero points differ between channels."""
_LIMITS = {TORCH_TYPES[kind]: pair for kind, pair in INTEGER_LIMITS.items() if kind in TORCH_TYPES}


class _Straight(torch.autograd.Function):  # type: ignore[misc]
    """Fake quantisation with a fixed scale: one pass in the backward direction."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: Any, high: Any) -> Tensor:
        levels, inside = _rounded(_scaled(x, scale), low, high)
        ctx.save_for_backward(inside)
        return levels.mul_(scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None


class _Round(torch.autograd.Function):  # type: ignore[misc]
    """Rounds to the grid; the gradient passes on it."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, low: Any, high: Any) -> Tensor:
        levels, inside = _rounded(t, low, high)
        ctx.save_for_backward(inside)
        return levels

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None


class _GradientTimes(torch.autograd.Function):  # type: ignore[misc]
    """The value itself, with its gradient times a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0] * ctx.factor, None


def _rounded(t: Tensor, low: Any, high: Any) -> tuple[Tensor, Tensor]:
    """Nearest levels, half to even and saturated, and where nothing saturated."""
    if isinstance(low, int):
        # With a scale of 1 this is exact; given the scale itself, torch would multiply by its reciprocal, ONNX Runtime divides.
        pair: tuple[Tensor, Tensor] = torch.ops.aten.fake_quantize_per_tensor_affine_cachemask(t, 1.0, 0, low, high)
        return pair
    nearest = torch.round(t)
    return torch.clamp(nearest, low, high), (nearest >= low) & (nearest <= high)


def _scaled(x: Tensor, scale: Tensor) -> Tensor:
    return (x if x.dtype == scale.dtype else x.to(scale.dtype)) / scale


def fake_quantize(x: Tensor, scale: Tensor, limits: Limits, samples: int = 1) -> Tensor:
    """Values on the grid, in the type of ``x``.

    Args:
        x: any shape.
        scale: a scalar, or shaped to broadcast against ``x``.
        limits: lowest and highest level, counted from the zero point.
        samples: independent samples in ``x``, for the gradient of a trained scale.
    """
    low, high = limits
    if not (torch.is_grad_enabled() and scale.requires_grad):
        result: Tensor = _Straight.apply(x, scale, low, high)
        return result
    step = _learned(x, scale, high, samples)
    return (_Round.apply(_scaled(x, step), low, high) * step).to(x.dtype)


def _learned(x: Tensor, scale: Tensor, high: Any, samples: int) -> Tensor:
    top = high if isinstance(high, int) else int(high.max())
    n = x.numel() / (scale.numel() * max(1, samples))
    step: Tensor = _GradientTimes.apply(scale, 1 / math.sqrt(max(1.0, n * max(1, top))))
    return step


def to_levels(x: Tensor, scale: Tensor, limits: Limits) -> Tensor:
    """Levels of ``x``, counted from the zero point."""
    return _rounded(_scaled(x, scale), *limits)[0]


def shaped(parameter: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point of one value, one per channel, or one per block, made to broadcast against ``x``."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    if block:
        return parameter.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    sizes = [1] * x.dim()
    sizes[axis_of(axis, x.dim())] = parameter.numel()
    return parameter.reshape(sizes)


class Grid:
    """The grid of one QuantizeLinear or DequantizeLinear, from its attributes and its zero point.

    Args:
        node: the operator.
        span: lowest and highest level, where those of the zero point's type do not hold.
    """

    def __init__(self, node: NodeView, span: tuple[int, int] | None = None) -> None:
        self.axis, self.block = node.get("axis", 1), node.get("block_size", 0)
        self._zero = node.value(2)
        self._given = node.has(2)
        kind = node.type(2) or node.get("output_dtype", 0)
        if kind and kind not in INTEGER_LIMITS:
            raise node.refuse(f"on the grid of {TensorProto.DataType.Name(kind)}")
        self._range = span or (INTEGER_LIMITS[kind] if kind else (None if self._given else (0, 255)))
        self._fixed = self._common(self._zero) if self._range and (self._zero is not None or not self._given) else None

    def _common(self, zero: Tensor | None) -> Limits | None:
        """Limits where one zero point serves all channels."""
        assert self._range is not None
        point = 0 if zero is None or not zero.numel() else int(zero.reshape(-1)[0])
        if zero is not None and not bool((zero.to(torch.int64) == point).all()):
            return None
        return self._range[0] - point, self._range[1] - point

    def limits(self, x: Tensor, zero: Tensor | None) -> Limits:
        """Limits counted from the zero point, for a tensor on this grid.

        Raises:
            Unsupported: the type of the zero point is not an integer.
        """
        if self._fixed is not None:
            return self._fixed
        if zero is None:
            return 0, 255
        if self._range is None and zero.dtype not in _LIMITS:
            raise Unsupported(f"quantisation to {zero.dtype}")
        lowest, highest = self._range or _LIMITS[zero.dtype]
        points = shaped(zero.to(torch.int64), x, self.axis, self.block)
        if points.dim() == 0:
            return lowest - int(points), highest - int(points)
        return (lowest - points).to(torch.float32), (highest - points).to(torch.float32)

    def step(self, scale: Tensor, x: Tensor) -> Tensor:
        """The scale, made to broadcast against ``x``."""
        return shaped(scale, x, self.axis, self.block)

    def offset(self, x: Tensor, zero: Tensor | None) -> Any:
        """The zero point, likewise."""
        return 0 if zero is None else shaped(zero.to(torch.float32), x, self.axis, self.block)


def _quantize(node: NodeView) -> Kernel:
    """Levels as floats."""
    grid = Grid(node)

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        low, high = grid.limits(x, zero)
        step = grid.step(scale, x)
        if torch.is_grad_enabled() and step.requires_grad:
            step = _learned(x, step, high, x.shape[0] if x.dim() else 1)
        levels: Tensor = _Round.apply(_scaled(x, step), low, high)
        offset = grid.offset(x, zero)
        return levels if isinstance(offset, int) else levels + offset

    return run


def _dequantize(node: NodeView) -> Kernel:
    """Of integers, or of levels as floats."""
    axis, block = node.get("axis", 1), node.get("block_size", 0)
    zero_point = node.value(2)
    centred = not node.has(2) or (zero_point is not None and not bool(zero_point.to(torch.int64).any()))

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        if x.dtype == torch.int32 and not centred and zero is not None:
            x, zero = x - shaped(zero.to(torch.int32), x, axis, block), None
        levels = x if x.is_floating_point() else x.to(scale.dtype)
        if not centred and zero is not None:
            levels = levels - shaped(zero.to(scale.dtype), x, axis, block)
        return levels * shaped(scale, x, axis, block)

    return run


def weight(node: NodeView, span: tuple[int, int]) -> Kernel:
    """DequantizeLinear of a stored integer tensor whose real values are trained: they are put on the grid at each call."""
    grid = Grid(node, span)

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        return fake_quantize(x, grid.step(scale, x), grid.limits(x, zero))

    return run


def pair(node: NodeView) -> Kernel:
    """QuantizeLinear, given here, and the DequantizeLinear behind it, with the same scale and zero point."""
    grid, weight = Grid(node), node.shape(0) is not None

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        samples = 1 if weight or not x.dim() else x.shape[0]
        return fake_quantize(x, grid.step(scale, x), grid.limits(x, zero), samples)

    return run


TABLE: dict[str, Maker] = {"QuantizeLinear": _quantize, "DequantizeLinear": _dequantize}
