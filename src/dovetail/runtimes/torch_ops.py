"""How each ONNX operator is said in torch. Loads torch: import it only where a model is built."""

from __future__ import annotations

import operator as py
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx.helper import tensor_dtype_to_np_dtype
from torch import fx

from dovetail.runtimes.torch_graph import Builder, Lowering, Operator, Unsupported, Value, shape_of
from dovetail.runtimes.torch_windows import WINDOWED

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs, "Ceil": torch.ceil, "Cos": torch.cos, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor,
    "HardSwish": F.hardswish, "Log": torch.log, "Mish": F.mish, "Neg": torch.neg, "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal, "Relu": torch.relu, "Round": torch.round, "Sigmoid": torch.sigmoid,
    "Sign": torch.sign, "Sin": torch.sin, "Softplus": F.softplus, "Softsign": F.softsign, "Sqrt": torch.sqrt,
    "Tanh": torch.tanh,
    "Add": torch.add, "And": torch.logical_and, "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge,
    "Less": torch.lt, "LessOrEqual": torch.le, "MatMul": torch.matmul, "Mul": torch.mul, "Or": torch.logical_or,
    "Pow": torch.pow, "Sub": torch.sub, "Where": torch.where, "Xor": torch.logical_xor,
}  # fmt: skip
"""Operators that are one torch function of their operands."""

_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax, "ReduceMin": torch.amin,
    "ReduceL2": torch.linalg.vector_norm, "ReduceLogSumExp": torch.logsumexp,
}  # fmt: skip


def _direct(function: Callable[..., Any]) -> Lowering:
    return lambda b, op: b.call(function, *(b.tensor(value) for value in op.operands))


def _folded(function: Callable[..., Any]) -> Lowering:
    """Operators with any number of operands, taken two at a time."""

    def lower(b: Builder, op: Operator) -> Value:
        result = op.operands[0]
        for value in op.operands[1:]:
            result = b.call(function, b.tensor(result), b.tensor(value))
        return result

    return lower


def _mean(b: Builder, op: Operator) -> Value:
    return b.call(torch.div, _folded(torch.add)(b, op), len(op.operands))


def _identity(b: Builder, op: Operator) -> Value:
    return op.operands[0]


def _div(b: Builder, op: Operator) -> Value:
    x, y = b.tensor(op.operands[0]), b.tensor(op.operands[1])
    mode = None if x.meta["example"].is_floating_point() else "trunc"
    return b.call(torch.div, x, y, rounding_mode=mode)


def _leaky_relu(b: Builder, op: Operator) -> Value:
    return b.call(F.leaky_relu, op.operands[0], op.attributes.get("alpha", 0.01))


def _elu(b: Builder, op: Operator) -> Value:
    return b.call(F.elu, op.operands[0], op.attributes.get("alpha", 1.0))


def _prelu(b: Builder, op: Operator) -> Value:
    x, slope = b.tensor(op.operands[0]), b.tensor(op.operands[1])
    return b.call(torch.where, b.call(torch.gt, x, 0), x, b.call(torch.mul, x, slope))


def _hard_sigmoid(b: Builder, op: Operator) -> Value:
    scaled = b.call(torch.mul, op.operands[0], op.attributes.get("alpha", 0.2))
    return b.call(torch.clamp, b.call(torch.add, scaled, op.attributes.get("beta", 0.5)), 0.0, 1.0)


def _gelu(b: Builder, op: Operator) -> Value:
    return b.call(F.gelu, op.operands[0], approximate=op.attributes.get("approximate", "none"))


def _clip(b: Builder, op: Operator) -> Value:
    return b.call(torch.clamp, op.operands[0], op.constant(1, "min"), op.constant(2, "max"))


def _torch_dtype(b: Builder, onnx_type: int) -> torch.dtype:
    dtype = getattr(torch, np.dtype(tensor_dtype_to_np_dtype(onnx_type)).name)
    return b.dtype if dtype in (torch.float32, torch.float64) and b.dtype != torch.float32 else dtype


def _cast(b: Builder, op: Operator) -> Value:
    return b.call(torch.Tensor.to, op.operands[0], _torch_dtype(b, op.attributes["to"]))


def _gemm(b: Builder, op: Operator) -> Value:
    a, w = b.tensor(op.operands[0]), b.tensor(op.operands[1])
    alpha, beta = op.attributes.get("alpha", 1.0), op.attributes.get("beta", 1.0)
    a = b.call(torch.t, a) if op.attributes.get("transA") else a
    bias = op.operand(2)
    if alpha == 1.0 and (bias is None or (beta == 1.0 and len(shape_of(bias)) == 1)):
        w = w if op.attributes.get("transB") else b.call(torch.t, w)
        return b.call(F.linear, a, w, None if bias is None else b.tensor(bias))
    w = b.call(torch.t, w) if op.attributes.get("transB") else w
    result = b.call(torch.mul, b.call(torch.matmul, a, w), alpha)
    return result if bias is None else b.call(torch.add, result, b.tensor(bias), alpha=beta)


def _batch_norm(b: Builder, op: Operator) -> Value:
    x, scale, bias, mean, variance = (b.tensor(value) for value in op.operands)
    return b.call(F.batch_norm, x, mean, variance, scale, bias, False, 0.0, op.attributes.get("epsilon", 1e-5))


def _instance_norm(b: Builder, op: Operator) -> Value:
    x, scale, bias = (b.tensor(value) for value in op.operands)
    return b.call(F.instance_norm, x, None, None, scale, bias, True, 0.0, op.attributes.get("epsilon", 1e-5))


def _layer_norm(b: Builder, op: Operator) -> Value:
    if op.outputs > 1:
        raise Unsupported("LayerNormalization with statistics as outputs", where=op.name)
    x, scale, bias = op.operands[0], op.operands[1], op.operand(2)
    sizes = list(shape_of(x)[op.attributes.get("axis", -1) :])
    return b.call(
        F.layer_norm,
        x,
        sizes,
        b.tensor(scale),
        None if bias is None else b.tensor(bias),
        op.attributes.get("epsilon", 1e-5),
    )


def _softmax(function: Callable[..., Any]) -> Lowering:
    def lower(b: Builder, op: Operator) -> Value:
        x = op.operands[0]
        if op.opset >= 13:
            return b.call(function, x, op.attributes.get("axis", -1))
        shape, axis = shape_of(x), op.attributes.get("axis", 1) % max(1, len(shape_of(x)))
        rows = b.call(torch.reshape, x, (prod(shape[:axis]), prod(shape[axis:])))
        return b.call(torch.reshape, b.call(function, rows, 1), shape)

    return lower


def _reduction(function: Callable[..., Any]) -> Lowering:
    def lower(b: Builder, op: Operator) -> Value:
        axes = op.constant(1, "axes")
        if not axes and op.attributes.get("noop_with_empty_axes"):
            return op.operands[0]
        axes = tuple(axes) if axes else tuple(range(len(shape_of(op.operands[0]))))
        return b.call(function, op.operands[0], dim=axes, keepdim=bool(op.attributes.get("keepdims", 1)))

    return lower


def _arg(function: Callable[..., Any]) -> Lowering:
    def lower(b: Builder, op: Operator) -> Value:
        if op.attributes.get("select_last_index"):
            raise Unsupported(f"{op.kind} with select_last_index", where=op.name)
        return b.call(function, op.operands[0], op.attributes.get("axis", 0), bool(op.attributes.get("keepdims", 1)))

    return lower


def _reshape(b: Builder, op: Operator) -> Value:
    x, sizes = op.operands[0], list(op.constant(1, "shape"))
    if not op.attributes.get("allowzero"):
        sizes = [shape_of(x)[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return b.call(torch.reshape, x, tuple(sizes))


def _flatten(b: Builder, op: Operator) -> Value:
    shape = shape_of(op.operands[0])
    axis = op.attributes.get("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return b.call(torch.reshape, op.operands[0], (prod(shape[:axis]), prod(shape[axis:])))


def _transpose(b: Builder, op: Operator) -> Value:
    order = op.attributes.get("perm") or range(len(shape_of(op.operands[0])))[::-1]
    return b.call(torch.permute, op.operands[0], tuple(order))


def _squeeze(b: Builder, op: Operator) -> Value:
    axes = op.constant(1, "axes")
    return b.call(torch.squeeze, op.operands[0], tuple(axes)) if axes else b.call(torch.squeeze, op.operands[0])


def _unsqueeze(b: Builder, op: Operator) -> Value:
    x, axes = op.operands[0], op.constant(1, "axes")
    rank = len(shape_of(x)) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = b.call(torch.unsqueeze, x, axis)
    return x


def _concat(b: Builder, op: Operator) -> Value:
    return b.call(torch.cat, [b.tensor(value) for value in op.operands], op.attributes["axis"])


def _split(b: Builder, op: Operator) -> Value:
    x, axis = op.operands[0], op.attributes.get("axis", 0)
    size = shape_of(x)[axis]
    parts = op.constant(1, "split") or [
        min(-(-size // op.outputs), size - i * -(-size // op.outputs)) for i in range(op.outputs)
    ]
    pieces = b.call(torch.split, x, list(parts), axis)
    return [b.call(py.getitem, pieces, index) for index in range(op.outputs)]


def _slice(b: Builder, op: Operator) -> Value:
    x = op.operands[0]
    starts, ends = op.constant(1, "starts"), op.constant(2, "ends")
    axes = op.constant(3, "axes") or list(range(len(starts)))
    steps = op.constant(4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape_of(x)[axis]
        taken = range(*slice(start, end, step).indices(size))
        if step > 0:
            index = [slice(None)] * (axis % len(shape_of(x))) + [slice(taken.start, max(taken.start, taken.stop), step)]
            x = b.call(py.getitem, x, tuple(index))
        else:
            x = b.call(torch.index_select, x, axis, np.array(taken, np.int64))
    return x


def _gather(b: Builder, op: Operator) -> Value:
    x, index = b.tensor(op.operands[0]), op.operands[1]
    shape, axis = shape_of(x), op.attributes.get("axis", 0) % len(shape_of(x))
    if isinstance(index, fx.Node):
        wrapped = b.call(torch.remainder, index, shape[axis])
    else:
        if index.ndim == 0:
            return b.call(torch.select, x, axis, int(index))
        wrapped = b.tensor(np.where(index < 0, index + shape[axis], index))
    if axis == 0 and len(shape) == 2:
        return b.call(F.embedding, wrapped, x)
    flat = b.call(torch.index_select, x, axis, b.call(torch.flatten, wrapped))
    return b.call(torch.reshape, flat, (*shape[:axis], *shape_of(index), *shape[axis + 1 :]))


def _expand(b: Builder, op: Operator) -> Value:
    shape = np.broadcast_shapes(shape_of(op.operands[0]), tuple(op.constant(1)))
    return b.call(torch.broadcast_to, op.operands[0], shape)


def _tile(b: Builder, op: Operator) -> Value:
    return b.call(torch.tile, op.operands[0], tuple(op.constant(1)))


def _quantize(b: Builder, op: Operator) -> Value:
    x, scale, zero = _per_axis(b, op)
    target = np.dtype(np.uint8) if op.operand(2) is None else np.dtype(str(zero.meta["example"].dtype).removeprefix("torch."))
    limits = np.iinfo(target)
    levels = b.call(torch.round, b.call(torch.div, x, scale))
    shifted = b.call(torch.add, levels, zero) if zero is not None else levels
    return b.call(torch.Tensor.to, b.call(torch.clamp, shifted, limits.min, limits.max), getattr(torch, target.name))


def _dequantize(b: Builder, op: Operator) -> Value:
    x, scale, zero = _per_axis(b, op)
    levels = b.call(torch.Tensor.to, x, b.dtype)
    return b.call(torch.mul, b.call(torch.sub, levels, zero) if zero is not None else levels, scale)


def _per_axis(b: Builder, op: Operator) -> tuple[Value, Value, Value]:
    """Operand, scale and zero point, the last two shaped to broadcast along the quantisation axis."""
    x, scale, zero = op.operands[0], op.operands[1], op.operand(2)
    rank, axis = len(shape_of(x)), op.attributes.get("axis", 1)
    if len(shape_of(scale)) > 1:
        raise Unsupported(f"{op.kind} in blocks", where=op.name)
    if len(shape_of(scale)) == 1 and shape_of(scale)[0] > 1:
        shape = [1] * rank
        shape[axis] = shape_of(scale)[0]
        scale = np.asarray(scale).reshape(shape)
        zero = None if zero is None else np.asarray(zero).reshape(shape)
    return x, b.tensor(scale), None if zero is None else b.tensor(zero)


LOWERINGS: dict[str, Lowering] = {
    **{kind: _direct(function) for kind, function in _FUNCTIONS.items()},
    **{kind: _reduction(function) for kind, function in _REDUCTIONS.items()},
    **WINDOWED,
    "Max": _folded(torch.maximum), "Min": _folded(torch.minimum), "Sum": _folded(torch.add), "Mean": _mean,
    "Identity": _identity, "Dropout": _identity, "Div": _div, "LeakyRelu": _leaky_relu, "Elu": _elu, "PRelu": _prelu,
    "HardSigmoid": _hard_sigmoid, "Gelu": _gelu, "Clip": _clip, "Cast": _cast, "Gemm": _gemm,
    "BatchNormalization": _batch_norm, "InstanceNormalization": _instance_norm, "LayerNormalization": _layer_norm,
    "Softmax": _softmax(torch.softmax), "LogSoftmax": _softmax(torch.log_softmax),
    "ArgMax": _arg(torch.argmax), "ArgMin": _arg(torch.argmin),
    "Reshape": _reshape, "Flatten": _flatten, "Transpose": _transpose, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
    "Concat": _concat, "Split": _split, "Slice": _slice, "Gather": _gather, "Expand": _expand, "Tile": _tile,
    "QuantizeLinear": _quantize, "DequantizeLinear": _dequantize,
}  # fmt: skip
"""ONNX operator type → what it becomes."""
