"""Types: which ones a kernel takes, and which wider one carries a value that its kernel does not take."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dovetail.core.errors import ModelError
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.precision import OTHERS
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Order, Tensor, View

REAL = frozenset({"float32"})
WIDE = frozenset({"float32", "int32", "int64"})
"""What most arithmetic kernels take; 8- and 16-bit kernels read their operands as quantised."""

_CARRIERS = {
    "bool": ("int32", "int64"),
    "int8": ("int32", "int64"),
    "uint8": ("int32", "int64"),
    "int16": ("int32", "int64"),
    "uint16": ("int32", "int64"),
    "int32": ("int64",),
    "uint32": ("int64",),
}
"""Type → wider ones that hold each of its values. Sums and products that overflow wrap alike once cast back."""


def carrier(dtype: str, allowed: Collection[str]) -> str | None:
    """The type in which a kernel computes on values of a type; ``None`` where there is none."""
    return next((t for t in (dtype, *_CARRIERS.get(dtype, ())) if t in allowed), None)


def carried(em: Emitter, node: Node, views: Sequence[View], allowed: Collection[str]) -> list[View]:
    """Plain operands of one type, cast to one that the kernel takes.

    Raises:
        ModelError: no type of the kernel holds the values.
    """
    dtype = carrier(views[0].dtype, allowed)
    if dtype is None:
        raise ModelError(f"{node.op} {node.output!r} computes on {views[0].dtype}, for which LiteRT has no kernel")
    return [View(cast(em, view.tensor, dtype), view.order) for view in views]


def operand(em: Emitter, node: Node, index: int = 0, allowed: Collection[str] = REAL) -> View:
    """An operand as plain numbers of a type that the kernel takes."""
    return carried(em, node, [em.real(em.view(node.inputs[index]))], allowed)[0]


def cast(em: Emitter, tensor: Tensor, dtype: str) -> Tensor:
    """The values in another type."""
    if tensor.dtype == dtype:
        return tensor
    if tensor.data is not None and dtype not in OTHERS:
        return em.constant(tensor.data.astype(dtype), tensor.name)
    result = em.tensor(f"{tensor.name}/{dtype}", tensor.shape, dtype)
    em.emit("CAST", [tensor], [result], "CastOptions", inDataType=tensor.dtype, outDataType=dtype)
    return result


def bind(em: Emitter, name: str, tensor: Tensor, order: Order) -> None:
    """Says that a tensor holds an ONNX value, in the type that the value has."""
    em.bind(name, View(cast(em, tensor, em.source.dtype(name)), order))


def to_type(em: Emitter, node: Node) -> None:
    """Cast, by truncation towards zero where reals become integers."""
    view = em.real(em.view(node.inputs[0]))
    bind(em, node.output, view.tensor, view.order)


TABLE = {"Cast": to_type}
