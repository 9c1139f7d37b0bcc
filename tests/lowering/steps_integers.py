"""Operators on integers, for random graphs."""

from __future__ import annotations

import numpy as np
from graphs import Graph, Step, Value


def integer_unary(g: Graph, x: Value) -> Value:
    return g.node(g.pick(("Abs", "Neg", "Sign")), [x.name], x.shape, exact=True)


def integer_binary(g: Graph, x: Value) -> Value:
    op = g.pick(("Add", "Sub", "Mul", "Max", "Min", "Mod"))
    start = g.number(0, x.rank)
    other = g.array(*(s if g.flag() else 1 for s in x.shape[start:]))
    if op == "Mod":
        other = np.where(other == 0, 3, other).astype(g.dtype)
    return g.node(op, [x.name, g.constant(other)], x.shape, exact=True)


def integer_clip(g: Graph, x: Value) -> Value:
    return g.node("Clip", [x.name, g.scalar(-3), g.scalar(4) if g.flag() else ""], x.shape, exact=True)


def integer_reduction(g: Graph, x: Value) -> Value | None:
    if not x.rank:
        return None
    axis, keep = g.number(0, x.rank - 1), int(g.flag())
    shape = [1 if a == axis else s for a, s in enumerate(x.shape) if keep or a != axis]
    return g.node(g.pick(("ReduceSum", "ReduceMax", "ReduceMin")), [x.name, g.integers(axis)], shape, exact=True, keepdims=keep)


STEPS: tuple[Step, ...] = (integer_unary, integer_binary, integer_clip, integer_reduction)
