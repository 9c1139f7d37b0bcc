"""Comparisons, truth values and choices between two operands."""

from __future__ import annotations

from dovetail.lowering.litert_file import LiteRtOperator
from dovetail.lowering.raising.folding import Raising
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.ops.common import aligned


def comparison(op_type: str, negated: bool = False) -> Raising:
    """Raising of an operator whose result is true or false."""

    def raising(graph: Graph, op: LiteRtOperator) -> None:
        names, order = aligned(graph, [op.input(i) for i in range(len(op.inputs))])
        name = graph.node(op_type, names)
        graph.bind(op, op.output, graph.node("Not", [name]) if negated else name, order)

    return raising


def select(graph: Graph, op: LiteRtOperator) -> None:
    """SELECT: a condition of one axis chooses whole slices along the first."""
    condition, x, y = (op.input(i) for i in range(3))
    if condition.rank == 1 and x.rank > 1:
        wide = graph.node("Unsqueeze", [graph.stored(condition), graph.integers(range(1, x.rank))])
        graph.bind(op, op.output, graph.node("Where", [wide, graph.real(x), graph.real(y)]))
        return
    select_v2(graph, op)


def select_v2(graph: Graph, op: LiteRtOperator) -> None:
    """SELECT_V2: all three operands broadcast."""
    names, order = aligned(graph, [op.input(i) for i in range(3)])
    graph.bind(op, op.output, graph.node("Where", names), order)


TABLE: dict[str, Raising] = {
    "EQUAL": comparison("Equal"),
    "GREATER": comparison("Greater"),
    "GREATER_EQUAL": comparison("GreaterOrEqual"),
    "LESS": comparison("Less"),
    "LESS_EQUAL": comparison("LessOrEqual"),
    "LOGICAL_AND": comparison("And"),
    "LOGICAL_NOT": comparison("Not"),
    "LOGICAL_OR": comparison("Or"),
    "NOT_EQUAL": comparison("Equal", negated=True),
    "SELECT": select,
    "SELECT_V2": select_v2,
}
