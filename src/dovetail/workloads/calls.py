"""What a counting rule gets and gives: one operator with what is known of its operands, and its operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dovetail.workloads.shapes import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Flops:
    """Operations of one operator: those of its convolutions and matrix products, and all others."""

    matrix: float = 0.0
    other: float = 0.0

    @property
    def total(self) -> float:
        """Both together."""
        return self.matrix + self.other


class Uncounted(Exception):
    """Raised by a rule that cannot count this call; the text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One operator with what is known of its operands."""

    kind: str
    domain: str
    inputs: Sequence[Fact | None]
    outputs: Sequence[Fact]
    attributes: Mapping[str, Any]

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of an input.

        Raises:
            Uncounted: the input is absent or its shape unknown.
        """
        fact = self.inputs[index] if index < len(self.inputs) else None
        if fact is None or fact.shape is None:
            raise Uncounted("an input shape is unknown")
        return fact.shape

    def output_shape(self, index: int = 0) -> tuple[int, ...]:
        """Shape of an output.

        Raises:
            Uncounted: it is unknown.
        """
        shape = self.outputs[index].shape
        if shape is None:
            raise Uncounted("an output shape is unknown")
        return shape

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    @property
    def n_in(self) -> int:
        """Elements of the first input."""
        return math.prod(self.shape(0))

    @property
    def n_out(self) -> int:
        """Elements of the first output."""
        return math.prod(self.output_shape())


Rule = Callable[[Call], Flops]
