"""Operators that work element by element: they take any storage order and keep it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering import rewrite
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.types import REAL, WIDE, bind, carried, cast
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Order, Quant, Tensor, View, identity, per_tensor

_FUSED = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions"}
_TYPES: Mapping[str, frozenset[str]] = {
    "ADD": WIDE,
    "SUB": WIDE,
    "MUL": WIDE,
    "DIV": frozenset({"float32", "int32"}),
    "MAXIMUM": WIDE | {"int8", "uint8", "int16"},
    "MINIMUM": WIDE | {"int8", "uint8", "int16"},
}
"""Operator → types of plain numbers that its kernel takes."""
_QUANTISED = frozenset({"ADD", "SUB", "MUL"})
_ORDERED = frozenset({"MAXIMUM", "MINIMUM"})
"""They choose among integers of one scale."""
_RATIO = 256
_SIXTEEN = per_tensor(1 / 32768, 0, "int16")
SIGMOID_QUANT = {"int8": per_tensor(1 / 256, -128), "int16": _SIXTEEN}
TANH_QUANT = {"int8": per_tensor(1 / 128, 0), "int16": _SIXTEEN}
_BYTES_ONLY = frozenset({"HARD_SWISH", "RELU_N1_TO_1"})
"""Operators whose integer kernels take 8 bits alone."""


def common_order(views: list[View]) -> Order:
    """The storage order of the operand that has most elements, constants last."""
    computed = [v for v in views if v.tensor.data is None] or views
    return max(computed, key=lambda v: (v.tensor.nbytes, v.order != identity(v.rank))).order


def aligned(em: Emitter, views: list[View]) -> tuple[list[Tensor], Order]:
    """Operands of one rank in one storage order, ready to broadcast."""
    rank = max(view.rank for view in views)
    wide = [em.expanded(view, rank) for view in views]
    order = common_order(wide)
    return [em.ordered(view, order) for view in wide], order


def _fits(code: str, views: Sequence[View], quant: Quant) -> bool:
    """Whether the scales lie so close together that integer kernels do not overflow: XNNPACK takes ratios below 256."""
    scales = [float(view.quant.scale[0]) for view in views if view.quant is not None]
    widest = scales[0] * scales[1] if code == "MUL" else max(scales)
    return widest / float(quant.scale[0]) < _RATIO


def centred(views: Sequence[View], quant: Quant | None) -> bool:
    """Whether kernels take the operands' zero points: those of 16 bits must be zero."""
    quants = [quant, *(view.quant for view in views)]
    return not any(q is not None and q.dtype == "int16" and q.zero_point.any() for q in quants)


def binary(code: str) -> Callable[[Emitter, Node], None]:
    """Lowering of an operator with two operands that broadcast."""

    def lower(em: Emitter, node: Node) -> None:
        views, quant = em.operands(node, 0, 1)
        if quant is not None and not (code in _QUANTISED and centred(views, quant) and _fits(code, views, quant)):
            views, quant = [em.real(v) for v in views], None
        if quant is None:
            views = carried(em, node, views, _TYPES[code])
        tensors, order = aligned(em, views)
        options: dict[str, object] = {"fusedActivationFunction": node.get(rewrite.ACTIVATION, "NONE")}
        if code in ("ADD", "SUB"):
            options["potScaleInt16"] = False
        if quant is None and tensors[0].dtype != em.source.dtype(node.output):
            bind(em, node.output, Maths(em, node.output).apply(code, *tensors), order)
            return
        em.emit(code, tensors, [em.result(node.output, order, quant)], _FUSED[code], **options)

    return lower


def variadic(code: str) -> Callable[[Emitter, Node], None]:
    """Lowering of Max, Min and Sum: operators with two operands in a row."""

    def lower(em: Emitter, node: Node) -> None:
        if code in _ORDERED and (quant := em.targets.get(node.output)) is not None:
            views = [em.view(name) for name in node.inputs]
            if all(v.quant is not None and v.quant.per_tensor for v in views):
                _chain(em, node, code, [em.quantised(v, quant) for v in views], quant)
                return
        views = [em.real(em.view(name)) for name in node.inputs]
        _chain(em, node, code, carried(em, node, views, _TYPES[code]), None)

    return lower


def _chain(em: Emitter, node: Node, code: str, views: list[View], quant: Quant | None) -> None:
    tensors, order = aligned(em, views)
    m, current = Maths(em, node.output), tensors[0]
    for tensor in tensors[1:]:
        current = m.apply(code, current, tensor, quant=quant)
    bind(em, node.output, current, order) if quant is None else em.bind(node.output, View(current, order))


def mean(em: Emitter, node: Node) -> None:
    """Mean of several operands."""
    tensors, order = aligned(em, [em.real(em.view(name)) for name in node.inputs])
    m, total = Maths(em, node.output), tensors[0]
    for tensor in tensors[1:]:
        total = m.add(total, tensor)
    em.bind(node.output, View(m.mul(total, 1 / len(tensors)) if len(tensors) > 1 else total, order))


def fixed_range(code: str, prescribed: Mapping[str, Quant]) -> Callable[[Emitter, Node], None]:
    """Lowering of an operator whose integer form has one prescribed quantisation of the result for each type."""

    def lower(em: Emitter, node: Node) -> None:
        (view,), quant = em.operands(node, 0)
        required = None if quant is None else prescribed.get(quant.dtype)
        if quant is None or required is None:
            (view,) = carried(em, node, [em.real(view)], REAL)
            em.emit(code, [view.tensor], [em.result(node.output, view.order)])
            return
        out = em.result(node.output, view.order, required)
        em.emit(code, [view.tensor], [out])
        if not required.same(quant):
            em.note(f"{node.output}: computed with {required}, as {code} demands, then rescaled to {quant}")
            em.bind(node.output, em.quantised(View(out, view.order), quant))

    return lower


def leaky(code: str, table: str) -> Callable[[Emitter, Node], None]:
    """Lowering of an operator with one operand that keeps integers where its readers want them."""

    def lower(em: Emitter, node: Node) -> None:
        (view,), quant = em.operands(node, 0)
        quant = None if quant is not None and _lacks(code, quant) else quant
        if quant is None:
            (view,) = carried(em, node, [em.real(view)], REAL)
        options = {"alpha": float(node.get("alpha", 0.01))} if code == "LEAKY_RELU" else {}
        em.emit(code, [view.tensor], [em.result(node.output, view.order, quant)], table, **options)

    return lower


def _lacks(code: str, quant: Quant) -> bool:
    return quant.dtype != "int8" and code in _BYTES_ONLY


def prelu(em: Emitter, node: Node) -> None:
    """PRelu: a slope for negative numbers, one for each channel or element."""
    views = carried(em, node, [em.real(em.view(name)) for name in node.inputs[:2]], REAL)
    x, slope = views[0], em.expanded(views[1], views[0].rank)
    out = em.result(node.output, x.order)
    em.emit("PRELU", [x.tensor, em.ordered(slope, x.order)], [out])


def bound(em: Emitter, node: Node) -> None:
    """Relu and Clip: one operator where there is one, else a minimum and a maximum."""
    name = rewrite.activation(em.source, node)
    (view,), quant = em.operands(node, 0)
    if name is not None and (view.dtype == "float32" if quant is None else not _lacks(name, quant)):
        em.emit(name, [view.tensor], [em.result(node.output, view.order, quant)])
        return
    limits = _limits(em, node)
    if quant is not None:
        _quantised_bound(em, node, em.quantised(view, quant), quant, limits)
        return
    (view,) = carried(em, node, [em.real(view)], _TYPES["MAXIMUM"])
    m, current = Maths(em, node.output), view.tensor
    for code, limit in limits:
        value = cast(em, em.reshape(limit.tensor, (1,) * view.rank), view.dtype) if isinstance(limit, View) else limit
        current = m.apply(code, current, value)
    bind(em, node.output, current, view.order)


def _limits(em: Emitter, node: Node) -> list[tuple[str, float | View]]:
    """The bounds of Relu or Clip that there are: numbers, or values computed at run time."""
    if node.op == "Relu":
        return [("MAXIMUM", 0.0)]
    found: list[tuple[str, float | View]] = []
    for code, index in (("MAXIMUM", 1), ("MINIMUM", 2)):
        constant = em.source.constant(node, index)
        if constant is None and node.has(index):
            found.append((code, em.real(em.view(node.inputs[index]))))
        elif constant is not None and _bites(constant):
            found.append((code, constant.reshape(()).item()))
    return found


def _bites(limit: Array) -> bool:
    """Whether a bound can change anything; the ends of an integer type cannot."""
    if limit.dtype.kind == "f":
        return bool(np.isfinite(limit).all())
    ends = np.iinfo(limit.dtype)
    return int(limit.reshape(())) not in (ends.min, ends.max)


def _quantised_bound(em: Emitter, node: Node, view: View, quant: Quant, limits: list[tuple[str, float | View]]) -> None:
    """Bounds on integers: rounding keeps the order, so that bounding and rounding may change places."""
    m, current = Maths(em, node.output), view.tensor
    for code, limit in limits:
        if isinstance(limit, View):
            raise ModelError(f"{node.op} {node.output!r} is quantised and computes its bounds at run time")
        number = quant.quantise(np.full((1,) * view.rank, limit, np.float32))
        current = m.apply(code, current, em.constant(number, f"{node.output}/limit", quant), quant=quant)
    em.bind(node.output, View(current, view.order))


TABLE = {
    "Add": binary("ADD"),
    "Sub": binary("SUB"),
    "Mul": binary("MUL"),
    "Div": binary("DIV"),
    "Max": variadic("MAXIMUM"),
    "Min": variadic("MINIMUM"),
    "Sum": variadic("ADD"),
    "Mean": mean,
    "Relu": bound,
    "Clip": bound,
    "LeakyRelu": leaky("LEAKY_RELU", "LeakyReluOptions"),
    "PRelu": prelu,
    "Sigmoid": fixed_range("LOGISTIC", SIGMOID_QUANT),
    "Tanh": fixed_range("TANH", TANH_QUANT),
    "HardSwish": leaky("HARD_SWISH", "HardSwishOptions"),
}
