"""Look-ups in large constant tables are marked, so that the tables stay as small as they are stored."""

from __future__ import annotations

from dataclasses import replace

from dovetail.lowering import half
from dovetail.lowering.rewrite.match import Graph
from dovetail.lowering.rewrite.terms import EMBEDDING
from dovetail.lowering.source import Node, Source

WORTH_ELEMENTS = 16384
"""Smaller tables gain less than the operators that unpack them take."""


def mark(source: Source) -> None:
    """Gather of rows of a table that half precision holds, or whose rows or columns have scales of their own."""
    graph = Graph(source)
    source.nodes = [_marked(graph, node) if node.op == "Gather" else node for node in source.nodes]


def _marked(graph: Graph, node: Node) -> Node:
    source, (table, index) = graph.source, node.inputs
    if node.get("axis", 0) or index in source.constants or source.dtype(node.output) != "float32":
        return node
    if table in source.constants:
        value = source.constants[table]
        worth = value.size >= WORTH_ELEMENTS and half.fits(value)
        return replace(node, op=EMBEDDING) if worth else node
    stored = graph.producer(table, "DequantizeLinear")
    if stored is None or any(name not in source.constants for name in stored.inputs if name) or stored.get("block_size"):
        return node
    values, scale = source.constants[stored.inputs[0]], source.constants[stored.inputs[1]]
    if values.size < WORTH_ELEMENTS or scale.size == 1 or values.dtype.name not in ("int8", "uint8"):
        return node
    inputs = (stored.inputs[0], index, *stored.inputs[1:])
    return Node(op=EMBEDDING, inputs=inputs, outputs=node.outputs, attributes={"axis": stored.get("axis", 1)})
