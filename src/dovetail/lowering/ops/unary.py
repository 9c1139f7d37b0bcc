"""Functions of one value, element by element: one operator where the runtime has it, else a few."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.types import REAL, WIDE, bind, operand
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Tensor

Formula = Callable[[Maths, Tensor, Node], Tensor]
_SELU = (1.67326319217681884765625, 1.05070102214813232421875)
"""The standard's alpha and gamma."""
_TINY = 1e-20
"""Where a quotient by the argument stands for its limit."""


def direct(code: str, allowed: Collection[str] = REAL) -> Callable[[Emitter, Node], None]:
    """Lowering of what the runtime has as one operator."""

    def lower(em: Emitter, node: Node) -> None:
        view = operand(em, node, allowed=allowed)
        if view.dtype == em.source.dtype(node.output):
            em.emit(code, [view.tensor], [em.result(node.output, view.order)])
        else:
            bind(em, node.output, Maths(em, node.output).apply(code, view.tensor), view.order)

    return lower


def composed(formula: Formula, allowed: Collection[str] = REAL) -> Callable[[Emitter, Node], None]:
    """Lowering of a formula."""

    def lower(em: Emitter, node: Node) -> None:
        view = operand(em, node, allowed=allowed)
        bind(em, node.output, formula(Maths(em, node.output), view.tensor, node), view.order)

    return lower


def _abs(m: Maths, x: Tensor, _: Node) -> Tensor:
    return m.maximum(x, m.apply("NEG", x)) if x.dtype == "int64" else m.apply("ABS", x)


def _sign(m: Maths, x: Tensor, _: Node) -> Tensor:
    if x.dtype != "int64":
        return m.apply("SIGN", x)
    above, below = (m.cast(m.compare(code, x, 0), "int64") for code in ("GREATER", "LESS"))
    return m.sub(above, below)


def _hard_sigmoid(m: Maths, x: Tensor, node: Node) -> Tensor:
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    # Six times the value lets the fused bound of 6 stand for 1.
    inner = x if math.isclose(6 * alpha, 1.0, rel_tol=1e-6) else m.mul(x, 6 * alpha)
    return m.mul(m.add(inner, 6 * beta, activation="RELU6"), 1 / 6)


def _exponential_below_zero(m: Maths, x: Tensor, scale: float, above: float = 1.0, steep: float = 1.0) -> Tensor:
    """``above · x`` above zero, ``scale · (exp(x / steep) − 1)`` below."""
    low = m.minimum(x, 0.0)
    low = m.apply("ELU", low if steep == 1.0 else m.mul(low, 1 / steep))
    high = m.apply("RELU", x)
    return m.add(high if above == 1.0 else m.mul(high, above), m.mul(low, scale))


def _elu(m: Maths, x: Tensor, node: Node) -> Tensor:
    alpha = node.get("alpha", 1.0)
    return m.apply("ELU", x) if alpha == 1.0 else _exponential_below_zero(m, x, alpha)


def _selu(m: Maths, x: Tensor, node: Node) -> Tensor:
    alpha, gamma = node.get("alpha", _SELU[0]), node.get("gamma", _SELU[1])
    return _exponential_below_zero(m, x, alpha * gamma, above=gamma)


def _celu(m: Maths, x: Tensor, node: Node) -> Tensor:
    alpha = node.get("alpha", 1.0)
    return _exponential_below_zero(m, x, alpha, steep=alpha)


def _softplus(m: Maths, x: Tensor, _: Node) -> Tensor:
    """``max(x, 0) + log(1 + exp(−|x|))``, which never overflows."""
    tail = m.apply("LOG", m.add(m.apply("EXP", m.apply("NEG", m.apply("ABS", x))), 1.0))
    return m.add(m.apply("RELU", x), tail)


def _mish(m: Maths, x: Tensor, node: Node) -> Tensor:
    return m.mul(x, m.apply("TANH", _softplus(m, x, node)))


def _swish(m: Maths, x: Tensor, node: Node) -> Tensor:
    alpha = node.get("alpha", 1.0)
    return m.mul(x, m.apply("LOGISTIC", x if alpha == 1.0 else m.mul(x, alpha)))


def _softsign(m: Maths, x: Tensor, _: Node) -> Tensor:
    return m.div(x, m.add(m.apply("ABS", x), 1.0))


def _thresholded(m: Maths, x: Tensor, node: Node) -> Tensor:
    return m.select(m.compare("GREATER", x, node.get("alpha", 1.0)), x, 0.0)


def _shrink(m: Maths, x: Tensor, node: Node) -> Tensor:
    bias, limit = node.get("bias", 0.0), node.get("lambd", 0.5)
    inner = m.select(m.compare("GREATER", x, limit), m.sub(x, bias) if bias else x, 0.0)
    return m.select(m.compare("LESS", x, -limit), m.add(x, bias) if bias else x, inner)


def _erf(m: Maths, x: Tensor, _: Node) -> Tensor:
    """From ``gelu(z) = z · (1 + erf(z / √2)) / 2``, at positive arguments; off by at most 4e-7, a float's rounding at 1."""
    z = m.maximum(m.mul(m.apply("ABS", x), math.sqrt(2)), _TINY)
    gelu = m.em.tensor(f"{m.name}/gelu", z.shape, z.dtype)
    m.em.emit("GELU", [z], [gelu], "GeluOptions", approximate=False)
    size = m.sub(m.mul(m.div(gelu, z), 2.0), 1.0)
    return m.mul(m.apply("SIGN", x), size)


def _sinh(m: Maths, x: Tensor, _: Node) -> Tensor:
    """``s · (u + u / (u + 1)) / 2`` of ``u = exp(|x|) − 1``, exact near zero too."""
    u = m.apply("ELU", m.apply("NEG", m.apply("ABS", x)))  # exp(−|x|) − 1, between −1 and 0
    size = m.div(m.mul(u, m.add(u, 2.0)), m.add(u, 1.0))  # (v² − 1) / v of v = u + 1
    return m.mul(m.apply("SIGN", x), m.mul(size, -0.5))


def _cosh(m: Maths, x: Tensor, _: Node) -> Tensor:
    return m.mul(m.add(m.apply("EXP", x), m.apply("EXP", m.apply("NEG", x))), 0.5)


def _tan(m: Maths, x: Tensor, _: Node) -> Tensor:
    return m.div(m.apply("SIN", x), m.apply("COS", x))


def _cofactor(m: Maths, x: Tensor) -> Tensor:
    """``√(1 − x²)``, written so that nothing cancels near 1."""
    return m.apply("SQRT", m.mul(m.sub(1.0, x), m.add(x, 1.0)))


def _arc_tangent(m: Maths, a: Tensor, b: Tensor) -> Tensor:
    return m.apply("ATAN2", a, b)


def _asin(m: Maths, x: Tensor, _: Node) -> Tensor:
    return _arc_tangent(m, x, _cofactor(m, x))


def _acos(m: Maths, x: Tensor, _: Node) -> Tensor:
    return _arc_tangent(m, _cofactor(m, x), x)


def _atan(m: Maths, x: Tensor, _: Node) -> Tensor:
    ones = m.maximum(m.minimum(x, 1.0), 1.0)  # this kernel does not broadcast
    return _arc_tangent(m, x, ones)


def _asinh(m: Maths, x: Tensor, _: Node) -> Tensor:
    size = m.apply("ABS", x)
    root = m.apply("SQRT", m.add(m.mul(size, size), 1.0))
    return m.mul(m.apply("SIGN", x), m.apply("LOG", m.add(size, root)))


def _acosh(m: Maths, x: Tensor, _: Node) -> Tensor:
    root = m.mul(m.apply("SQRT", m.sub(x, 1.0)), m.apply("SQRT", m.add(x, 1.0)))
    return m.apply("LOG", m.add(x, root))


def _atanh(m: Maths, x: Tensor, _: Node) -> Tensor:
    return m.mul(m.apply("LOG", m.div(m.add(x, 1.0), m.sub(1.0, x))), 0.5)


TABLE = {
    "Abs": composed(_abs, WIDE),
    "Neg": direct("NEG", WIDE),
    "Sign": composed(_sign, WIDE),
    "Exp": direct("EXP"),
    "Log": direct("LOG"),
    "Sqrt": direct("SQRT"),
    "Sin": direct("SIN"),
    "Cos": direct("COS"),
    "Tan": composed(_tan),
    "Asin": composed(_asin),
    "Acos": composed(_acos),
    "Atan": composed(_atan),
    "Sinh": composed(_sinh),
    "Cosh": composed(_cosh),
    "Asinh": composed(_asinh),
    "Acosh": composed(_acosh),
    "Atanh": composed(_atanh),
    "Floor": direct("FLOOR"),
    "Ceil": direct("CEIL"),
    "Round": direct("ROUND"),
    "Reciprocal": composed(lambda m, x, _: m.div(1.0, x)),
    "Erf": composed(_erf),
    "Elu": composed(_elu),
    "Selu": composed(_selu),
    "Celu": composed(_celu),
    "HardSigmoid": composed(_hard_sigmoid),
    "Softplus": composed(_softplus),
    "Softsign": composed(_softsign),
    "Mish": composed(_mish),
    "Swish": composed(_swish),
    "ThresholdedRelu": composed(_thresholded),
    "Shrink": composed(_shrink),
}
