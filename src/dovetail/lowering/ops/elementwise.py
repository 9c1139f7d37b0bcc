"""Operators that work element by element: they take any storage order and keep it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.lowering import rewrite
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Order, Quant, Tensor, View, identity, per_tensor

_FUSED = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions"}
_QUANTISED = frozenset({"ADD", "SUB", "MUL"})
SIGMOID_QUANT = per_tensor(1 / 256, -128)
TANH_QUANT = per_tensor(1 / 128, 0)


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


def binary(code: str, table: str = "") -> Callable[[Emitter, Node], None]:
    """Lowering of an operator with two operands that broadcast."""

    def lower(em: Emitter, node: Node) -> None:
        views, quant = em.operands(node, 0, 1)
        if code not in _QUANTISED:
            views, quant = [em.real(v) for v in views], None
        tensors, order = aligned(em, views)
        out = em.result(node.output, order, quant)
        if code in _FUSED:
            em.emit(code, tensors, [out], _FUSED[code], fusedActivationFunction=node.get(rewrite.ACTIVATION, "NONE"))
        else:
            em.emit(code, tensors, [out], table)

    return lower


def unary(code: str, table: str = "") -> Callable[[Emitter, Node], None]:
    """Lowering of an operator with one operand, computed in float."""

    def lower(em: Emitter, node: Node) -> None:
        view = em.real(em.view(node.inputs[0]))
        em.emit(code, [view.tensor], [em.result(node.output, view.order)], table)

    return lower


def fixed_range(code: str, required: Quant, table: str = "") -> Callable[[Emitter, Node], None]:
    """Lowering of an operator whose integer form has one prescribed quantisation of the result."""

    def lower(em: Emitter, node: Node) -> None:
        (view,), quant = em.operands(node, 0)
        if quant is None or quant.dtype != "int8":
            view = em.real(view)
            em.emit(code, [view.tensor], [em.result(node.output, view.order)], table)
            return
        out = em.result(node.output, view.order, required)
        em.emit(code, [view.tensor], [out], table)
        if not required.same(quant):
            em.note(f"{node.output}: computed with {required}, as {code} demands, then rescaled to {quant}")
            em.bind(node.output, em.quantised(View(out, view.order), quant))

    return lower


def leaky(code: str, table: str = "") -> Callable[[Emitter, Node], None]:
    """Lowering of an operator with one operand that keeps integers where its readers want them."""

    def lower(em: Emitter, node: Node) -> None:
        (view,), quant = em.operands(node, 0)
        options = {"alpha": float(node.get("alpha", 0.01))} if code == "LEAKY_RELU" else {}
        em.emit(code, [view.tensor], [em.result(node.output, view.order, quant)], table, **options)

    return lower


def bound(em: Emitter, node: Node) -> None:
    """Relu and Clip: one operator where there is one, else a minimum and a maximum."""
    name = rewrite.activation(em.source, node)
    if name is not None:
        (view,), quant = em.operands(node, 0)
        em.emit(name, [view.tensor], [em.result(node.output, view.order, quant)])
        return
    limits = rewrite.bounds(em.source, node)
    if limits is None:
        raise ModelError(f"Clip {node.output!r} computes its bounds at run time")
    view = em.real(em.view(node.inputs[0]))
    dtype = view.dtype
    steps = [(code, v) for code, v in (("MAXIMUM", limits[0]), ("MINIMUM", limits[1])) if np.isfinite(v)]
    current = view.tensor
    out = em.result(node.output, view.order)
    if not steps:
        em.bind(node.output, view)
    for number, (code, limit) in enumerate(steps):
        last = number == len(steps) - 1
        made = out if last else em.tensor(f"{node.output}/low", view.tensor.shape, dtype)
        value = em.constant(np.full((1,) * view.rank, limit, dtype), f"{node.output}/limit")
        em.emit(code, [current, value], [made], "MaximumMinimumOptions")
        current = made


def constant_times(factor: float) -> Callable[[Emitter, Tensor, str], Tensor]:
    """Emits a product with a number."""

    def emit(em: Emitter, tensor: Tensor, name: str) -> Tensor:
        out = em.tensor(name, tensor.shape, tensor.dtype)
        number = em.constant(np.full((1,) * len(tensor.shape), factor, np.float32), f"{name}/factor")
        em.emit("MUL", [tensor, number], [out], "MulOptions", fusedActivationFunction="NONE")
        return out

    return emit


TABLE = {
    "Add": binary("ADD"),
    "Sub": binary("SUB"),
    "Mul": binary("MUL"),
    "Div": binary("DIV"),
    "Relu": bound,
    "Clip": bound,
    "LeakyRelu": leaky("LEAKY_RELU", "LeakyReluOptions"),
    "Sigmoid": fixed_range("LOGISTIC", SIGMOID_QUANT),
    "Tanh": fixed_range("TANH", TANH_QUANT),
    "HardSwish": leaky("HARD_SWISH", "HardSwishOptions"),
}
