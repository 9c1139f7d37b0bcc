"""Matrix products."""

from __future__ import annotations

from dovetail.core.errors import ModelError
from dovetail.lowering.litert_file import LiteRtOperator, LiteRtTensor
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.ops.common import finish, require_rank, weights
from dovetail.lowering.raising.ops.convolution import bias
from dovetail.lowering.raising.values import is_quantised


def fully_connected(graph: Graph, op: LiteRtOperator) -> None:
    """FULLY_CONNECTED: Gemm, or a product of more axes with the bias added behind it.

    Raises:
        ModelError: weights in the order that one processor wants.
    """
    x, w = op.input(0), op.input(1)
    require_rank(op, w, 2)
    if op.get("weightsFormat", "DEFAULT") != "DEFAULT":
        raise ModelError(f"FULLY_CONNECTED {op.output.name!r} has shuffled weights, which are not imported")
    if op.output.rank != 2:
        product = graph.node("MatMul", [graph.real(x), weights(graph, x, w, (1, 0))])
        for name in bias(graph, op, 2, x, w):
            product = graph.node("Add", [product, name])
        finish(graph, op, product)
        return
    operands = [_flat(graph, x, w.shape[1]), weights(graph, x, w, columns=graph.shuffled.get(x)), *bias(graph, op, 2, x, w)]
    finish(graph, op, graph.node("Gemm", operands, transB=1))


def _flat(graph: Graph, x: LiteRtTensor, inputs: int) -> str:
    """The operand as a matrix."""
    if x.rank == 2 and x.shape[1] == inputs:
        return graph.real(x)
    flat = graph.node("Reshape", [graph.real(x), graph.integers([-1, inputs])])
    return graph.dequantised(graph.quantised(flat, x), x) if is_quantised(x) else flat


def batch_matmul(graph: Graph, op: LiteRtOperator) -> None:
    """BATCH_MATMUL; a transposed operand is one in another order."""
    a, b = op.input(0), op.input(1)
    names = [_matrix(graph, op, a, b, op.get("adjX", False)), _matrix(graph, op, b, a, op.get("adjY", False))]
    graph.bind(op, op.output, graph.node("MatMul", names))


def _matrix(graph: Graph, op: LiteRtOperator, tensor: LiteRtTensor, other: LiteRtTensor, flipped: bool) -> str:
    rank = tensor.rank
    if rank < 2:
        raise ModelError(f"BATCH_MATMUL {op.output.name!r} multiplies a tensor of {rank} axes")
    order = (*range(rank - 2), rank - 1, rank - 2) if flipped else tuple(range(rank))
    return weights(graph, other, tensor, order)


TABLE = {"FULLY_CONNECTED": fully_connected, "BATCH_MATMUL": batch_matmul}
