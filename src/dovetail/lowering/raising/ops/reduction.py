"""Reductions along axes, and what searches or sums along one."""

from __future__ import annotations

import numpy as np
import onnx

from dovetail.core.errors import ModelError
from dovetail.lowering.litert_file import LiteRtOperator, LiteRtTensor
from dovetail.lowering.raising.folding import Raising
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.values import checked_axis
from dovetail.lowering.tensors import Order

_OPSET_AXES_AS_INPUT = 18


def reduced(graph: Graph, op_type: str, name: str, places: list[int], keep: bool) -> str:
    """A reduction; where axes are given depends on the opset."""
    if op_type == "ReduceSum" or graph.opset >= _OPSET_AXES_AS_INPUT:
        return graph.node(op_type, [name, graph.integers(places)], keepdims=int(keep))
    return graph.node(op_type, [name], axes=places, keepdims=int(keep))


def reduction(op_type: str) -> Raising:
    """Raising of a reduction along constant axes."""

    def raising(graph: Graph, op: LiteRtOperator) -> None:
        x = op.input(0)
        order = graph.order(x)
        name, kept = _reduced(graph, op, op_type, graph.real(x, order), order)
        graph.bind(op, op.output, name, kept)

    return raising


def truth(op_type: str) -> Raising:
    """Raising of REDUCE_ANY and REDUCE_ALL, by way of numbers."""

    def raising(graph: Graph, op: LiteRtOperator) -> None:
        x = op.input(0)
        order = graph.order(x)
        number = graph.node("Cast", [graph.real(x, order)], to=onnx.TensorProto.INT32)
        name, kept = _reduced(graph, op, op_type, number, order)
        graph.bind(op, op.output, graph.node("Cast", [name], to=onnx.TensorProto.BOOL), kept)

    return raising


def _reduced(graph: Graph, op: LiteRtOperator, op_type: str, name: str, order: Order) -> tuple[str, Order]:
    rank = len(order)
    axes = {checked_axis(op, int(a), rank) for a in graph.constant(op, 1, "axes").reshape(-1)}
    keep = bool(op.get("keepDims", False))
    if not axes:
        return graph.node("Identity", [name]), order
    result = reduced(graph, op_type, name, sorted(order.index(axis) for axis in axes), keep)
    return result, order if keep else without(order, axes)


def without(order: Order, axes: set[int]) -> Order:
    """An order after some axes were dropped."""
    left = [axis for axis in range(len(order)) if axis not in axes]
    return tuple(left.index(axis) for axis in order if axis in left)


def extreme(op_type: str) -> Raising:
    """Raising of ARG_MAX and ARG_MIN: the first place of the extreme."""

    def raising(graph: Graph, op: LiteRtOperator) -> None:
        x = op.input(0)
        order, axis = graph.order(x), graph.axis(op, 1, x.rank)
        name = graph.node(op_type, [graph.real(x, order)], axis=order.index(axis), keepdims=0)
        graph.bind(op, op.output, as_type(graph, name, op.output), without(order, {axis}))

    return raising


def as_type(graph: Graph, name: str, tensor: LiteRtTensor) -> str:
    """An int64 value in the integer type of a tensor."""
    if tensor.dtype == "int64":
        return name
    return graph.node("Cast", [name], to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)))


def top_k(graph: Graph, op: LiteRtOperator) -> None:
    """TOPK_V2: the greatest along the last axis, and their places."""
    x = op.input(0)
    if not x.rank or len(op.outputs) != 2:
        raise ModelError(f"TOPK_V2 {op.output.name!r} takes one axis at least and makes two tensors")
    order = graph.order(x)
    count = graph.integers(graph.constant(op, 1, "count").reshape(1))
    values, places = graph.node_of("TopK", [graph.real(x, order), count], 2, axis=order.index(x.rank - 1))
    graph.bind(op, op.output, values, order)
    graph.bind(op, op.outputs[1], as_type(graph, places, op.outputs[1]), order)


def cumsum(graph: Graph, op: LiteRtOperator) -> None:
    """CUMSUM."""
    x = op.input(0)
    order = graph.order(x)
    place = graph.integers(order.index(graph.axis(op, 1, x.rank)))
    flags = {"exclusive": int(op.get("exclusive", False)), "reverse": int(op.get("reverse", False))}
    graph.bind(op, op.output, graph.node("CumSum", [graph.real(x, order), place], **flags), order)


TABLE: dict[str, Raising] = {
    "ARG_MAX": extreme("ArgMax"),
    "ARG_MIN": extreme("ArgMin"),
    "CUMSUM": cumsum,
    "MEAN": reduction("ReduceMean"),
    "REDUCE_ALL": truth("ReduceMin"),
    "REDUCE_ANY": truth("ReduceMax"),
    "REDUCE_MAX": reduction("ReduceMax"),
    "REDUCE_MIN": reduction("ReduceMin"),
    "REDUCE_PROD": reduction("ReduceProd"),
    "SUM": reduction("ReduceSum"),
    "TOPK_V2": top_k,
}
