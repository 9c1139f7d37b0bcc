"""Normalisation along the last axis, which holds the channels."""

from __future__ import annotations

from dovetail.lowering.litert_file import LiteRtOperator
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.ops.common import NCHW, finish, require_rank
from dovetail.lowering.raising.ops.reduction import reduced

_SMALLEST_NORM = 1e-6
"""What LiteRT divides by at least (``L2_NORMALIZATION``)."""


def softmax(graph: Graph, op: LiteRtOperator) -> None:
    """SOFTMAX of what is multiplied by ``beta`` first."""
    x = op.input(0)
    order, beta = graph.order(x), float(op.get("beta", 1.0))
    name = graph.real(x, order)
    if beta != 1.0:
        name = graph.node("Mul", [name, graph.number(beta)])
    graph.bind(op, op.output, graph.node("Softmax", [name], axis=order.index(x.rank - 1)), order)


def log_softmax(graph: Graph, op: LiteRtOperator) -> None:
    """LOG_SOFTMAX."""
    x = op.input(0)
    order = graph.order(x)
    graph.bind(op, op.output, graph.node("LogSoftmax", [graph.real(x, order)], axis=order.index(x.rank - 1)), order)


def l2_normalization(graph: Graph, op: LiteRtOperator) -> None:
    """L2_NORMALIZATION: vectors of length 1."""
    x = op.input(0)
    order = graph.order(x)
    name = graph.real(x, order)
    norm = reduced(graph, "ReduceL2", name, [order.index(x.rank - 1)], keep=True)
    finish(graph, op, graph.node("Div", [name, graph.node("Max", [norm, graph.number(_SMALLEST_NORM)])]), order)


def local_response_normalization(graph: Graph, op: LiteRtOperator) -> None:
    """LOCAL_RESPONSE_NORMALIZATION; ONNX divides ``alpha`` by the number of channels in the window."""
    require_rank(op, op.input(0), 4)
    size = 2 * int(op.get("radius", 0)) + 1
    alpha, beta, bias = (float(op.get(key, 0.0)) for key in ("alpha", "beta", "bias"))
    name = graph.node("LRN", [graph.real(op.input(0), NCHW)], size=size, alpha=alpha * size, beta=beta, bias=bias)
    graph.bind(op, op.output, name, NCHW)


TABLE = {
    "SOFTMAX": softmax,
    "LOG_SOFTMAX": log_softmax,
    "L2_NORMALIZATION": l2_normalization,
    "LOCAL_RESPONSE_NORMALIZATION": local_response_normalization,
}
