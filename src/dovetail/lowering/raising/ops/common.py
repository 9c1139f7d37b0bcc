"""What the operators share: fused activations, windows, and operands that broadcast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import onnx

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.litert_file import LiteRtOperator, LiteRtTensor
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.values import Constant, is_quantised
from dovetail.lowering.tensors import Order, identity

NCHW: Order = (0, 3, 1, 2)
"""Channels first, of what the file stores channels last."""
_BOUNDS = {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}


def activated(graph: Graph, name: str, function: str, like: str = "float32") -> str:
    """A value after a fused activation.

    Raises:
        ModelError: one that ONNX has no form for.
    """
    if function == "NONE":
        return name
    if function == "RELU":
        return graph.node("Relu", [name])
    if function == "TANH":
        return graph.node("Tanh", [name])
    if function not in _BOUNDS:
        raise ModelError(f"no ONNX form for the activation {function}")
    low, high = _BOUNDS[function]
    return graph.node("Clip", [name, graph.number(low, like), graph.number(high, like)])


def finish(graph: Graph, op: LiteRtOperator, name: str, order: Order | None = None) -> None:
    """Applies the fused activation and binds the first output."""
    kind = "float32" if is_quantised(op.output) else op.output.dtype
    graph.bind(op, op.output, activated(graph, name, op.get("fusedActivationFunction", "NONE"), kind), order)


def int64(graph: Graph, tensor: LiteRtTensor) -> str:
    """Integers, constant or computed, as ONNX takes shapes and indices."""
    found = graph.known(tensor)
    if found is not None:
        return graph.integers(found.data, tensor.name)
    return graph.node("Cast", [graph.stored(tensor)], to=onnx.TensorProto.INT64)


def require_rank(op: LiteRtOperator, tensor: LiteRtTensor, rank: int) -> None:
    """Checks the number of axes.

    Raises:
        ModelError: another one.
    """
    if tensor.rank != rank:
        raise ModelError(f"{op.code} {op.output.name!r} takes {rank} axes, and {tensor.name!r} has {tensor.rank}")


# -- windows -------------------------------------------------------------------------------------------------------------


def windows(
    graph: Graph, op: LiteRtOperator, x: LiteRtTensor, kernel: Sequence[int], dilations: Sequence[int] = (1, 1)
) -> dict[str, Any]:
    """Attributes of a convolution or pooling over images: ``SAME`` as explicit padding wherever sizes are known."""
    strides = (op.get("strideH", 0), op.get("strideW", 0))
    if min(*strides, *kernel, *dilations) < 1:
        raise ModelError(f"{op.code} {op.output.name!r} has the strides {strides} and the window {tuple(kernel)}")
    attributes: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(strides)}
    if op.get("padding") != "SAME":
        return attributes
    totals = []
    for size, k, s, d in zip(graph.sizes(x)[1:3], kernel, strides, dilations, strict=True):
        if size < 0 and s > 1:
            return {**attributes, "auto_pad": "SAME_UPPER"}
        # With a stride of 1 the padding is the same for every size.
        totals.append((k - 1) * d if s == 1 else max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0))
    if any(totals):
        attributes["pads"] = [t // 2 for t in totals] + [t - t // 2 for t in totals]
    return attributes


# -- weights -------------------------------------------------------------------------------------------------------------


def weights(graph: Graph, x: LiteRtTensor, w: LiteRtTensor, order: Order | None = None, columns: Array | None = None) -> str:
    """Weights in an order, their columns rearranged if so wished.

    They are reals where activations are no integers: LiteRT then quantises those on the fly, which is not reproduced.
    """
    order = identity(w.rank) if order is None else order
    found = graph.known(w)
    if found is None:
        return graph.real(w, order)
    hybrid = found.quant is not None and not is_quantised(x)
    if hybrid:
        graph.note("int8 weights beside float activations became float; LiteRT rounds such activations to 8 bits on the fly")
        found = found.reals
    if columns is not None:
        found = replace(found, data=found.data[:, columns])
    if hybrid or columns is not None:
        return graph.real_constant(found, order, w.name, weight=True)
    return graph.weight(w, order)


# -- operands that broadcast ---------------------------------------------------------------------------------------------


def common_order(graph: Graph, tensors: Sequence[LiteRtTensor]) -> Order:
    """The order in which operands meet at the least cost of moving them."""
    rank = max((t.rank for t in tensors), default=0)
    computed = [t for t in tensors if graph.orders(t)]
    wide = [t for t in computed if t.rank == rank]
    candidates = dict.fromkeys(order for t in wide for order in graph.orders(t))

    def cost(order: Order) -> tuple[float, bool]:
        moved = sum(math.prod(t.shape) for t in wide if order not in graph.orders(t))
        moved += sum(math.prod(t.shape) for t in computed if t.rank < rank and order != identity(rank))
        # On equal terms images stay channels first, and all else as the file has it.
        return moved, (order == identity(rank)) == (rank == 4)

    return min(candidates, key=cost, default=identity(rank))


def aligned(graph: Graph, tensors: Sequence[LiteRtTensor]) -> tuple[list[str], Order]:
    """Operands in one order, ready to broadcast, and that order."""
    order = common_order(graph, tensors)
    return [broadcastable(graph, tensor, order, lone=len(tensors) == 1) for tensor in tensors], order


def broadcastable(graph: Graph, tensor: LiteRtTensor, order: Order, lone: bool = False) -> str:
    """An operand in an order that may have more axes than itself; those in front are of size 1."""
    missing = len(order) - tensor.rank
    found = graph.known(tensor)
    if not missing and (found is None or lone):
        return graph.real(tensor, order)
    if found is None:
        name = graph.real(tensor)
        if order == identity(len(order)):
            return name
        wide = graph.node("Unsqueeze", [name, graph.integers(range(missing))])
        return graph.node("Transpose", [wide], perm=order)
    data = found.data.reshape((1,) * missing + found.data.shape)
    quant = found.quant
    if quant is not None and not quant.per_tensor:
        quant = quant.at(quant.axis + missing)
    return graph.real_constant(Constant(data, quant), order, tensor.name)
