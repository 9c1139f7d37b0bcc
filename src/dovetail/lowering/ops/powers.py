"""Pow and Mod: operators whose meaning depends on types and signs."""

from __future__ import annotations

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.elementwise import aligned
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.types import WIDE, bind, carried, cast
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Tensor, View


def power(em: Emitter, node: Node) -> None:
    """Pow; common constant exponents become products and roots.

    Raises:
        ModelError: an integer base with an exponent that is real, negative or of 64 bits at run time.
    """
    base, exponent = (em.real(em.view(name)) for name in node.inputs)
    (base,) = carried(em, node, [base], WIDE)
    number = em.source.constant(node, 1)
    if number is not None and number.size == 1 and exponent.rank <= base.rank:
        made = _fixed(Maths(em, node.output), base.tensor, float(number.reshape(())))
        if made is not None:
            bind(em, node.output, made, base.order)
            return
    if base.dtype != "float32":
        _require_whole(em, node, base, number)
    exponent = View(cast(em, exponent.tensor, base.dtype), exponent.order)
    tensors, order = aligned(em, [base, exponent])
    bind(em, node.output, Maths(em, node.output).apply("POW", *tensors), order)


def _fixed(m: Maths, x: Tensor, exponent: float) -> Tensor | None:
    if exponent == 1:
        return x
    if exponent in (2, 3, 4):
        square = m.mul(x, x)
        return square if exponent == 2 else m.mul(square, x if exponent == 3 else square)
    if x.dtype != "float32":
        return None
    if exponent == 0.5:
        return m.apply("SQRT", x)
    return m.div(1.0, x) if exponent == -1 else None


def _require_whole(em: Emitter, node: Node, base: View, number: Array | None) -> None:
    whole = number is not None and (number == np.floor(number)).all() and (number >= 0).all()
    kind = np.dtype(em.source.dtype(node.inputs[1])).kind
    if base.dtype != "int32" or not (whole or (number is None and kind in "iu")):
        raise ModelError(f"Pow {node.output!r} has a base of {base.dtype} and an exponent for which LiteRT has no kernel")


def remainder(em: Emitter, node: Node) -> None:
    """Mod, with the sign of the divisor, or of the dividend as C has it."""
    views = carried(em, node, [em.real(em.view(name)) for name in node.inputs], WIDE)
    tensors, order = aligned(em, views)
    m = Maths(em, node.output)
    made = _like_dividend(m, *tensors) if node.get("fmod", 0) else m.apply("FLOOR_MOD", *tensors)
    bind(em, node.output, made, order)


def _like_dividend(m: Maths, a: Tensor, b: Tensor) -> Tensor:
    """The remainder of sizes, with the dividend's sign."""
    if a.dtype == "int64":
        size_a, size_b = (m.maximum(t, m.apply("NEG", t)) for t in (a, b))
    else:
        size_a, size_b = (m.apply("ABS", t) for t in (a, b))
    size = m.apply("FLOOR_MOD", size_a, size_b)
    return m.select(m.compare("LESS", a, 0), m.apply("NEG", size), size)


TABLE = {"Pow": power, "Mod": remainder}
