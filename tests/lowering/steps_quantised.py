"""Operators between pairs of quantisation, for random graphs."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx
import steps_moving
import steps_real
import steps_windows
from graphs import Graph, Step, Value
from lowered import Rejected, reference

Arrays = dict[str, np.ndarray]
BYTES = ("int8", "uint8")


def rounded(g: Graph, x: Value, low: float, high: float, dtype: str) -> tuple[Value, Value]:
    """A value through integers that span a range: the integers and their reals."""
    limits = np.iinfo(dtype)
    low, high = min(low, 0.0), max(high, 0.0, min(low, 0.0) + 1e-3)
    scale = np.float32((high - low) / (limits.max - limits.min))
    zero = int(np.clip(np.rint(limits.min - low / scale), limits.min, limits.max))
    parts = [g.constant(scale.reshape(())), g.constant(np.array(zero, dtype))]
    stored = g.node("QuantizeLinear", [x.name, *parts], x.shape)
    return stored, g.node("DequantizeLinear", [stored.name, *parts], x.shape)


def weights(g: Graph, value: np.ndarray, axis: int, x_scale: float) -> tuple[str, str]:
    """Weights of 8 bits with one scale or one for each output, and a bias of 32 bits."""
    other = tuple(a for a in range(value.ndim) if a != axis)
    scale = np.abs(value).max(axis=other).astype(np.float32) / 127 + np.float32(1e-6)
    if g.flag():
        scale = np.full_like(scale, scale.max())
    shape = [-1 if a == axis else 1 for a in range(value.ndim)]
    stored = np.clip(np.rint(value / scale.reshape(shape)), -127, 127).astype(np.int8)
    one = g.flag() and bool((scale == scale[0]).all())
    parts = [g.constant(scale[0] if one else scale), g.constant(np.zeros(() if one else scale.shape, np.int8))]
    made = g.node("DequantizeLinear", [g.constant(stored), *parts], value.shape, **({} if one else {"axis": axis}))
    bias_scale = g.constant((scale * np.float32(x_scale)).astype(np.float32))
    bias = np.rint(g.array(len(scale)) / (scale * x_scale)).astype(np.int32)
    return made.name, g.node("DequantizeLinear", [g.constant(bias), bias_scale], bias.shape, axis=0).name


def convolution(g: Graph, x: Value, scale: float) -> Value | None:
    """Conv or ConvTranspose with weights of 8 bits."""
    made = (steps_windows.conv if g.flag() else steps_windows.conv_transpose)(g, x)
    if made is None:
        return None
    place = max(i for i, node in enumerate(g.nodes) if node.op_type in ("Conv", "ConvTranspose"))
    node = g.nodes.pop(place)
    later = [g.nodes.pop() for _ in g.nodes[place:]][::-1]
    value = next(onnx.numpy_helper.to_array(c) for c in g.constants if c.name == node.input[1])
    group = next((a.i for a in node.attribute if a.name == "group"), 1)
    transposed = node.op_type == "ConvTranspose"
    w, bias = weights(g, value, 1 if transposed else 0, scale)
    node.input[:] = [x.name, w] if transposed and group > 1 else [x.name, w, bias]
    g.nodes += [node, *later]
    return made


def product(g: Graph, x: Value, scale: float) -> Value | None:
    """MatMul or Gemm with weights of 8 bits."""
    if x.rank < 2:
        return None
    columns = g.number(1, 5)
    w, bias = weights(g, g.array(x.shape[-1], columns), 1, scale)
    if x.rank == 2 and g.flag():
        return g.node("Gemm", [x.name, w, bias], (x.shape[0], columns))
    made = g.node("MatMul", [x.name, w], (*x.shape[:-1], columns))
    return g.node("Add", [made.name, bias], made.shape) if g.flag() else made


def pair(g: Graph, x: Value, scale: float, dtypes: Sequence[str] = BYTES) -> Value | None:
    """An operator with two quantised operands, each with its own scale."""
    if g.flag():
        low, high = -g.number(1, 4), g.number(1, 4)
        shape = [s if g.flag() else 1 for s in x.shape]
        other = Value(g.constant(g.array(*shape, low=low, high=high)), tuple(shape), False)
    else:
        low, high = -g.number(1, 4), 1
        other = g.node("Sin", [x.name], x.shape)
    _, real = rounded(g, other, low, high, g.pick(dtypes))
    op = g.pick(("Add", "Sub", "Mul", "Max", "Min", "Concat", "Where"))
    if op == "Concat":
        if not x.rank or other.shape != x.shape:
            return None
        axis = g.number(0, x.rank - 1)
        return g.node(op, [x.name, real.name], [2 * s if a == axis else s for a, s in enumerate(x.shape)], axis=axis)
    chosen = [g.constant(g.array(*x.shape) > 0)] if op == "Where" else []
    made = g.node(op, [*chosen, *([x.name, real.name] if g.flag() else [real.name, x.name])], x.shape)
    return g.node("Relu", [made.name], made.shape) if op in ("Add", "Mul") and g.flag() else made


PLAIN: tuple[Step, ...] = (
    steps_real.unary, steps_real.clip, steps_real.binary, steps_real.divided, steps_real.slope, steps_real.reduction,
    steps_real.along, steps_windows.pool, *steps_moving.REAL_STEPS,
    *(step for step in steps_moving.STEPS if step not in (steps_moving.extreme, steps_moving.scatter)),
)  # fmt: skip


def quantised_graph(seed: int, nodes: int, dtypes: Sequence[str] = BYTES) -> tuple[onnx.ModelProto, Arrays]:
    """A model of operators between pairs of quantisation that fit the numbers it is fed; of 8 bits its output are the integers,
    of more their reals.
    """
    g = Graph(random.Random(seed))
    x = g.input(*(g.number(1, 6) for _ in range(g.pick((1, 2, 3, 4, 4, 4)))))
    feeds = {x.name: g.array(*x.shape, low=-2.0, high=2.0)}
    dtype = g.pick(dtypes)
    steps = np.iinfo(dtype).max - np.iinfo(dtype).min
    stored, current = rounded(g, x, -2.0, 2.0, dtype)
    scale = 4 / steps
    for _ in range(nodes):
        start = len(g.nodes)
        weighted = {0: convolution, 1: product, 2: partial(pair, dtypes=dtypes)}.get(g.number(0, 4))
        made = weighted(g, current, scale) if weighted else g.pick(PLAIN)(g, current)
        if made is None or math.prod(made.shape) > 4000 or made.rank > 5:
            continue
        try:
            real = next(iter(reference(g.model([made.name]), feeds).values()))
        except Rejected:
            del g.nodes[start:]
            continue
        low, high = float(real.min()), float(real.max())
        stored, current = rounded(g, made, low, high, dtype)
        scale = max(high, 0.0, min(low, 0.0) + 1e-3) / steps - min(low, 0.0) / steps
    return g.model([stored.name if steps == 255 else current.name]), feeds
