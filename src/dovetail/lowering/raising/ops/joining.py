"""Joining tensors, taking them apart, and repeating them."""

from __future__ import annotations

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.lowering.litert_file import LiteRtOperator
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.ops.common import broadcastable, common_order, finish, int64
from dovetail.lowering.raising.ops.reduction import without
from dovetail.lowering.raising.values import checked_axis
from dovetail.lowering.tensors import identity


def concatenation(graph: Graph, op: LiteRtOperator) -> None:
    """CONCATENATION."""
    tensors = [op.input(i) for i in range(len(op.inputs))]
    order = common_order(graph, tensors)
    axis = checked_axis(op, int(op.get("axis", 0)), len(order))
    names = [graph.real(tensor, order) for tensor in tensors]
    finish(graph, op, graph.node("Concat", names, axis=order.index(axis)), order)


def pack(graph: Graph, op: LiteRtOperator) -> None:
    """PACK: joins along a new axis."""
    tensors = [op.input(i) for i in range(len(op.inputs))]
    axis = checked_axis(op, int(op.get("axis", 0)), tensors[0].rank + 1)
    axes = graph.integers([axis])
    names = [graph.node("Unsqueeze", [graph.real(tensor), axes]) for tensor in tensors]
    graph.bind(op, op.output, graph.node("Concat", names, axis=axis))


def unpack(graph: Graph, op: LiteRtOperator) -> None:
    """UNPACK: one tensor for each index along an axis."""
    x = op.input(0)
    axis = checked_axis(op, int(op.get("axis", 0)), x.rank)
    order = graph.order(x)
    place, sizes = order.index(axis), graph.integers([1] * len(op.outputs))
    parts = graph.node_of("Split", [graph.real(x, order), sizes], len(op.outputs), axis=place)
    for tensor, part in zip(op.outputs, parts, strict=True):
        graph.bind(op, tensor, graph.node("Squeeze", [part, graph.integers([place])]), without(order, {axis}))


def split(graph: Graph, op: LiteRtOperator) -> None:
    """SPLIT into equal parts; the axis comes first."""
    axis = graph.axis(op, 0, op.input(1).rank)
    size, rest = divmod(graph.sizes(op.input(1))[axis], max(len(op.outputs), 1))
    if size < 1 or rest:
        raise ModelError(f"SPLIT {op.output.name!r} makes {len(op.outputs)} parts of {graph.sizes(op.input(1))[axis]}")
    _split(graph, op, 1, axis, [size] * len(op.outputs))


def split_v(graph: Graph, op: LiteRtOperator) -> None:
    """SPLIT_V into parts of given sizes, one of which may follow from the others."""
    axis = graph.axis(op, 2, op.input(0).rank)
    sizes = [int(size) for size in graph.constant(op, 1, "sizes").reshape(-1)]
    if -1 in sizes:
        whole = graph.fixed(op, op.input(0))[axis]
        sizes[sizes.index(-1)] = whole - sum(size for size in sizes if size >= 0)
    _split(graph, op, 0, axis, sizes)


def _split(graph: Graph, op: LiteRtOperator, index: int, axis: int, sizes: list[int]) -> None:
    if len(sizes) != len(op.outputs) or min(sizes) < 0:
        raise ModelError(f"{op.code} {op.output.name!r} makes {len(op.outputs)} parts of the sizes {sizes}")
    x = op.input(index)
    order = graph.order(x)
    names = [graph.real(x, order), graph.integers(sizes)]
    parts = graph.node_of("Split", names, len(sizes), axis=order.index(axis))
    for tensor, part in zip(op.outputs, parts, strict=True):
        graph.bind(op, tensor, part, order)


def tile(graph: Graph, op: LiteRtOperator) -> None:
    """TILE."""
    x, found = op.input(0), graph.known(op.input(1))
    if found is None:
        graph.bind(op, op.output, graph.node("Tile", [graph.real(x), int64(graph, op.input(1))]))
        return
    order = graph.order(x)
    counts = found.data.reshape(-1)[list(order)]
    graph.bind(op, op.output, graph.node("Tile", [graph.real(x, order), graph.integers(counts)]), order)


def broadcast_to(graph: Graph, op: LiteRtOperator) -> None:
    """BROADCAST_TO."""
    x, found = op.input(0), graph.known(op.input(1))
    if found is None:
        graph.bind(op, op.output, graph.node("Expand", [graph.real(x), int64(graph, op.input(1))]))
        return
    shape = found.data.astype(np.int64).reshape(-1)
    order = graph.order(x) if x.rank == len(shape) else identity(len(shape))
    sizes = graph.integers(shape[list(order)], "shape")
    graph.bind(op, op.output, graph.node("Expand", [broadcastable(graph, x, order), sizes]), order)


TABLE = {
    "CONCATENATION": concatenation,
    "PACK": pack,
    "UNPACK": unpack,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "TILE": tile,
    "BROADCAST_TO": broadcast_to,
}
