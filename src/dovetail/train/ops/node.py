"""What a kernel is made from: one node of the graph, its attributes decoded, and what of its inputs never changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dovetail.core.errors import ModelError

Kernel = Callable[..., Any]
"""Takes the node's inputs in order, ``None`` for one left out; returns a tensor, or a sequence for more than one output."""

Ints = Callable[[Sequence[Any]], "list[int] | None"]
"""Reads a setting from a kernel's inputs."""


class Unsupported(ModelError):
    """An operator, or a way to use one, that has no kernel."""


@dataclass(slots=True, kw_only=True)
class Mode:
    """What all kernels of a graph look at when they run.

    Attributes:
        training: dropout drops, and batch normalisation takes the statistics of the batch.
        statistics: batch normalisation may do so; false freezes the running ones.
    """

    training: bool = False
    statistics: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node.

    Attributes:
        kind: operator type.
        opset: version of its domain.
        inputs: tensor names, empty for one left out.
        outputs: likewise.
        known: value of each input that never changes, else ``None``.
        shapes: shape of each input that is stored in the file, trainable or not, else ``None``.
        types: ONNX element type of each of those, else 0.
        mode: shared by all nodes of a graph.
    """

    name: str
    kind: str
    opset: int
    attributes: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    known: tuple[torch.Tensor | None, ...] = ()
    shapes: tuple[tuple[int, ...] | None, ...] = ()
    types: tuple[int, ...] = ()
    mode: Mode = field(default_factory=Mode)

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def has(self, index: int) -> bool:
        """Whether this input is there."""
        return index < len(self.inputs) and bool(self.inputs[index])

    def wants(self, index: int) -> bool:
        """Whether this output is named."""
        return index < len(self.outputs) and bool(self.outputs[index])

    def value(self, index: int) -> torch.Tensor | None:
        """An input that never changes, ``None`` for others."""
        return self.known[index] if index < len(self.known) else None

    def shape(self, index: int) -> tuple[int, ...] | None:
        """Shape of a stored input, ``None`` for others."""
        return self.shapes[index] if index < len(self.shapes) else None

    def type(self, index: int) -> int:
        """ONNX element type of a stored input, 0 for others."""
        return self.types[index] if index < len(self.types) else 0

    def ints(self, index: int, attribute: str | None = None) -> Ints:
        """A reader of integers that are an attribute in old opsets and an input in new ones; it gives ``None`` when absent."""
        if attribute is not None and attribute in self.attributes:
            fixed = self.attributes[attribute]
            numbers = [int(n) for n in fixed] if isinstance(fixed, Sequence) else [int(fixed)]
            return lambda inputs: numbers
        if not self.has(index):
            return lambda inputs: None
        value = self.value(index)
        if value is not None:
            known: list[int] = value.reshape(-1).tolist()
            return lambda inputs: known
        return lambda inputs: inputs[index].reshape(-1).tolist()

    def number(self, index: int, default: float | None, attribute: str | None = None) -> Callable[[Sequence[Any]], Any]:
        """The same for one number, which keeps its type."""
        if attribute is not None and attribute in self.attributes:
            fixed = self.attributes[attribute]
            return lambda inputs: fixed
        if not self.has(index):
            return lambda inputs: default
        value = self.value(index)
        if value is not None:
            known = value.reshape(-1).tolist()
            known = known[0] if known else default
            return lambda inputs: known
        return lambda inputs: inputs[index].item()

    def refuse(self, what: str) -> Unsupported:
        """The error for a way to use an operator that has no kernel."""
        return Unsupported(f"{self.kind} {what}", where=self.name or None)


Maker = Callable[[NodeView], Kernel]
"""Decodes a node once and returns what runs it.

Raises:
    Unsupported: there is no kernel for this use of the operator.
"""


def always(kernel: Kernel) -> Maker:
    """For operators without settings."""
    return lambda node: kernel


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    return axis + rank if axis < 0 else axis
