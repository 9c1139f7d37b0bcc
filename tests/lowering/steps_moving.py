"""Operators that move elements about, for random graphs."""

from __future__ import annotations

import math

import numpy as np
from graphs import Graph, Step, Value
from onnx import helper


def transpose(g: Graph, x: Value) -> Value | None:
    if not x.rank:
        return None
    perm = g.order(x.rank)
    return g.node("Transpose", [x.name], [x.shape[a] for a in perm], exact=x.exact, perm=perm)


def reshape(g: Graph, x: Value) -> Value:
    size, shape = math.prod(x.shape), []
    for _ in range(g.number(0, 4)):
        divisors = [d for d in range(1, size + 1) if size % d == 0]
        shape.append(g.pick(divisors))
        size //= shape[-1]
    shape.insert(g.number(0, len(shape)), size)
    return g.node("Reshape", [x.name, g.integers(*shape)], shape, exact=x.exact)


def unsqueeze(g: Graph, x: Value) -> Value | None:
    if x.rank > 4:
        return None
    axis = g.number(0, x.rank)
    return g.node("Unsqueeze", [x.name, g.integers(axis)], (*x.shape[:axis], 1, *x.shape[axis:]), exact=x.exact)


def flatten(g: Graph, x: Value) -> Value:
    axis = g.number(0, x.rank)
    return g.node("Flatten", [x.name], (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), exact=x.exact, axis=axis)


def concat(g: Graph, x: Value) -> Value | None:
    if not x.rank:
        return None
    axis = g.number(0, x.rank - 1)
    other = g.node("Neg", [x.name], x.shape).name if g.flag() else g.constant(g.array(*x.shape))
    shape = [2 * s if a == axis else s for a, s in enumerate(x.shape)]
    return g.node("Concat", [x.name, other], shape, axis=axis)


def split(g: Graph, x: Value) -> Value | None:
    axis = g.number(0, max(x.rank - 1, 0))
    if not x.rank or x.shape[axis] < 2:
        return None
    first = g.number(1, x.shape[axis] - 1)
    sizes = (first, x.shape[axis] - first)
    names = [g.name(), g.name()]
    g.nodes.append(helper.make_node("Split", [x.name, g.integers(*sizes)], names, axis=axis))
    which = g.number(0, 1)
    return Value(names[which], (*x.shape[:axis], sizes[which], *x.shape[axis + 1 :]), x.exact)


def slice_(g: Graph, x: Value) -> Value | None:
    if not x.rank:
        return None
    axis = g.number(0, x.rank - 1)
    step = g.pick((1, 2, -1, -2))
    start, end = sorted((g.number(0, x.shape[axis]), g.number(0, x.shape[axis])))
    bounds = (start, end) if step > 0 else (end - 1, start - 1 - x.shape[axis] if start == 0 else start - 1)
    size = len(range(start, end, abs(step)))
    if not size:
        return None
    inputs = [x.name, *(g.integers(int(v)) for v in (*bounds, axis, step))]
    return g.node("Slice", inputs, (*x.shape[:axis], size, *x.shape[axis + 1 :]), exact=x.exact)


def pad(g: Graph, x: Value) -> Value | None:
    mode = g.pick(("constant", "reflect", "edge"))
    if not x.rank or (mode == "reflect" and min(x.shape) < 2):
        return None
    most = 1 if mode == "reflect" else 2
    low = -1 if mode == "constant" and min(x.shape) > 2 else 0
    begin, end = ([g.number(low, most) if g.flag() else 0 for _ in x.shape] for _ in range(2))
    inputs = [x.name, g.integers(*begin, *end)]
    if mode == "constant" and g.flag():
        inputs.append(g.scalar(0.5))
    return g.node("Pad", inputs, [b + s + e for b, s, e in zip(begin, x.shape, end, strict=True)], exact=x.exact, mode=mode)


def expand(g: Graph, x: Value) -> Value:
    shape = [g.number(1, 3) if s == 1 else s for s in x.shape]
    front = [g.number(1, 2)] if x.rank < 5 and g.flag() else []
    return g.node("Expand", [x.name, g.integers(*front, *shape)], [*front, *shape], exact=x.exact)


def tile(g: Graph, x: Value) -> Value | None:
    if not x.rank:
        return None
    counts = [g.number(1, 2) for _ in x.shape]
    return g.node("Tile", [x.name, g.integers(*counts)], np.multiply(counts, x.shape), exact=x.exact)


def gather(g: Graph, x: Value) -> Value | None:
    if not x.rank:
        return None
    axis = g.number(0, x.rank - 1)
    index = np.array([g.number(-x.shape[axis], x.shape[axis] - 1) for _ in range(g.number(1, 4))], np.int64)
    index = index.reshape(()) if index.size == 1 and g.flag() else index
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    return g.node("Gather", [x.name, g.constant(index)], shape, exact=x.exact, axis=axis)


def gather_elements(g: Graph, x: Value) -> Value | None:
    if not x.rank:
        return None
    axis = g.number(0, x.rank - 1)
    random = np.random.default_rng(g.number(0, 2**32 - 1))
    index = random.integers(-x.shape[axis], x.shape[axis], [g.number(1, s) for s in x.shape])
    return g.node("GatherElements", [x.name, g.constant(index)], index.shape, exact=x.exact, axis=axis)


def blocks(g: Graph, x: Value) -> Value | None:
    if x.rank != 4:
        return None
    n, c, h, w = x.shape
    if c % 4 == 0 and g.flag():
        mode = g.pick(("DCR", "CRD"))
        return g.node("DepthToSpace", [x.name], (n, c // 4, 2 * h, 2 * w), exact=x.exact, blocksize=2, mode=mode)
    if h % 2 or w % 2:
        return None
    return g.node("SpaceToDepth", [x.name], (n, 4 * c, h // 2, w // 2), exact=x.exact, blocksize=2)


def resize(g: Graph, x: Value) -> Value | None:
    if x.rank != 4:
        return None
    n, c, h, w = x.shape
    mode = g.pick(("nearest", "linear", "cubic"))
    kind = g.pick(("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"))
    size = (g.number(1, 2 * h + 1), g.number(1, 2 * w + 1)) if g.flag() else (2 * h, 2 * w)
    how = {"nearest_mode": g.pick(("floor", "round_prefer_floor", "round_prefer_ceil", "ceil"))} if mode == "nearest" else {}
    if g.flag():
        size = (2 * h, 3 * w)
        extra = ["", g.constant(np.array([1, 1, 2, 3], np.float32))]
    else:
        extra = ["", "", g.integers(n, c, *size)]
    return g.node(
        "Resize", [x.name, *extra], (n, c, *size), exact=x.exact and mode == "nearest", mode=mode,
        coordinate_transformation_mode=kind, **how,
    )  # fmt: skip


def extreme(g: Graph, x: Value) -> Value | None:
    """Positions of the greatest elements, and what they take from a table or a one-hot matrix."""
    if not x.exact or not x.rank or g.dtype == "int64":  # LiteRT compares up to 32 bits
        return None
    axis, last = g.number(0, x.rank - 1), int(g.flag())
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    found = g.node(g.pick(("ArgMax", "ArgMin")), [x.name], shape, axis=axis, keepdims=0, select_last_index=last)
    if g.flag() or not shape or g.dtype == "int32":  # ONNX Runtime has no OneHot of int32
        return g.node("Gather", [g.constant(g.array(x.shape[axis], 2)), found.name], (*shape, 2), exact=True)
    depth, values = g.integers(x.shape[axis]), g.constant(np.array([0, 1], g.dtype))
    return g.node("OneHot", [found.name, depth, values], (*shape, x.shape[axis]), exact=True)


def scatter(g: Graph, x: Value) -> Value | None:
    if not x.rank or x.shape[0] < 2 or not x.exact:
        return None
    add, count = g.flag(), g.number(1, x.shape[0])
    rows = g.constant(np.array(g.order(x.shape[0])[:count], np.int64)[:, None])
    updates = g.constant(g.array(count, *x.shape[1:]))
    return g.node("ScatterND", [x.name, rows, updates], x.shape, reduction="add" if add else "none")


def triangle(g: Graph, x: Value) -> Value | None:
    if x.rank < 2:
        return None
    k = g.constant(np.array(g.number(-3, 3), np.int64))
    return g.node("Trilu", [x.name, k], x.shape, exact=x.exact, upper=int(g.flag()))


STEPS: tuple[Step, ...] = (
    transpose, reshape, unsqueeze, flatten, split, slice_, pad, expand, tile, gather, gather_elements, extreme, scatter,
    triangle,
)  # fmt: skip
REAL_STEPS: tuple[Step, ...] = (concat, blocks, resize)
"""Of reals alone."""
