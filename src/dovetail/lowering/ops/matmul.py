"""Matrix products: with constant weights a fully connected layer, else a batched product."""

from __future__ import annotations

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.convolution import em_logical, parameters
from dovetail.lowering.rewrite import ACTIVATION, BIAS
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Tensor, View, identity


def matmul(em: Emitter, node: Node) -> None:
    """MatMul, and one with a bias that was added behind it."""
    weights = em.view(node.inputs[1])
    if weights.rank == 2 and weights.tensor.data is not None and len(em.source.shape(node.inputs[0])) >= 1:
        fully_connected(em, node, em_logical(weights).T, weights, weights_axis=1)
        return
    if node.get(BIAS):
        raise ModelError(f"MatMul {node.output!r} has a bias but computed weights")
    _batched(em, node)


def gemm(em: Emitter, node: Node) -> None:
    """Gemm with constant weights.

    Raises:
        ModelError: computed weights or factors that integers cannot carry.
    """
    weights = em.view(node.inputs[1])
    if weights.tensor.data is None:
        raise ModelError(f"Gemm {node.output!r} computes its weights at run time")
    w = em_logical(weights)
    axis = 0 if node.get("transB", 0) else 1
    fully_connected(em, node, w if axis == 0 else w.T, weights, weights_axis=axis)


def fully_connected(em: Emitter, node: Node, w: Array, weights: View, weights_axis: int) -> None:
    """Emits a fully connected layer.

    Args:
        em: the graph.
        node: Gemm or MatMul.
        w: weights, ``[outputs, inputs]``.
        weights: as the model has them.
        weights_axis: of the outputs in the model's weights.
    """
    (x,), quant = em.operands(node, 0)
    scaled = node.get("alpha", 1.0) != 1.0 or node.get("beta", 1.0) != 1.0
    if weights.quant is None or scaled or (not weights.quant.per_tensor and weights.quant.axis != weights_axis):
        x, quant = em.real(x), None
    if node.get("transA", 0):
        x = View(x.tensor, tuple(1 - axis for axis in x.order))
    shuffle = em.shuffled.get(node.inputs[0])
    if shuffle is not None:
        w = w[:, shuffle]
    if weights.quant is not None and quant is None:
        w = weights.quant.at(0).dequantise(w)
        weights = View(em.constant(w, node.inputs[1]), (0, 1))
    if scaled:
        w = (w * node.get("alpha", 1.0)).astype(np.float32)
        weights = View(em.constant(w, node.inputs[1]), (0, 1))
    late = _late_addend(em, node, w.shape[0])
    bare = Node(op=node.op, inputs=node.inputs[:2] if late is not None else node.inputs, outputs=node.outputs)
    kernel, bias = parameters(em, bare, w, 0, weights, x.quant if quant else None)
    if node.get("beta", 1.0) != 1.0 and late is None and bias.data is not None:
        bias = em.constant(bias.data * np.float32(node.get("beta", 1.0)), bias.name)
    flat = em.plain(x)
    out = em.result(node.output, None, quant)
    target = out if late is None else em.tensor(f"{node.output}/product", out.shape, out.dtype)
    fused = node.get(ACTIVATION, "NONE")
    em.emit(
        "FULLY_CONNECTED", [flat, kernel, bias], [target], "FullyConnectedOptions",
        keepNumDims=len(out.shape) != 2 or len(flat.shape) != 2, fusedActivationFunction=fused if late is None else "NONE",
    )  # fmt: skip
    if late is not None:
        em.emit("ADD", [target, late], [out], "AddOptions", fusedActivationFunction=fused)


def _late_addend(em: Emitter, node: Node, outputs: int) -> Tensor | None:
    """What Gemm adds where it is no constant row: by an operator of its own."""
    if not node.has(2):
        return None
    view = em.real(em.view(node.inputs[2]))
    if view.tensor.data is not None and (view.tensor.data.size == 1 or view.shape[-1:] == (outputs,) == (view.tensor.data.size,)):
        return None
    if node.get("beta", 1.0) != 1.0:
        raise ModelError(f"Gemm {node.output!r} scales a computed addend")
    return em.plain(em.expanded(view, 2))


def _batched(em: Emitter, node: Node) -> None:
    """A product of two computed values; a transposed second operand is read as it lies."""
    a, b = (em.real(em.view(name)) for name in node.inputs[:2])
    if a.rank < 2 or b.rank < 2:
        raise ModelError(f"MatMul {node.output!r} multiplies vectors, which is not lowered")
    rank = max(a.rank, b.rank)
    a, b = em.expanded(a, rank), em.expanded(b, rank)
    left, flip_a = _matrix(em, a)
    right, flip_b = _matrix(em, b)
    out = em.result(node.output)
    em.emit("BATCH_MATMUL", [left, right], [out], "BatchMatMulOptions", adjX=flip_a, adjY=flip_b, asymmetricQuantizeInputs=False)


def _matrix(em: Emitter, view: View) -> tuple[Tensor, bool]:
    """The operand in an order the product takes, and whether its matrices are stored transposed."""
    rank = view.rank
    flipped = (*range(rank - 2), rank - 1, rank - 2)
    return (view.tensor, True) if view.order == flipped else (em.ordered(view, identity(rank)), False)




TABLE = {"MatMul": matmul, "Gemm": gemm}
