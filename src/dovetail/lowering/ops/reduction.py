"""Reductions along axes, and softmax."""

from __future__ import annotations

from collections.abc import Callable

from dovetail.core.errors import ModelError
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import View, per_tensor

SOFTMAX_QUANT = per_tensor(1 / 256, -128)


def axes_of(em: Emitter, node: Node, rank: int) -> list[int] | None:
    """Axes of a reduction, from the attribute or the second input; ``None`` for an empty set that means none."""
    if "axes" in node.attributes:
        return [axis % rank for axis in node.attributes["axes"]]
    if node.has(1):
        found = em.array(node, 1, "axes")
        if found.size:
            return [int(axis) % rank for axis in found.reshape(-1)]
    return None if node.get("noop_with_empty_axes", 0) else list(range(rank))


def reduction(code: str) -> Callable[[Emitter, Node], None]:
    """Lowering of a reduction; means keep integers."""

    def lower(em: Emitter, node: Node) -> None:
        (x,), quant = em.operands(node, 0)
        if code != "MEAN":
            x, quant = em.real(x), None
        axes = axes_of(em, node, x.rank)
        if axes is None:
            em.bind(node.output, x)
            return
        keep = bool(node.get("keepdims", 1))
        order = x.order
        if not keep:
            left = [axis for axis in range(x.rank) if axis not in axes]
            order = tuple(left.index(axis) for axis in x.order if axis in left)
        out = em.result(node.output, order, quant)
        where = sorted(x.place(axis) for axis in axes)
        em.emit(code, [x.tensor, em.integers(where, f"{node.output}/axes")], [out], "ReducerOptions", keepDims=keep)

    return lower


def softmax(code: str, table: str) -> Callable[[Emitter, Node], None]:
    """Lowering of Softmax and LogSoftmax along one axis, which is moved to the end."""

    def lower(em: Emitter, node: Node) -> None:
        (x,), quant = em.operands(node, 0)
        if em.source.opset < 13:
            raise ModelError(f"{node.op} {node.output!r} has the meaning of an opset below 13")
        axis = node.get("axis", -1) % x.rank
        order = x.order if x.order[-1] == axis else (*(a for a in x.order if a != axis), axis)
        if code != "SOFTMAX" or quant is None or quant.dtype != "int8":
            x, quant = em.real(x), None
        tensor = em.ordered(x, order)
        options: dict[str, object] = {"beta": 1.0} if code == "SOFTMAX" else {}
        out = em.result(node.output, order, None if quant is None else SOFTMAX_QUANT)
        em.emit(code, [tensor], [out], table, **options)
        if quant is not None and not SOFTMAX_QUANT.same(quant):
            em.note(f"{node.output}: computed with {SOFTMAX_QUANT}, as SOFTMAX demands, then rescaled to {quant}")
            em.bind(node.output, em.quantised(View(out, order), quant))

    return lower


TABLE = {
    "ReduceMean": reduction("MEAN"),
    "ReduceSum": reduction("SUM"),
    "ReduceMax": reduction("REDUCE_MAX"),
    "ReduceMin": reduction("REDUCE_MIN"),
    "ReduceProd": reduction("REDUCE_PROD"),
    "Softmax": softmax("SOFTMAX", "SoftmaxOptions"),
    "LogSoftmax": softmax("LOG_SOFTMAX", "LogSoftmaxOptions"),
}
