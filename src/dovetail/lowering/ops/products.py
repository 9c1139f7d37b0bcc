"""Products of matrices as the runtime has them: a fully connected layer, or a batch of products of two computed values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering import layout
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.convolution import em_logical, parameters
from dovetail.lowering.ops.views import reshaped, swapped, with_last
from dovetail.lowering.ops.weights import stored
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Order, Quant, Tensor, View, identity

MAX_RANK = 5
"""Axes that every kernel of a batched product takes; those of fully connected layers take one more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What belongs to a product beside its operands.

    Attributes:
        name: of the result.
        weights: name of the weights.
        target: quantisation of the result, where its readers want integers.
        row: name of a constant row that is added; empty for none.
        activation: fused bound.
        dynamic: the left operand may be rounded to 8 bits with ranges found at run time.
        shuffle: where each element of the left operand's last axis lies.
    """

    name: str
    weights: str = ""
    target: Quant | None = None
    row: str = ""
    activation: str = "NONE"
    dynamic: bool = False
    shuffle: Array | None = None


def product(em: Emitter, a: View, b: View, layer: Layer) -> View:
    """``a b``, of logical shapes ``[…, m, k]`` and ``[…, k, n]`` of equal rank where both are computed."""
    if b.rank == 2 and b.tensor.data is not None:
        return dense(em, a, swapped(b), layer)
    if layer.row or layer.shuffle is not None:
        raise ModelError(f"the product {layer.name!r} computes its weights at run time")
    if a.rank == 2 and a.tensor.data is not None and b.order[-1] == b.rank - 2:
        return swapped(dense(em, swapped(b), a, layer))
    if a.rank > 2 and math.prod(b.shape[:-2]) == 1 and b.rank <= a.rank and a.order[-1] == a.rank - 1:
        return _as_rows(em, a, reshaped(em, b, b.shape[-2:]), layer)
    return batched(em, a, b, layer)


def _as_rows(em: Emitter, a: View, b: View, layer: Layer) -> View:
    """A batch of matrices that meet the same one: their rows make one matrix."""
    rows, sizes = math.prod(a.shape[:-1]), a.tensor.shape[:-1]
    found = batched(em, View(em.reshape(a.tensor, (rows, a.shape[-1])), (0, 1)), b, layer)
    return View(em.reshape(em.plain(found), (*sizes, b.shape[-1])), a.order)


# -- fully connected layers ----------------------------------------------------------------------------------------------


def dense(em: Emitter, x: View, weights: View, layer: Layer) -> View:
    """A fully connected layer.

    Args:
        em: the graph.
        x: ``[…, inputs]``.
        weights: constant, ``[outputs, inputs]``.
        layer: the rest.

    Returns:
        ``[…, outputs]``, its other axes stored in the order of ``x``.
    """
    w, quant = em_logical(weights), _logical_quant(weights)
    if layer.shuffle is not None:
        w = w[:, layer.shuffle]
    integer = _stays_integer(x, quant, layer)
    x = x if integer else em.real(x)
    order = with_last(x.order, x.rank - 1)
    tensor = em.ordered(x, order)
    rows = math.prod(tensor.shape[:-1])
    flat = tensor if x.rank <= MAX_RANK else em.reshape(tensor, (rows, w.shape[1]))
    kernel, bias = _constants(em, w, quant, x.quant if integer else None, layer)
    shape = (*flat.shape[:-1], w.shape[0])
    target = layer.target if integer else None
    out = em.tensor(layer.name, shape, "float32" if target is None else target.dtype, target)
    hybrid = (flat.dtype, kernel.dtype) == ("float32", "int8")
    em.emit(
        "FULLY_CONNECTED", [flat, kernel, bias], [out], "FullyConnectedOptions",
        keepNumDims=True, fusedActivationFunction=layer.activation, asymmetricQuantizeInputs=hybrid,
    )  # fmt: skip
    return View(em.reshape(out, (*tensor.shape[:-1], w.shape[0])), order)


def _logical_quant(weights: View) -> Quant | None:
    """Quantisation of weights with its axis in logical order."""
    quant = weights.quant
    return quant if quant is None or quant.per_tensor else quant.at(weights.order[quant.axis])


def _stays_integer(x: View, quant: Quant | None, layer: Layer) -> bool:
    """Whether a layer computes in integers: quantised on all sides, its weights in 8 bits and with one scale an output."""
    if x.quant is None or quant is None or layer.target is None or layer.dynamic:
        return False
    by_output = quant.per_tensor or quant.axis == 0
    return by_output and quant.dtype == "int8" and x.quant.per_tensor and x.quant.dtype == layer.target.dtype


def _constants(em: Emitter, w: Array, quant: Quant | None, x: Quant | None, layer: Layer) -> tuple[Tensor, Tensor | None]:
    """Weights and row in the form that a layer takes; ``x`` is the quantisation of its input, if it computes in integers."""
    if x is not None:
        names = (layer.name, layer.weights, layer.row) if layer.row else (layer.name, layer.weights)
        given = View(Tensor(name=layer.weights, shape=w.shape, dtype=w.dtype.name, data=w, quant=quant), (0, 1))
        return parameters(em, Node(op="MatMul", inputs=names, outputs=(layer.name,)), w, 0, given, x)
    bias = _row(em, layer, w.shape[0])
    if not layer.dynamic:
        return stored(em, w, quant, layer.weights), bias
    if quant is None or quant.dtype != "int8" or quant.zero_point.any() or not (quant.per_tensor or quant.axis == 0):
        em.note(f"{layer.weights}: what it multiplies is not rounded, since LiteRT takes symmetric weights alone there")
        return stored(em, w, quant, layer.weights), bias
    em.note("what 8-bit weights multiply is rounded row by row at run time, where the model does it for all rows at once")
    return em.constant(w, layer.weights, quant), bias


def _row(em: Emitter, layer: Layer, outputs: int) -> Tensor | None:
    if not layer.row:
        return None
    data = em.real(em.view(layer.row)).tensor.data
    assert data is not None, "rows are constants"
    return em.constant(np.broadcast_to(data.astype(np.float32).reshape(-1), (outputs,)), layer.row)


# -- products of computed values -----------------------------------------------------------------------------------------


def batched(em: Emitter, a: View, b: View, layer: Layer) -> View:
    """Products of matrices ``[…, m, k]`` and ``[…, k, n]``, at most one of the two constant.

    Matrices that are stored transposed are read as they lie.

    Raises:
        ModelError: more than five axes, of which some broadcast.
    """
    rank = max(a.rank, b.rank)
    a, b = em.expanded(a, rank), em.expanded(b, rank)
    batch = _batch_order(a, b)
    (left, a_flipped), (right, b_flipped) = _placed(em, a, batch, False), _placed(em, b, batch, True)
    order = (*batch, rank - 2, rank - 1)
    if a_flipped and b_flipped:
        # Transposing a left operand costs a move, so the transposed product is computed.
        left, right, order = right, left, (*batch, rank - 1, rank - 2)
        a_flipped = b_flipped = False
    left, right, target = _as_integers(em, left, right, layer)
    logical = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    out = em.tensor(layer.name, [logical[axis] for axis in order], left.dtype, target)
    _emit_batched(em, left, right, out, a_flipped, b_flipped)
    return View(_bounded(em, out, layer), order)


def _batch_order(a: View, b: View) -> Order:
    """The order of the leading axes in which fewest bytes move."""
    rank = a.rank
    candidates = [tuple(axis for axis in view.order if axis < rank - 2) for view in (a, b)] + [identity(rank - 2)]
    return min(candidates, key=lambda batch: _moved(a, batch) + _moved(b, batch))


def _moved(view: View, batch: Order) -> int:
    """Bytes that move to bring the leading axes of a computed value into an order and its matrices behind them."""
    if view.tensor.data is not None or any(_lies(view, order) for order in _orders(view.rank, batch)):
        return 0
    return view.tensor.nbytes


def _orders(rank: int, batch: Order) -> tuple[Order, Order]:
    return (*batch, rank - 2, rank - 1), (*batch, rank - 1, rank - 2)


def _lies(view: View, order: Order) -> bool:
    return view.order == order or layout.movable(view.shape, view.order, order)


def _placed(em: Emitter, view: View, batch: Order, right: bool) -> tuple[Tensor, bool]:
    """The operand in an order that the product takes, and whether its matrices are stored transposed."""
    straight, flipped = _orders(view.rank, batch)
    if not _lies(view, straight) and (_lies(view, flipped) or (right and view.order[-1] == view.rank - 2)):
        return em.ordered(view, flipped), True
    return em.ordered(view, straight), False


def _as_integers(em: Emitter, left: Tensor, right: Tensor, layer: Layer) -> tuple[Tensor, Tensor, Quant | None]:
    """Operands in 8 bits where XNNPACK multiplies such: the right one's zero must be 0.

    Other kernels for integers are up to ten times slower than XNNPACK's for floats.
    """
    quants = (left.quant, right.quant, layer.target)
    if layer.activation == "NONE" and all(q is not None and q.per_tensor and q.dtype == "int8" for q in quants):
        if right.quant is not None and not right.quant.zero_point.any():
            return left, right, layer.target
    real = [em.real(View(tensor, identity(len(tensor.shape)))).tensor for tensor in (left, right)]
    return real[0], real[1], None


def _emit_batched(em: Emitter, left: Tensor, right: Tensor, out: Tensor, adj_x: bool, adj_y: bool) -> None:
    """Emits the product; batches beyond the rank that kernels take become one axis."""
    made = out
    if len(out.shape) > MAX_RANK:
        if left.shape[:-2] != right.shape[:-2]:
            raise ModelError(f"the product {out.name!r} broadcasts over {len(out.shape)} axes; the runtime takes {MAX_RANK}")
        left, right = (em.reshape(t, (math.prod(t.shape[:-2]), *t.shape[-2:])) for t in (left, right))
        made = em.tensor(f"{out.name}/batch", (left.shape[0], *out.shape[-2:]), out.dtype, out.quant)
    em.emit(
        "BATCH_MATMUL", [left, right], [made], "BatchMatMulOptions",
        adjX=adj_x, adjY=adj_y, asymmetricQuantizeInputs=False,
    )  # fmt: skip
    if made is not out:
        sizes = em.integers(out.shape, f"{out.name}/shape")
        em.emit("RESHAPE", [made, sizes], [out], "ReshapeOptions", newShape=list(out.shape))


def _bounded(em: Emitter, tensor: Tensor, layer: Layer) -> Tensor:
    if layer.activation == "NONE":
        return tensor
    out = em.tensor(layer.name, tensor.shape, tensor.dtype)
    em.emit(layer.activation, [tensor], [out])
    return out
