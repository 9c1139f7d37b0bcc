"""A number that multiplies a product of matrices moves into constant weights behind it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dovetail.lowering.rewrite.match import Graph
from dovetail.lowering.rewrite.terms import BIAS
from dovetail.lowering.source import Node, Source

MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"})


def into_weights(source: Source) -> None:
    """``number · (… W x + b …)`` → ``… (number · W) x + number · b …``, so that attention scales its queries for nothing."""
    graph = Graph(source)
    changed: dict[str, Node] = {}
    names: dict[str, str] = {}
    for node in source.nodes:
        values, number = graph.factors_of(node) if node.op in ("Mul", "Div") else ([], 1.0)
        if node.output in source.outputs or len(values) != 1 or values[0] not in node.inputs or number == 1.0:
            continue
        product = _weighted(graph, values[0])
        if product is not None and product.output not in changed:
            changed.update({new.output: new for new in _scaled(graph, product, number)})
            names[node.output] = values[0]
    nodes = [changed.get(node.output, node) for node in source.nodes]
    source.nodes = [replace(node, inputs=tuple(names.get(name, name) for name in node.inputs)) for node in nodes]


def _weighted(graph: Graph, name: str) -> Node | None:
    """The product with constant weights that a value is linear in, when nobody else reads what lies between."""
    node = graph.private(name, "MatMul", *MOVES)
    if node is None or node.op in MOVES:
        return None if node is None else _weighted(graph, node.inputs[0])
    if graph.own_weights(node) or _own_integers(graph, node) is not None:
        return node
    fixed = node.inputs[1] in graph.source.constants or graph.producer(node.inputs[1], "DequantizeLinear") is not None
    return None if fixed or node.get(BIAS) else _weighted(graph, node.inputs[0])


def _own_integers(graph: Graph, node: Node) -> Node | None:
    """What makes reals of the integers that are a product's weights, where its input is no integer and its row is real."""
    stored = graph.private(node.inputs[1], "DequantizeLinear")
    if stored is None or stored.inputs[0] not in graph.source.constants or graph.constant(stored.inputs[1]) is None:
        return None
    real_row = not node.get(BIAS) or graph.constant(node.inputs[2]) is not None
    return stored if real_row else None


def _scaled(graph: Graph, node: Node, number: float) -> list[Node]:
    """The product with its weights and bias multiplied; they are new constants, since others may read the old ones."""
    source, factor = graph.source, np.float32(number)

    def times(name: str) -> str:
        return source.add_constant(f"{name}/scaled", (source.constants[name] * factor).astype(np.float32))

    stored = _own_integers(graph, node)
    weights = times(node.inputs[1]) if stored is None else node.inputs[1]
    made = replace(node, inputs=(node.inputs[0], weights, *(times(name) for name in node.inputs[2:])))
    if stored is None:
        return [made]
    return [made, replace(stored, inputs=(stored.inputs[0], times(stored.inputs[1]), *stored.inputs[2:]))]
