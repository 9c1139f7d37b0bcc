"""Pooling over windows."""

from __future__ import annotations

from dovetail.lowering.litert_file import LiteRtOperator
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.ops.common import NCHW, finish, require_rank, windows


def max_pool(graph: Graph, op: LiteRtOperator) -> None:
    """MAX_POOL_2D."""
    x = op.input(0)
    require_rank(op, x, 4)
    kernel = (op.get("filterHeight", 0), op.get("filterWidth", 0))
    finish(graph, op, graph.node("MaxPool", [graph.real(x, NCHW)], **windows(graph, op, x, kernel)), NCHW)


def average_pool(graph: Graph, op: LiteRtOperator) -> None:
    """AVERAGE_POOL_2D: padding does not count."""
    finish(graph, op, _averages(graph, op, graph.real(op.input(0), NCHW)), NCHW)


def l2_pool(graph: Graph, op: LiteRtOperator) -> None:
    """L2_POOL_2D: the root of the mean of squares."""
    x = graph.real(op.input(0), NCHW)
    finish(graph, op, graph.node("Sqrt", [_averages(graph, op, graph.node("Mul", [x, x]))]), NCHW)


def _averages(graph: Graph, op: LiteRtOperator, name: str) -> str:
    x = op.input(0)
    require_rank(op, x, 4)
    kernel = (op.get("filterHeight", 0), op.get("filterWidth", 0))
    return graph.node("AveragePool", [name], count_include_pad=0, **windows(graph, op, x, kernel))


TABLE = {"MAX_POOL_2D": max_pool, "AVERAGE_POOL_2D": average_pool, "L2_POOL_2D": l2_pool}
