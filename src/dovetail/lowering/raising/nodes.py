"""Nodes and constants of the ONNX graph being built, and their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx

from dovetail.core.protocols import Array
from dovetail.lowering.names import free_name

_SHARED_BYTES = 1024
"""Constants up to this size are filed once, however often they are used."""


class Nodes:
    """What will be written.

    Args:
        reserved: names of the model's inputs and outputs.

    Attributes:
        nodes: in order of execution.
        initializers: name → array.
        notes: what differs from the file, one phrase each.
        made: names of values that nodes compute.
    """

    def __init__(self, reserved: Sequence[str] = ()) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, Array] = {}
        self.notes: list[str] = []
        self.made: set[str] = set()
        self._names = set(reserved)
        self._shared: dict[tuple[object, ...], str] = {}
        self._prefix = "graph"

    def node(self, op_type: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name."""
        return self.node_of(op_type, inputs, 1, **attributes)[0]

    def node_of(self, op_type: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Adds a node with several outputs."""
        names = [self.free(f"{self._prefix}/{op_type}") for _ in range(outputs)]
        self.nodes.append(onnx.helper.make_node(op_type, list(inputs), names, **attributes))
        self.made.update(names)
        return names

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Names of what is added begin with this one."""
        before, self._prefix = self._prefix, name or "graph"
        yield
        self._prefix = before

    def note(self, text: str) -> None:
        """Reports a difference, once."""
        if text not in self.notes:
            self.notes.append(text)

    def free(self, name: str) -> str:
        """A name that is not taken, as near to the wish as can be."""
        free = free_name(name, self._names)
        self._names.add(free)
        return free

    def initializer(self, value: Array, name: str) -> str:
        """Files an array; small ones of equal content share a name."""
        key = (value.dtype.name, value.shape, value.tobytes()) if value.nbytes <= _SHARED_BYTES else (id(value), name)
        if key not in self._shared:
            self._shared[key] = self.free(name or "constant")
            self.initializers[self._shared[key]] = value
        return self._shared[key]

    def integers(self, values: Sequence[int] | Array | int, name: str = "integers") -> str:
        """An int64 constant, as ONNX takes shapes and axes."""
        return self.initializer(np.array(values, np.int64), name)

    def number(self, value: float, like: str = "float32") -> str:
        """A scalar constant."""
        return self.initializer(np.array(value, like), "number")

    def drop_dead(self, wanted: set[str]) -> None:
        """Removes what no wanted value needs."""
        needed, kept = set(wanted), []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                kept.append(node)
                needed.update(node.input)
        self.nodes = kept[::-1]
        self.initializers = {name: value for name, value in self.initializers.items() if name in needed}

    def rename(self, titles: dict[str, str]) -> None:
        """Gives values other names."""
        for node in self.nodes:
            node.input[:] = [titles.get(name, name) for name in node.input]
            node.output[:] = [titles.get(name, name) for name in node.output]
