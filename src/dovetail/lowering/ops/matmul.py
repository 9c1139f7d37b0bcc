"""MatMul and Gemm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.convolution import em_logical
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.products import Layer, product
from dovetail.lowering.ops.types import REAL, carried
from dovetail.lowering.ops.views import bind, permuted, reshaped
from dovetail.lowering.rewrite import ACTIVATION, BIAS, DYNAMIC
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import View


def matmul(em: Emitter, node: Node) -> None:
    """MatMul of matrices, batches and vectors, with a row that was added behind it."""
    a, b = factor(em, node, 0), factor(em, node, 1)
    if a.rank == 1:
        a = reshaped(em, a, (1, *a.shape))
    if b.rank == 1:
        b = reshaped(em, b, (*b.shape, 1))
    row = node.inputs[2] if node.get(BIAS) else ""
    bind(em, node.output, product(em, a, b, replace(_layer(em, node), row=row, dynamic=bool(node.get(DYNAMIC)))))


def gemm(em: Emitter, node: Node) -> None:
    """Gemm: ``alpha · A B + beta · C``, either matrix transposed."""
    a, b = factor(em, node, 0), factor(em, node, 1)
    a = permuted(a, (1, 0)) if node.get("transA", 0) else a
    b = permuted(b, (1, 0)) if node.get("transB", 0) else b
    layer, alpha, beta = _layer(em, node), node.get("alpha", 1.0), node.get("beta", 1.0)
    row, addend = _row(em, node, b.shape[-1], beta)
    if alpha != 1.0 and b.tensor.data is not None:
        scaled = (em_logical(em.real(b)) * np.float32(alpha)).astype(np.float32)
        b, alpha = View(em.constant(scaled, node.inputs[1]), (0, 1)), 1.0
    if alpha == 1.0 and addend is None and (not row or b.tensor.data is not None):
        bind(em, node.output, product(em, a, b, replace(layer, row=row)))
        return
    plain = product(em, em.real(a), em.real(b), replace(layer, target=None, activation="NONE"))
    m, result = Maths(em, node.output), plain.tensor
    result = result if alpha == 1.0 else m.mul(result, alpha)
    if row or addend is not None:
        summand = em.ordered(em.expanded(em.real(em.view(row)) if row else addend, 2), plain.order)  # type: ignore[arg-type]
        summand = summand if row or beta == 1.0 else m.mul(summand, beta)
        result = m.add(result, summand, activation=layer.activation)
    elif layer.activation != "NONE":
        result = m.apply(layer.activation, result)
    bind(em, node.output, View(result, plain.order))


def factor(em: Emitter, node: Node, index: int) -> View:
    """An operand of a product: quantised, or plain floats.

    Raises:
        ModelError: it holds integers that stand for no reals.
    """
    view = em.view(node.inputs[index])
    return view if view.quant is not None else carried(em, node, [view], REAL)[0]


def _layer(em: Emitter, node: Node) -> Layer:
    return Layer(
        name=node.output,
        weights=node.inputs[1],
        target=em.targets.get(node.output),
        activation=node.get(ACTIVATION, "NONE"),
        shuffle=em.shuffled.get(node.inputs[0]),
    )


def _row(em: Emitter, node: Node, columns: int, beta: float) -> tuple[str, View | None]:
    """What Gemm adds: the name of a constant row, scaled already, or anything else."""
    if not node.has(2) or beta == 0.0:
        return "", None
    view = em.view(node.inputs[2])
    shape = view.shape
    if view.tensor.data is None or not (view.tensor.data.size == 1 or (shape[-1:] == (columns,) and set(shape[:-1]) <= {1})):
        return "", em.real(view)
    if beta == 1.0:
        return node.inputs[2], None
    value = (em_logical(em.real(view)) * np.float32(beta)).astype(np.float32)
    return em.source.add_constant(f"{node.inputs[2]}/scaled", value), None


TABLE = {"MatMul": matmul, "Gemm": gemm}
