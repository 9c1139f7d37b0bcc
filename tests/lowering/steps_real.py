"""Operators on reals, for random graphs."""

from __future__ import annotations

import math

import numpy as np
from graphs import Graph, Step, Value
from onnx import helper

SMOOTH = (
    "Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Elu", "Selu", "Celu", "HardSwish", "HardSigmoid", "Softplus", "Softsign", "Mish",
    "LeakyRelu", "Erf", "Sin", "Cos", "Atan", "Asinh", "Identity",
)  # fmt: skip
JUMPING = ("Floor", "Ceil", "Round", "Sign")


def unary(g: Graph, x: Value) -> Value:
    return g.node(g.pick(SMOOTH + (JUMPING if x.exact else ())), [x.name], x.shape)


def positive(g: Graph, x: Value) -> Value:
    """Functions of numbers from 1."""
    size = g.node("Abs", [x.name], x.shape)
    more = g.node("Add", [size.name, g.scalar(1)], x.shape)
    return g.node(g.pick(("Log", "Sqrt", "Reciprocal", "Acosh")), [more.name], x.shape)


def bounded(g: Graph, x: Value) -> Value:
    """Functions of numbers between −1 and 1."""
    small = g.node("Mul", [g.node("Tanh", [x.name], x.shape).name, g.scalar(0.9)], x.shape)
    return g.node(g.pick(("Exp", "Asin", "Acos", "Sinh", "Cosh", "Tan", "Atanh")), [small.name], x.shape)


def clip(g: Graph, x: Value) -> Value:
    ends = [g.scalar(v) if g.flag() else "" for v in (g.pick((0, -0.5, -1)), g.pick((6, 1, 0.5)))]
    return g.node("Clip", [x.name, *ends], x.shape, exact=x.exact)


def operand(g: Graph, x: Value) -> str:
    """Something to combine a value with: constants that broadcast, the value itself moved, or a part of it."""
    kind = g.number(0, 3)
    if kind == 0:
        start = g.number(0, x.rank)
        return g.constant(g.array(*(s if g.flag() else 1 for s in x.shape[start:])))
    if kind == 1 and x.rank:
        axis = g.number(0, x.rank - 1)
        kept = [1 if a == axis else s for a, s in enumerate(x.shape)]
        return g.node("ReduceMax", [x.name, g.integers(axis)], kept, keepdims=1).name
    if kind == 2 and g.dtype == "float32":
        return g.node("Sigmoid", [x.name], x.shape).name
    return x.name


def binary(g: Graph, x: Value) -> Value:
    op, other = g.pick(("Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean")), operand(g, x)
    pair = [x.name, other] if g.flag() else [other, x.name]
    return g.node(op, pair, x.shape)


def divided(g: Graph, x: Value) -> Value:
    below = g.node("Add", [g.node("Abs", [x.name], x.shape).name, g.scalar(1)], x.shape)
    return g.node("Div", [x.name, below.name], x.shape)


def power(g: Graph, x: Value) -> Value:
    base = g.node("Add", [g.node("Abs", [x.name], x.shape).name, g.scalar(0.5)], x.shape)
    small = g.node("Min", [base.name, g.scalar(2)], x.shape)
    return g.node("Pow", [small.name, g.scalar(g.pick((2, 3, 0.5, -1, 1.7)))], x.shape)


def slope(g: Graph, x: Value) -> Value | None:
    if x.rank < 2:
        return None
    shape = g.pick(((x.shape[1], *(1,) * (x.rank - 2)), (1,), x.shape[1:]))
    return g.node("PRelu", [x.name, g.constant(g.array(*shape))], x.shape)


def where(g: Graph, x: Value) -> Value | None:
    if not x.exact:
        return None
    test = g.node(g.pick(("Less", "GreaterOrEqual")), [x.name, g.constant(g.array(*x.shape[-1:]))], x.shape)
    return g.node("Where", [test.name, x.name, operand(g, x)], x.shape)


def reduction(g: Graph, x: Value) -> Value | None:
    if not x.rank:
        return None
    op = g.pick(("Mean", "Sum", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp"))
    axes = sorted(g.order(x.rank)[: g.number(1, x.rank)])
    keep = g.flag()
    shape = [1 if a in axes else s for a, s in enumerate(x.shape) if keep or a not in axes]
    signed = [a - x.rank if g.flag() else a for a in axes]
    return g.node(f"Reduce{op}", [x.name, g.integers(*signed)], shape, keepdims=int(keep))


def along(g: Graph, x: Value) -> Value | None:
    if not x.rank:
        return None
    axis = g.number(-x.rank, x.rank - 1)
    if g.flag():
        return g.node(g.pick(("Softmax", "LogSoftmax")), [x.name], x.shape, axis=axis)
    where = g.constant(np.array(axis, np.int64))
    return g.node("CumSum", [x.name, where], x.shape, exclusive=int(g.flag()), reverse=int(g.flag()))


def product(g: Graph, x: Value) -> Value | None:
    if x.rank < 2:
        return None
    columns = g.number(1, 5)
    weights = g.constant(g.array(x.shape[-1], columns) / np.float32(math.sqrt(x.shape[-1])))
    made = g.node("MatMul", [x.name, weights], (*x.shape[:-1], columns))
    return g.node("Add", [made.name, g.constant(g.array(columns))], made.shape) if g.flag() else made


def normalisation(g: Graph, x: Value) -> Value | None:
    if x.rank < 3:
        return None
    c = x.shape[1]
    scale, bias = (g.constant(g.array(c)) for _ in range(2))
    if g.flag():
        return g.node("InstanceNormalization", [x.name, scale, bias], x.shape, epsilon=0.1)
    mean, variance = g.constant(g.array(c)), g.constant(g.array(c, low=0.5))
    return g.node("BatchNormalization", [x.name, scale, bias, mean, variance], x.shape)


def response(g: Graph, x: Value) -> Value | None:
    return g.node("LRN", [x.name], x.shape, size=g.pick((1, 3, 5)), alpha=0.1) if x.rank == 4 else None


def top(g: Graph, x: Value) -> Value | None:
    if not x.rank:
        return None
    axis = g.number(0, x.rank - 1)
    k, names = g.number(1, x.shape[axis]), [g.name(), g.name()]
    g.nodes.append(helper.make_node("TopK", [x.name, g.integers(k)], names, axis=axis, largest=int(g.flag())))
    return Value(names[0], (*x.shape[:axis], k, *x.shape[axis + 1 :]), x.exact)


STEPS: tuple[Step, ...] = (
    unary, positive, bounded, clip, binary, divided, power, slope, where, reduction, along, product, normalisation, response,
    top,
)  # fmt: skip
