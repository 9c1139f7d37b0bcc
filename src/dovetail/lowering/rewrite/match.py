"""Finds patterns of nodes: who makes a value, which numbers multiply it."""

from __future__ import annotations

import math
from collections.abc import Callable

from dovetail.core.protocols import Array
from dovetail.lowering import half
from dovetail.lowering.rewrite.terms import BIAS
from dovetail.lowering.source import Node, Source

CLOSE = 5e-5
"""Relative difference up to which a number stands for a constant of a formula; exporters round them to half precision."""


class Graph:
    """The graph as it is now; made anew after a change."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._producers = source.producers()
        self._uses = source.uses()

    def producer(self, name: str, *ops: str) -> Node | None:
        """The node that makes a value, where it is one of some operators."""
        node = self._producers.get(name)
        return node if node is not None and node.op in ops else None

    def private(self, name: str, *ops: str) -> Node | None:
        """The same, where nobody else reads the value."""
        return self.producer(name, *ops) if self._uses[name] == 1 else None

    def constant(self, name: str) -> Array | None:
        """The array of a constant of real numbers."""
        value = self.source.constants.get(name)
        return value if value is not None and value.dtype.kind == "f" else None

    def own_weights(self, node: Node) -> bool:
        """Whether a MatMul has constant weights, and a row if any, in single precision that nothing else reads.

        Those that half precision holds do not count: what is folded into them would double their size.
        """
        weights = self.constant(node.inputs[1])
        if weights is None or weights.dtype.name != "float32" or weights.ndim != 2 or half.fits(weights):
            return False
        row = self.constant(node.inputs[2]) if node.get(BIAS) else weights
        return row is not None and row.dtype == weights.dtype and self._uses[node.inputs[1]] == 1

    def number(self, name: str) -> float | None:
        """The value of a constant of one element."""
        value = self.constant(name)
        return float(value.reshape(())) if value is not None and value.size == 1 else None

    def beside(self, node: Node | None, number: float) -> str | None:
        """The other operand of a sum or product with a given number."""
        for name, other in _both_ways(node):
            found = self.number(name)
            if found is not None and close(found, number):
                return other
        return None

    def factors(self, name: str) -> tuple[list[str], float]:
        """A product written out: values, repeated for powers, and the number that multiplies them.

        Products inside are followed where nobody else reads them.
        """
        node = self._producers.get(name)
        return ([name], 1.0) if node is None else self.factors_of(node)

    def factors_of(self, node: Node) -> tuple[list[str], float]:
        """:meth:`factors` of a node's result, whoever reads that."""
        if node.op == "Mul":
            (a, p), (b, q) = (self._inner(name) for name in node.inputs)
            return a + b, p * q
        if node.op == "Div" and (divisor := self.number(node.inputs[1])):
            a, p = self._inner(node.inputs[0])
            return a, p / divisor
        if node.op == "Pow" and (power := self.number(node.inputs[1])) in (2.0, 3.0):
            return [node.inputs[0]] * int(power), 1.0
        return [node.output], 1.0

    def _inner(self, name: str) -> tuple[list[str], float]:
        found = self.number(name)
        if found is not None:
            return [], found
        node = self.private(name, "Mul", "Div", "Pow")
        return ([name], 1.0) if node is None else self.factors_of(node)


def close(a: float, b: float) -> bool:
    """Whether two numbers are meant to be the same."""
    return math.isclose(a, b, rel_tol=CLOSE)


def _both_ways(node: Node | None) -> list[tuple[str, str]]:
    if node is None or len(node.inputs) != 2:
        return []
    return [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])]


def replace_last(source: Source, find: Callable[[Graph, Node], Node | None]) -> None:
    """Replaces each node with which a pattern ends; of patterns that share nodes the one that ends last wins.

    What is left of a pattern has no reader any more. A find gets the graph as it was.
    """
    graph = Graph(source)
    found: dict[str, Node] = {}
    needed = set(source.outputs)
    for node in reversed(source.nodes):
        if not needed & set(node.outputs):
            continue
        new = find(graph, node) or node
        if new is not node:
            found[node.output] = new
        needed.update(new.inputs)
    source.nodes = [found.get(node.output, node) for node in source.nodes]
