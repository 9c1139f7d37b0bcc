"""Operators that work element by element: they take any order of axes and keep it."""

from __future__ import annotations

import math

from dovetail.lowering.litert_file import LiteRtOperator
from dovetail.lowering.raising.folding import Raising
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.ops.common import activated, aligned, broadcastable, finish


def unary(op_type: str) -> Raising:
    """Raising of an operator with one operand and no options."""

    def raising(graph: Graph, op: LiteRtOperator) -> None:
        order = graph.order(op.input(0))
        graph.bind(op, op.output, graph.node(op_type, [graph.real(op.input(0), order)]), order)

    return raising


def binary(op_type: str) -> Raising:
    """Raising of an operator with two operands that broadcast."""

    def raising(graph: Graph, op: LiteRtOperator) -> None:
        names, order = aligned(graph, [op.input(0), op.input(1)])
        finish(graph, op, graph.node(op_type, names), order)

    return raising


def bound(graph: Graph, op: LiteRtOperator) -> None:
    """The activations that ONNX expresses as bounds."""
    order = graph.order(op.input(0))
    graph.bind(op, op.output, activated(graph, graph.real(op.input(0), order), op.code), order)


def rsqrt(graph: Graph, op: LiteRtOperator) -> None:
    """RSQRT: the reciprocal of a root."""
    order = graph.order(op.input(0))
    root = graph.node("Sqrt", [graph.real(op.input(0), order)])
    graph.bind(op, op.output, graph.node("Reciprocal", [root]), order)


def square(graph: Graph, op: LiteRtOperator) -> None:
    """SQUARE: a product with itself."""
    order = graph.order(op.input(0))
    name = graph.real(op.input(0), order)
    graph.bind(op, op.output, graph.node("Mul", [name, name]), order)


def squared_difference(graph: Graph, op: LiteRtOperator) -> None:
    """SQUARED_DIFFERENCE."""
    names, order = aligned(graph, [op.input(0), op.input(1)])
    difference = graph.node("Sub", names)
    graph.bind(op, op.output, graph.node("Mul", [difference, difference]), order)


def floor_div(graph: Graph, op: LiteRtOperator) -> None:
    """FLOOR_DIV: of integers, from the remainder, which takes the sign of the divisor."""
    names, order = aligned(graph, [op.input(0), op.input(1)])
    if op.output.dtype.startswith("float"):
        graph.bind(op, op.output, graph.node("Floor", [graph.node("Div", names)]), order)
        return
    whole = graph.node("Sub", [names[0], graph.node("Mod", names)])
    graph.bind(op, op.output, graph.node("Div", [whole, names[1]]), order)


def floor_mod(graph: Graph, op: LiteRtOperator) -> None:
    """FLOOR_MOD: the remainder that takes the sign of the divisor."""
    names, order = aligned(graph, [op.input(0), op.input(1)])
    if not op.output.dtype.startswith("float"):
        graph.bind(op, op.output, graph.node("Mod", names), order)
        return
    times = graph.node("Mul", [graph.node("Floor", [graph.node("Div", names)]), names[1]])
    graph.bind(op, op.output, graph.node("Sub", [names[0], times]), order)


def add_n(graph: Graph, op: LiteRtOperator) -> None:
    """ADD_N: a sum of several operands of one shape."""
    names, order = aligned(graph, [op.input(i) for i in range(len(op.inputs))])
    graph.bind(op, op.output, graph.node("Sum", names), order)


def prelu(graph: Graph, op: LiteRtOperator) -> None:
    """PRELU; the slopes broadcast to the operand."""
    x, slopes = op.input(0), op.input(1)
    order = graph.order(x)
    operands = [graph.real(x, order), broadcastable(graph, slopes, order)]
    graph.bind(op, op.output, graph.node("PRelu", operands), order)


def leaky_relu(graph: Graph, op: LiteRtOperator) -> None:
    """LEAKY_RELU."""
    order = graph.order(op.input(0))
    name = graph.node("LeakyRelu", [graph.real(op.input(0), order)], alpha=float(op.get("alpha", 0.0)))
    graph.bind(op, op.output, name, order)


def gelu(graph: Graph, op: LiteRtOperator) -> None:
    """GELU, exact or by its approximation with tanh (Hendrycks and Gimpel 2016, section 2)."""
    order = graph.order(op.input(0))
    x = graph.real(op.input(0), order)
    if op.get("approximate", False):
        cube = graph.node("Mul", [graph.node("Mul", [x, x]), x])
        inner = graph.node("Add", [x, graph.node("Mul", [cube, graph.number(0.044715)])])
        curve = graph.node("Tanh", [graph.node("Mul", [inner, graph.number(math.sqrt(2 / math.pi))])])
    else:
        curve = graph.node("Erf", [graph.node("Div", [x, graph.number(math.sqrt(2))])])
    weight = graph.node("Add", [curve, graph.number(1.0)])
    graph.bind(op, op.output, graph.node("Mul", [graph.node("Mul", [x, weight]), graph.number(0.5)]), order)


UNARY = {
    "ABS": "Abs",
    "CEIL": "Ceil",
    "COS": "Cos",
    "ELU": "Elu",
    "EXP": "Exp",
    "FLOOR": "Floor",
    "HARD_SWISH": "HardSwish",
    "LOG": "Log",
    "LOGISTIC": "Sigmoid",
    "NEG": "Neg",
    "ROUND": "Round",
    "SIGN": "Sign",
    "SIN": "Sin",
    "SQRT": "Sqrt",
    "TANH": "Tanh",
}
BINARY = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MAXIMUM": "Max", "MINIMUM": "Min", "POW": "Pow"}

TABLE: dict[str, Raising] = {
    **{code: unary(op_type) for code, op_type in UNARY.items()},
    **{code: binary(op_type) for code, op_type in BINARY.items()},
    **{code: bound for code in ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1")},
    "ADD_N": add_n,
    "FLOOR_DIV": floor_div,
    "FLOOR_MOD": floor_mod,
    "GELU": gelu,
    "LEAKY_RELU": leaky_relu,
    "PRELU": prelu,
    "RSQRT": rsqrt,
    "SQUARE": square,
    "SQUARED_DIFFERENCE": squared_difference,
}
