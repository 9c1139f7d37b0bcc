"""Recognises GELU and hard swish that exporters wrote out in elementary operators."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dovetail.lowering.rewrite.match import Graph, close, replace_last
from dovetail.lowering.rewrite.terms import bounds
from dovetail.lowering.source import Node, Source

SLOPE, CUBE = math.sqrt(2 / math.pi), 0.044715
"""Of the approximation by a hyperbolic tangent: Hendrycks & Gimpel (2016), section 2."""
SIXTH = 1 / 6


def recognise(source: Source) -> None:
    """Products that are GELU, exact or approximated, or hard swish (Howard et al. 2019, section 5.2) become one node."""
    replace_last(source, _activation)


def _activation(graph: Graph, node: Node) -> Node | None:
    if node.op not in ("Mul", "Div") or graph.source.dtype(node.output) != "float32":
        return None
    values, number = graph.factors_of(node)
    if len(values) != 2:
        return None
    for x, gate in (values, values[::-1]):
        if close(number, 0.5) and _is_erf_gate(graph, gate, x):
            return Node(op="Gelu", inputs=(x,), outputs=node.outputs)
        if close(number, 0.5) and _is_tanh_gate(graph, gate, x):
            return Node(op="Gelu", inputs=(x,), outputs=node.outputs, attributes={"approximate": "tanh"})
        if _is_hard_gate(graph, gate, x, number):
            return Node(op="HardSwish", inputs=(x,), outputs=node.outputs)
    return None


def _is_erf_gate(graph: Graph, name: str, x: str) -> bool:
    """``1 + erf(x / √2)``."""
    inner = graph.beside(graph.private(name, "Add"), 1.0)
    erf = None if inner is None else graph.private(inner, "Erf")
    return erf is not None and _is_multiple(graph, erf.inputs[0], [x], math.sqrt(0.5))


def _is_tanh_gate(graph: Graph, name: str, x: str) -> bool:
    """``1 + tanh(√(2/π) · (x + 0.044715 · x³))``, with ``x`` inside the sum or before it."""
    inner = graph.beside(graph.private(name, "Add"), 1.0)
    tanh = None if inner is None else graph.private(inner, "Tanh")
    if tanh is None:
        return False
    values, number = graph.factors(tanh.inputs[0])
    if not close(number, SLOPE):
        return False
    if len(values) == 1:
        total = graph.private(values[0], "Add")
        return total is not None and any(
            a == x and _is_multiple(graph, b, [x] * 3, CUBE) for a, b in (total.inputs, total.inputs[::-1])
        )
    if len(values) != 2 or x not in values:
        return False
    rest = values[0] if values[1] == x else values[1]
    square = graph.beside(graph.private(rest, "Add"), 1.0)
    return square is not None and _is_multiple(graph, square, [x] * 2, CUBE)


def _is_hard_gate(graph: Graph, name: str, x: str, number: float) -> bool:
    """``clip(x + 3, 0, 6)`` beside a sixth, or what equals a sixth of it."""
    gate = graph.private(name, "Clip", "HardSigmoid")
    if gate is None:
        return False
    if gate.op == "HardSigmoid":
        usual = close(gate.get("alpha", 0.2), SIXTH) and close(gate.get("beta", 0.5), 0.5)
        return usual and close(number, 1.0) and gate.inputs[0] == x
    limits = bounds(graph.source, gate)
    total = graph.private(gate.inputs[0], "Add")
    if limits == (0.0, 6.0) and close(number, SIXTH):
        return graph.beside(total, 3.0) == x
    if limits == (0.0, 1.0) and close(number, 1.0):
        inner = graph.beside(total, 0.5)
        return inner is not None and _is_multiple(graph, inner, [x], SIXTH)
    return False


def _is_multiple(graph: Graph, name: str, values: Sequence[str], number: float) -> bool:
    """Whether a value is a product of some values and a number."""
    found, factor = graph.factors(name)
    return found == list(values) and close(factor, number)
