"""Comparisons, logic, bits and choices by condition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.elementwise import aligned
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.types import REAL, WIDE, bind, carried, operand
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import View

_BITS = frozenset({"int8", "uint8", "int16", "uint16", "int32", "uint32"})


def comparison(code: str) -> Callable[[Emitter, Node], None]:
    """Lowering of a comparison, which makes bools."""
    allowed = WIDE | {"bool"} if code in ("EQUAL", "NOT_EQUAL") else WIDE

    def lower(em: Emitter, node: Node) -> None:
        views = carried(em, node, [em.real(em.view(name)) for name in node.inputs[:2]], allowed)
        tensors, order = aligned(em, views)
        em.emit(code, tensors, [em.result(node.output, order)])

    return lower


def logical(code: str) -> Callable[[Emitter, Node], None]:
    """Lowering of And, Or, Xor and Not."""

    def lower(em: Emitter, node: Node) -> None:
        tensors, order = aligned(em, [em.view(name) for name in node.inputs])
        em.emit(code, tensors, [em.result(node.output, order)])

    return lower


def where(em: Emitter, node: Node) -> None:
    """Where; integers of one scale are chosen as they are, or brought to the scale of the result."""
    condition, *views = (em.view(name) for name in node.inputs)
    target = em.targets.get(node.output)
    if target is not None and all(v.quant is not None and v.quant.per_tensor for v in views):
        views = [em.quantised(view, target) for view in views]
    else:
        views, target = [em.real(view) for view in views], None
    (mask, a, b), order = aligned(em, [condition, *views])
    em.emit("SELECT_V2", [mask, a, b], [em.result(node.output, order, target)])


def is_nan(em: Emitter, node: Node) -> None:
    """IsNaN: what differs from itself."""
    view = operand(em, node)
    em.emit("NOT_EQUAL", [view.tensor, view.tensor], [em.result(node.output, view.order)])


def is_inf(em: Emitter, node: Node) -> None:
    """IsInf, of either sign or one."""
    view, m = operand(em, node), Maths(em, node.output)
    above, below = node.get("detect_positive", 1), node.get("detect_negative", 1)
    if not above and not below:
        raise ModelError(f"IsInf {node.output!r} looks for neither sign")
    x = m.apply("ABS", view.tensor) if above and below else view.tensor
    found = m.compare("EQUAL", x, np.inf if above else -np.inf)
    em.bind(node.output, View(found, view.order))


def xor_bits(em: Emitter, node: Node) -> None:
    """BitwiseXor."""
    tensors, order = aligned(em, [em.view(name) for name in node.inputs])
    _require_bits(node, tensors[0].dtype)
    em.emit("BITWISE_XOR", tensors, [em.result(node.output, order)])


def not_bits(em: Emitter, node: Node) -> None:
    """BitwiseNot: all bits differ."""
    view, m = em.view(node.inputs[0]), Maths(em, node.output)
    _require_bits(node, view.dtype)
    ones = m.constant(np.invert(np.zeros((1,) * view.rank, view.dtype)))
    em.bind(node.output, View(m.apply("BITWISE_XOR", view.tensor, ones), view.order))


def shift(em: Emitter, node: Node) -> None:
    """BitShift to the right; to the left, a product with a power of two that is constant.

    Raises:
        ModelError: 64 bits or signed numbers to the right, or a computed shift to the left.
    """
    if node.get("direction") == "LEFT":
        amounts = em.array(node, 1, "shift to the left")
        bits = 8 * amounts.dtype.itemsize
        factors = np.where(amounts < bits, np.left_shift(1, np.minimum(amounts, bits - 1), dtype=amounts.dtype), 0)
        views = [em.view(node.inputs[0]), View(em.constant(factors, f"{node.output}/factors"), tuple(range(factors.ndim)))]
        tensors, order = aligned(em, carried(em, node, views, WIDE))
        bind(em, node.output, Maths(em, node.output).mul(*tensors), order)
        return
    tensors, order = aligned(em, [em.view(name) for name in node.inputs])
    _require_bits(node, tensors[0].dtype, signed=False)
    em.emit("RIGHT_SHIFT", tensors, [em.result(node.output, order)])


def _require_bits(node: Node, dtype: str, signed: bool = True) -> None:
    if dtype not in _BITS or not (signed or dtype.startswith("u")):
        raise ModelError(f"{node.op} {node.output!r} computes on {dtype}, for which LiteRT has no kernel")


def hardmax(em: Emitter, node: Node) -> None:
    """Hardmax: one at the first greatest number along an axis, zero elsewhere."""
    view = operand(em, node, allowed=REAL)
    axis = node.get("axis", -1) % view.rank
    order = (*(a for a in view.order if a != axis), axis)
    x = em.ordered(view, order)
    index = em.tensor(f"{node.output}/index", x.shape[:-1], "int32")
    em.emit("ARG_MAX", [x, em.integers([len(order) - 1], f"{node.output}/axis")], [index], "ArgMaxOptions", outputType="int32")
    parts = [em.constant(np.array(v), f"{node.output}/value") for v in (np.int32(x.shape[-1]), np.float32(1), np.float32(0))]
    em.emit("ONE_HOT", [index, *parts], [em.result(node.output, order)], "OneHotOptions", axis=-1)


TABLE = {
    "Equal": comparison("EQUAL"),
    "Less": comparison("LESS"),
    "LessOrEqual": comparison("LESS_EQUAL"),
    "Greater": comparison("GREATER"),
    "GreaterOrEqual": comparison("GREATER_EQUAL"),
    "And": logical("LOGICAL_AND"),
    "Or": logical("LOGICAL_OR"),
    "Xor": logical("NOT_EQUAL"),
    "Not": logical("LOGICAL_NOT"),
    "Where": where,
    "IsNaN": is_nan,
    "IsInf": is_inf,
    "BitwiseXor": xor_bits,
    "BitwiseNot": not_bits,
    "BitShift": shift,
    "Hardmax": hardmax,
}
