"""Reductions along axes, and softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dovetail.core.errors import ModelError
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.types import REAL, WIDE, bind, carried, operand
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Order, Quant, Tensor, View, per_tensor

SOFTMAX_QUANT = {"int8": per_tensor(1 / 256, -128), "int16": per_tensor(1 / 32768, 0, "int16")}
_TYPES: Mapping[str, frozenset[str]] = {
    "MEAN": REAL,
    "SUM": WIDE,
    "REDUCE_PROD": WIDE,
    "REDUCE_MAX": WIDE | {"bool"},
    "REDUCE_MIN": WIDE | {"bool"},
}
_OF_BOOLS = {"REDUCE_MAX": "REDUCE_ANY", "REDUCE_MIN": "REDUCE_ALL"}
Steps = Callable[[Maths, Tensor, list[int], bool], Tensor]


def axes_of(em: Emitter, node: Node, rank: int) -> list[int] | None:
    """Axes of a reduction, from the attribute or the second input; ``None`` for an empty set that means none."""
    if "axes" in node.attributes:
        return [axis % rank for axis in node.attributes["axes"]]
    if node.has(1):
        found = em.array(node, 1, "axes")
        if found.size:
            return [int(axis) % rank for axis in found.reshape(-1)]
    return None if node.get("noop_with_empty_axes", 0) else list(range(rank))


def order_after(order: Order, axes: list[int], keep: bool) -> Order:
    """Storage order of what a reduction leaves."""
    if keep:
        return order
    left = [axis for axis in sorted(order) if axis not in axes]
    return tuple(left.index(axis) for axis in order if axis in left)


def reduction(code: str) -> Callable[[Emitter, Node], None]:
    """Lowering of a reduction; means keep integers, and so do extremes, in the scale they have."""

    def lower(em: Emitter, node: Node) -> None:
        x, quant = _operand(em, node, code)
        axes = axes_of(em, node, x.rank)
        if not axes:
            em.bind(node.output, x)
            return
        keep = bool(node.get("keepdims", 1))
        order, where = order_after(x.order, axes, keep), [x.place(axis) for axis in axes]
        kind = _OF_BOOLS[code] if x.dtype == "bool" else code
        out = Maths(em, node.output).reduce(kind, x.tensor, where, keep, quant)
        if quant is None:
            bind(em, node.output, out, order)
        else:
            em.bind(node.output, View(out, order))

    return lower


def _operand(em: Emitter, node: Node, code: str) -> tuple[View, Quant | None]:
    """The operand and the quantisation of the result."""
    if code in _OF_BOOLS:
        x = em.view(node.inputs[0])
        if x.quant is not None and x.quant.per_tensor:
            return x, x.quant
    elif code == "MEAN":
        (x,), quant = em.operands(node, 0)
        if quant is not None:
            return x, quant
    return operand(em, node, allowed=_TYPES[code]), None


def composed(steps: Steps) -> Callable[[Emitter, Node], None]:
    """Lowering of a reduction that is a few operators."""

    def lower(em: Emitter, node: Node) -> None:
        allowed = WIDE if node.op in ("ReduceL1", "ReduceSumSquare") else REAL
        x = operand(em, node, allowed=allowed)
        axes = axes_of(em, node, x.rank)
        keep = bool(node.get("keepdims", 1))
        if not axes:
            raise ModelError(f"{node.op} {node.output!r} reduces no axis")
        out = steps(Maths(em, node.output), x.tensor, [x.place(axis) for axis in axes], keep)
        bind(em, node.output, out, order_after(x.order, axes, keep))

    return lower


def _l1(m: Maths, x: Tensor, places: list[int], keep: bool) -> Tensor:
    size = m.maximum(x, m.apply("NEG", x)) if x.dtype == "int64" else m.apply("ABS", x)
    return m.reduce("SUM", size, places, keep)


def _sum_square(m: Maths, x: Tensor, places: list[int], keep: bool) -> Tensor:
    return m.reduce("SUM", m.mul(x, x), places, keep)


def _l2(m: Maths, x: Tensor, places: list[int], keep: bool) -> Tensor:
    return m.apply("SQRT", _sum_square(m, x, places, keep))


def _log_sum(m: Maths, x: Tensor, places: list[int], keep: bool) -> Tensor:
    return m.apply("LOG", m.reduce("SUM", x, places, keep))


def _log_sum_exp(m: Maths, x: Tensor, places: list[int], keep: bool) -> Tensor:
    """``g + log Σ exp(x − g)`` of the greatest ``g``, which does not overflow."""
    greatest = m.reduce("REDUCE_MAX", x, places)
    total = _log_sum(m, m.apply("EXP", m.sub(x, greatest)), places, keep)
    return m.add(total, m.em.reshape(greatest, total.shape))


def softmax(code: str, table: str) -> Callable[[Emitter, Node], None]:
    """Lowering of Softmax and LogSoftmax along one axis, which is moved to the end."""

    def lower(em: Emitter, node: Node) -> None:
        (x,), quant = em.operands(node, 0)
        axis = node.get("axis", -1) % x.rank
        order = x.order if x.order[-1] == axis else (*(a for a in x.order if a != axis), axis)
        required = SOFTMAX_QUANT.get(quant.dtype) if code == "SOFTMAX" and quant is not None else None
        if required is None:
            (x,) = carried(em, node, [em.real(x)], REAL)
        tensor = em.ordered(x, order)
        options: dict[str, object] = {"beta": 1.0} if code == "SOFTMAX" else {}
        out = em.result(node.output, order, required)
        em.emit(code, [tensor], [out], table, **options)
        if required is not None and quant is not None and not required.same(quant):
            em.note(f"{node.output}: computed with {required}, as SOFTMAX demands, then rescaled to {quant}")
            em.bind(node.output, em.quantised(View(out, order), quant))

    return lower


TABLE = {
    "ReduceMean": reduction("MEAN"),
    "ReduceSum": reduction("SUM"),
    "ReduceMax": reduction("REDUCE_MAX"),
    "ReduceMin": reduction("REDUCE_MIN"),
    "ReduceProd": reduction("REDUCE_PROD"),
    "ReduceL1": composed(_l1),
    "ReduceL2": composed(_l2),
    "ReduceSumSquare": composed(_sum_square),
    "ReduceLogSum": composed(_log_sum),
    "ReduceLogSumExp": composed(_log_sum_exp),
    "Softmax": softmax("SOFTMAX", "SoftmaxOptions"),
    "LogSoftmax": softmax("LOG_SOFTMAX", "LogSoftmaxOptions"),
}
