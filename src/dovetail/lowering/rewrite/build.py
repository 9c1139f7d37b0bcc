"""Adds nodes to a graph, with the shapes of what they make."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dovetail.core.protocols import Array
from dovetail.lowering.names import free_name
from dovetail.lowering.source import Info, Node, Source


def new_value(source: Source, name: str, shape: Sequence[int], dtype: str) -> str:
    """Files a value that some node will make, under a name that is free."""
    name = free_name(name, source.infos)
    source.infos[name] = Info(shape=tuple(shape), dtype=dtype)
    return name


class Builder:
    """Nodes that stand for one node.

    Attributes:
        nodes: in order.
    """

    def __init__(self, source: Source, prefix: str) -> None:
        self.nodes: list[Node] = []
        self._source = source
        self._prefix = prefix

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a value."""
        return self._source.shape(name)

    def constant(self, value: Array, what: str) -> str:
        """A new constant."""
        return self._source.add_constant(f"{self._prefix}/{what}", value)

    def number(self, value: float) -> str:
        """A constant of one element."""
        return self.constant(np.array(value, np.float32), "number")

    def node(
        self, op: str, *inputs: str, shape: Sequence[int], dtype: str = "float32", name: str = "", **attributes: object
    ) -> str:
        """Adds a node; its result has ``name``, or a new one."""
        name = name or new_value(self._source, f"{self._prefix}/{op.lower()}", shape, dtype)
        self.nodes.append(Node(op=op, inputs=inputs, outputs=(name,), attributes=attributes))
        return name

    def elementwise(self, op: str, *inputs: str, dtype: str = "float32") -> str:
        """A node whose operands broadcast."""
        return self.node(op, *inputs, shape=np.broadcast_shapes(*(self.shape(name) for name in inputs)), dtype=dtype)

    def matmul(self, a: str, b: str) -> str:
        """A product of equally many matrices."""
        return self.node("MatMul", a, b, shape=(*self.shape(a)[:-1], self.shape(b)[-1]))

    def transpose(self, x: str, permutation: Sequence[int], name: str = "") -> str:
        """Axes in another order."""
        shape = [self.shape(x)[axis] for axis in permutation]
        return self.node("Transpose", x, shape=shape, name=name, perm=tuple(permutation))

    def reshape(self, x: str, shape: Sequence[int], name: str = "") -> str:
        """The same elements under another shape."""
        if self.shape(x) == tuple(shape) and not name:
            return x
        return self.node("Reshape", x, self.constant(np.array(shape, np.int64), "shape"), shape=shape, name=name)
