"""One function per ONNX operator; the table says which."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dovetail.lowering import quantisation
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops import (
    convolution,
    einsum,
    elementwise,
    embedding,
    indexing,
    logic,
    matmul,
    movement,
    normalisation,
    padding,
    pooling,
    powers,
    recurrent,
    reduction,
    resize,
    response,
    selecting,
    transposed,
    types,
    unary,
)
from dovetail.lowering.source import Node

Lowering = Callable[[Emitter, Node], None]

TABLE: Mapping[str, Lowering] = {
    "QuantizeLinear": quantisation.quantize_linear,
    "DequantizeLinear": quantisation.dequantize_linear,
    **convolution.TABLE,
    **einsum.TABLE,
    **elementwise.TABLE,
    **embedding.TABLE,
    **indexing.TABLE,
    **logic.TABLE,
    **matmul.TABLE,
    **movement.TABLE,
    **normalisation.TABLE,
    **padding.TABLE,
    **pooling.TABLE,
    **powers.TABLE,
    **recurrent.TABLE,
    **reduction.TABLE,
    **resize.TABLE,
    **response.TABLE,
    **selecting.TABLE,
    **transposed.TABLE,
    **types.TABLE,
    **unary.TABLE,
}
