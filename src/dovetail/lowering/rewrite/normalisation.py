"""Recognises layer and RMS normalisation that exporters wrote out in elementary operators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dovetail.core.protocols import Array
from dovetail.lowering.rewrite.match import Graph, replace_last
from dovetail.lowering.rewrite.terms import AXES
from dovetail.lowering.source import Node, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalised:
    """``(x − mean) / √(variance + ε)``, or the same without a mean.

    Attributes:
        x: value that is normalised.
        axes: over which.
        epsilon: added to the variance.
        centred: whether the mean is taken off.
    """

    x: str
    axes: tuple[int, ...]
    epsilon: float
    centred: bool


def recognise(source: Source) -> None:
    """``(x − mean(x)) / √(mean((x − mean(x))²) + ε) · γ + β`` and its form without a mean become one node."""
    replace_last(source, _normalisation)


def _normalisation(graph: Graph, node: Node) -> Node | None:
    source = graph.source
    if node.op not in ("Add", "Mul", "Div") or source.dtype(node.output) != "float32":
        return None
    rest, beta = _constant_operand(graph, node, "Add")
    product = node if beta is None else graph.private(rest, "Mul")
    rest, gamma = (rest, None) if product is None else _constant_operand(graph, product, "Mul")
    if beta is not None and gamma is None:
        return None
    core = node if beta is None and gamma is None else graph.private(rest, "Div", "Mul")
    found = None if core is None or core.op == "Add" else _core(graph, core)
    if found is None or not all(c is None or _fits(source, node, c) for c in (beta, gamma)):
        return None
    if gamma is None:
        gamma = source.add_constant(f"{node.output}/scale", np.ones((1,), np.float32))
    inputs = (found.x, gamma) if beta is None else (found.x, gamma, beta)
    op = "LayerNormalization" if found.centred else "RMSNormalization"
    return Node(op=op, inputs=inputs, outputs=node.outputs, attributes={AXES: found.axes, "epsilon": found.epsilon})


def _constant_operand(graph: Graph, node: Node, op: str) -> tuple[str, str | None]:
    """The computed and the constant operand of a sum or product; the node's result and ``None`` where it is neither."""
    for a, b in ((0, 1), (1, 0)) if node.op == op else ():
        if graph.constant(node.inputs[b]) is not None and graph.constant(node.inputs[a]) is None:
            return node.inputs[a], node.inputs[b]
    return node.output, None


def _fits(source: Source, node: Node, constant: str) -> bool:
    """Whether a constant spreads over the result without widening it."""
    shape = source.shape(node.output)
    return np.broadcast_shapes(source.shape(constant), shape) == shape


def _core(graph: Graph, node: Node) -> Normalised | None:
    """What a quotient, or a product with a reciprocal, normalises."""
    for a, b in (node.inputs, node.inputs[::-1])[: 1 if node.op == "Div" else 2]:
        inverse = _inverse_of(graph, node, b)
        total = None if inverse is None else graph.private(inverse, "Add")
        for variance, other in () if total is None else (total.inputs, total.inputs[::-1]):
            epsilon = graph.number(other)
            if epsilon is not None:
                return _over(graph, a, variance, epsilon)
    return None


def _inverse_of(graph: Graph, node: Node, name: str) -> str | None:
    """The value whose inverse root multiplies the other operand of a node."""
    power = -0.5 if node.op == "Mul" else 0.5
    if node.op == "Mul" and (reciprocal := graph.private(name, "Reciprocal", "Div")) is not None:
        if reciprocal.op == "Div" and graph.number(reciprocal.inputs[0]) != 1.0:
            return None
        name, power = reciprocal.inputs[-1], 0.5
    root = graph.private(name, "Sqrt", "Pow")
    if root is None or (root.op == "Pow" and graph.number(root.inputs[1]) != power) or (root.op == "Sqrt" and power < 0):
        return None
    return root.inputs[0]


def _over(graph: Graph, deviation: str, variance: str, epsilon: float) -> Normalised | None:
    """The normalisation of a deviation by the root of a variance, if that is its mean square."""
    mean_square = graph.private(variance, "ReduceMean")
    axes = None if mean_square is None else _axes(graph.source, mean_square)
    if mean_square is None or axes is None:
        return None
    values, number = graph.factors(mean_square.inputs[0])
    if number != 1.0 or len(values) != 2 or values[0] != values[1]:
        return None
    x = _centred(graph, deviation, axes)
    if x is not None and (values[0] == deviation or _centred(graph, values[0], axes) == x):
        return Normalised(x=x, axes=axes, epsilon=epsilon, centred=True)
    return Normalised(x=deviation, axes=axes, epsilon=epsilon, centred=False) if values[0] == deviation else None


def _centred(graph: Graph, name: str, axes: tuple[int, ...]) -> str | None:
    """The value from which a difference takes its own mean."""
    difference = graph.producer(name, "Sub")
    mean = None if difference is None else graph.producer(difference.inputs[1], "ReduceMean")
    if difference is None or mean is None or mean.inputs[0] != difference.inputs[0]:
        return None
    return difference.inputs[0] if _axes(graph.source, mean) == axes else None


def _axes(source: Source, node: Node) -> tuple[int, ...] | None:
    """Axes of a mean that keeps its rank."""
    given: Array | None = source.constant(node, 1)
    axes = node.get("axes") or (None if given is None else [int(a) for a in given.reshape(-1)])
    if not axes or not node.get("keepdims", 1):
        return None
    rank = len(source.shape(node.inputs[0]))
    return tuple(sorted(axis % rank for axis in axes))
