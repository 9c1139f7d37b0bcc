"""What a model asks of the hardware, operator by operator. A multiply-add counts as 2 FLOP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operator at concrete shapes.

    Attributes:
        name: the graph's node name, made unique.
        kind: operator type (``Conv``).
        flop: floating or integer arithmetic operations, multiply-add = 2; ``None`` when it cannot be counted.
        weight_bytes: constant operands read.
        input_bytes: activations read.
        output_bytes: activations written; ``None`` when a shape is unknown.
        params: number of constant elements.
        dtype: element type of the first output.
        output_shapes: shapes of the outputs; ``None`` for an unknown one.
        attributes: the few facts that decide kernels (kernel size, groups, strides).
    """

    name: str
    kind: str
    flop: float | None
    weight_bytes: float
    input_bytes: float | None
    output_bytes: float | None
    params: int
    dtype: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    output_shapes: tuple[tuple[int, ...] | None, ...] = ()
    attributes: Mapping[str, str] | None = None

    @property
    def bytes(self) -> float | None:
        """Memory traffic if every operand is moved once."""
        if self.input_bytes is None or self.output_bytes is None:
            return None
        return self.weight_bytes + self.input_bytes + self.output_bytes

    @property
    def intensity(self) -> float | None:
        """Arithmetic intensity in FLOP per byte."""
        return None if self.flop is None or not self.bytes else self.flop / self.bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """All operators of a model at concrete input shapes.

    Attributes:
        model_hash: SHA-256 (16 hex digits) of the model's content, external data included.
        input_shapes: input name → concrete shape.
        assumed_dims: symbolic dimension → the size assumed for it.
        ops: in execution order.
        peak_activation_bytes: greatest sum of live activations at any step; ``None`` when shapes are unknown.
        uncounted: operator type → reason why its FLOPs are unknown.
    """

    model_hash: str
    input_shapes: Mapping[str, tuple[int, ...]]
    assumed_dims: Mapping[str, int]
    ops: tuple[Op, ...]
    peak_activation_bytes: float | None
    uncounted: Mapping[str, str]

    @property
    def batched_input(self) -> str:
        """The first input of more than one dimension: its leading size counts the samples. Empty when there is none."""
        return next((name for name, shape in self.input_shapes.items() if len(shape) > 1), "")

    @property
    def batch(self) -> int:
        """Samples a call."""
        return self.input_shapes[self.batched_input][0] if self.batched_input else 1

    @property
    def flop(self) -> float:
        """Sum over the operators that could be counted."""
        return sum(op.flop for op in self.ops if op.flop is not None)

    @property
    def params(self) -> int:
        """Number of constant elements."""
        return sum(op.params for op in self.ops)

    @property
    def weight_bytes(self) -> float:
        """Bytes of constants."""
        return sum(op.weight_bytes for op in self.ops)
