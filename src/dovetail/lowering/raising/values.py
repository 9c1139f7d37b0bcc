"""What is known about a file's tensors before any node is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.litert_file import NUMBERS, LiteRtOperator, LiteRtTensor
from dovetail.lowering.tensors import Quant

QUANTISED = frozenset({"int8", "uint8", "int16"})
"""Types of activations that stand for reals where they bear a scale."""


class SizeVaries(ModelError):
    """An operator needs a size that is left open; the sizes that the file was written with serve instead."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor known in advance; ``quant`` says what its integers mean."""

    data: Array
    quant: Quant | None

    @property
    def reals(self) -> Constant:
        """The same with reals in place of the integers that stand for them."""
        return self if self.quant is None else Constant(self.quant.dequantise(self.data), None)


def is_quantised(tensor: LiteRtTensor) -> bool:
    """Whether a tensor's integers stand for reals."""
    return tensor.quant is not None and tensor.dtype in QUANTISED


def checked_axis(op: LiteRtOperator, axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises:
        ModelError: there is no such axis.
    """
    if not -rank <= axis < rank:
        raise ModelError(f"{op.code} {op.output.name!r} works along axis {axis} of {rank}")
    return axis % rank


def one_scale(tensor: LiteRtTensor) -> Quant:
    """Quantisation of a computed tensor.

    Raises:
        ModelError: it has several scales.
    """
    assert tensor.quant is not None
    if not tensor.quant.per_tensor:
        raise ModelError(f"tensor {tensor.name!r} is computed and has {tensor.quant.scale.size} scales; it can have one")
    return tensor.quant


def require_numbers(tensor: LiteRtTensor) -> None:
    """Checks the type of the elements.

    Raises:
        ModelError: they are no numbers that numpy has.
    """
    if tensor.dtype not in NUMBERS:
        raise ModelError(f"tensor {tensor.name!r} holds {tensor.dtype}, which is not imported")


def require_axes(tensor: LiteRtTensor, axes: Sequence[int]) -> None:
    """Checks the number of axes.

    Raises:
        ModelError: the file says another.
    """
    if len(axes) != tensor.rank:
        raise ModelError(f"tensor {tensor.name!r} is said to have {tensor.rank} axes, and its operator makes {len(axes)}")
