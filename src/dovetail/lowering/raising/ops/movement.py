"""Operators that rename, split and merge axes; most change only how a value is read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.lowering import layout
from dovetail.lowering.litert_file import LiteRtOperator, LiteRtTensor
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.ops.reduction import without
from dovetail.lowering.raising.values import SizeVaries, checked_axis, is_quantised
from dovetail.lowering.tensors import Order, identity

_OPEN = 1_000_003
"""Stands for the one size left open, as a prime that no other size shares."""


def reshape(graph: Graph, op: LiteRtOperator) -> None:
    """RESHAPE: the value stays in its order where its axes stay whole, else it is moved first."""
    x, out = op.input(0), op.output
    before, after = graph.sizes(x), graph.sizes(out)
    for order in graph.orders(x):
        found = _reshaped(before, after, order)
        if found is not None:
            name = _reshape(graph, op, graph.real(x, order), [before[a] for a in order], [after[a] for a in found])
            graph.bind(op, out, name, found)
            return
    order = graph.order(x)
    flattens = out.rank == 2 and order[0] == 0 and before[0] == after[0] and math.prod(before[1:]) == after[1]
    if flattens and _only_weighs(graph, out):
        lies = np.arange(after[1]).reshape(before[1:])
        graph.shuffled[out] = lies.transpose([axis - 1 for axis in order[1:]]).reshape(-1)
        graph.bind(op, out, _reshape(graph, op, graph.real(x, order), [before[a] for a in order], after))
        return
    graph.bind(op, out, _reshape(graph, op, graph.real(x), before, after))


def _reshaped(before: Sequence[int], after: Sequence[int], order: Order) -> Order | None:
    """Order of a reshaped value whose elements stay where they are; ``None`` when they would have to move."""
    if order == identity(len(before)):
        return identity(len(after))
    if before.count(-1) > 1 or before.count(-1) != after.count(-1):
        return None
    old, new = ([_OPEN if size < 0 else size for size in sizes] for sizes in (before, after))
    return layout.reshaped(old, new, order) if math.prod(old) == math.prod(new) else None


def _reshape(graph: Graph, op: LiteRtOperator, name: str, before: Sequence[int], after: Sequence[int]) -> str:
    """Emits a reshape; a size left open is copied from its place, or follows from the others."""
    if 0 in after:
        raise ModelError(f"{op.code} {op.output.name!r} is empty")
    shape = list(after)
    for place, size in enumerate(shape):
        if size < 0 and place < len(before) and before[place] < 0 and _same_place(before, after, place):
            shape[place] = 0
    if shape.count(-1) > 1:
        raise SizeVaries(f"{op.code} {op.output.name!r} leaves several sizes open")
    return graph.node("Reshape", [name, graph.integers(shape, "shape")])


def _same_place(before: Sequence[int], after: Sequence[int], place: int) -> bool:
    """Whether what lies in front of a place stays as it is, so that the open size there is the same one."""
    return list(before[:place]) == list(after[:place]) and math.prod(map(abs, before)) == math.prod(map(abs, after))


def _only_weighs(graph: Graph, tensor: LiteRtTensor) -> bool:
    """Whether only fully connected layers with constant weights read a tensor."""
    readers = graph.readers.get(tensor, ())
    return tensor not in graph.handed_out and all(
        op.code == "FULLY_CONNECTED" and op.inputs.count(tensor) == 1 and op.inputs[0] is tensor
        and op.output.rank == 2 and graph.known(op.input(1)) is not None
        and op.input(1).rank == 2 and op.input(1).shape[1] == tensor.shape[1]
        for op in readers
    )  # fmt: skip


def squeeze(graph: Graph, op: LiteRtOperator) -> None:
    """SQUEEZE: all axes of size 1 where none are named."""
    x = op.input(0)
    given = op.get("squeezeDims")
    axes = {checked_axis(op, int(a), x.rank) for a in ([] if given is None else given)}
    axes = axes or {axis for axis, size in enumerate(graph.sizes(x)) if size == 1}
    order = graph.order(x)
    name = graph.real(x, order)
    if axes:
        name = graph.node("Squeeze", [name, graph.integers(sorted(order.index(a) for a in axes))])
        graph.bind(op, op.output, name, without(order, axes))
        return
    graph.bind(op, op.output, graph.node("Identity", [name]), order)


def expand_dims(graph: Graph, op: LiteRtOperator) -> None:
    """EXPAND_DIMS: an axis of size 1 more, at the place of its number."""
    x = op.input(0)
    axis = graph.axis(op, 1, x.rank + 1)
    order = graph.order(x)
    wider = [a + (a >= axis) for a in order]
    wider.insert(axis, axis)
    graph.bind(op, op.output, graph.node("Unsqueeze", [graph.real(x, order), graph.integers([axis])]), tuple(wider))


def transpose(graph: Graph, op: LiteRtOperator) -> None:
    """TRANSPOSE: the value stays, its axes get other numbers."""
    x = op.input(0)
    axes = [checked_axis(op, int(a), x.rank) for a in graph.constant(op, 1, "permutation").reshape(-1)]
    if sorted(axes) != list(range(x.rank)):
        raise ModelError(f"TRANSPOSE {op.output.name!r} has the permutation {axes}")
    found = graph.known(x)
    if found is not None:
        quant = found.quant if found.quant is None or found.quant.per_tensor else found.quant.at(axes.index(found.quant.axis))
        graph.fix(op.output, found.data.transpose(axes), quant)
    elif same_meaning(x, op.output):
        graph.alias(op.output, x, axes)
    else:
        order = graph.order(x)
        graph.bind(op, op.output, graph.real(x, order), tuple(axes.index(axis) for axis in order))


def same_meaning(a: LiteRtTensor, b: LiteRtTensor) -> bool:
    """Whether two tensors' elements mean the same."""
    if a.dtype != b.dtype or is_quantised(a) != is_quantised(b):
        return False
    return not is_quantised(a) or (a.quant is not None and a.quant.same(b.quant))


def reverse(graph: Graph, op: LiteRtOperator) -> None:
    """REVERSE_V2: slices backwards."""
    x = op.input(0)
    order = graph.order(x)
    places = [order.index(checked_axis(op, int(a), x.rank)) for a in graph.constant(op, 1, "axes").reshape(-1)]
    n = len(places)
    bounds = ([-1] * n, [np.iinfo(np.int64).min] * n, places, [-1] * n)
    graph.bind(op, op.output, graph.node("Slice", [graph.real(x, order), *(graph.integers(b) for b in bounds)]), order)


TABLE = {
    "RESHAPE": reshape,
    "SQUEEZE": squeeze,
    "EXPAND_DIMS": expand_dims,
    "TRANSPOSE": transpose,
    "REVERSE_V2": reverse,
}
