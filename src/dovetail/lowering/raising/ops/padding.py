"""Padding with a number or with a mirror image."""

from __future__ import annotations

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.litert_file import LiteRtOperator
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.values import is_quantised
from dovetail.lowering.tensors import Order


def pad(graph: Graph, op: LiteRtOperator) -> None:
    """PAD and PADV2: with real zero, or with the number that the third operand is."""
    x = op.input(0)
    order = graph.order(x)
    kind = "float32" if is_quantised(x) else x.dtype
    value = graph.number(0.0, kind)
    if op.has(2):
        found = graph.known(op.input(2))
        value = graph.real(op.input(2)) if found is None else graph.number(found.reals.data.reshape(()).item(), kind)
        if found is None and op.input(2).rank:
            value = graph.node("Squeeze", [value])
    margins = _margins(graph, op)
    pads = graph.integers(margins[list(order)].T.reshape(-1))
    graph.bind(op, op.output, graph.node("Pad", [graph.real(x, order), pads, value]), order)


def mirror_pad(graph: Graph, op: LiteRtOperator) -> None:
    """MIRROR_PAD; where the edge itself is repeated, each axis is gathered by its mirrored indices."""
    x = op.input(0)
    order, margins = graph.order(x), _margins(graph, op)
    name = graph.real(x, order)
    if op.get("mode", "REFLECT") == "REFLECT":
        pads = graph.integers(margins[list(order)].T.reshape(-1))
        graph.bind(op, op.output, graph.node("Pad", [name, pads], mode="reflect"), order)
        return
    for axis in np.flatnonzero(margins.any(axis=1)).tolist():
        name = _mirrored(graph, op, name, order, axis, margins[axis])
    graph.bind(op, op.output, graph.node("Identity", [name]) if not margins.any() else name, order)


def _mirrored(graph: Graph, op: LiteRtOperator, name: str, order: Order, axis: int, margin: Array) -> str:
    size = graph.fixed(op, op.input(0))[axis]
    if margin.max() > size:
        raise ModelError(f"MIRROR_PAD {op.output.name!r} mirrors {margin.max()} of {size} elements")
    indices = np.pad(np.arange(size), tuple(margin.tolist()), mode="symmetric")
    return graph.node("Gather", [name, graph.integers(indices, "indices")], axis=order.index(axis))


def _margins(graph: Graph, op: LiteRtOperator) -> Array:
    """Padding in front of and behind each axis."""
    margins = graph.constant(op, 1, "padding").astype(np.int64)
    if margins.shape != (op.input(0).rank, 2) or (margins < 0).any():
        raise ModelError(f"{op.code} {op.output.name!r} pads by {margins.tolist()}")
    return margins


TABLE = {"PAD": pad, "PADV2": pad, "MIRROR_PAD": mirror_pad}
