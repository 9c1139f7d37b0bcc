"""One function per ONNX operator; the table says which."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dovetail.lowering import quantisation
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops import convolution, elementwise, matmul, movement, pooling, reduction
from dovetail.lowering.source import Node

Lowering = Callable[[Emitter, Node], None]

TABLE: Mapping[str, Lowering] = {
    "QuantizeLinear": quantisation.quantize_linear,
    "DequantizeLinear": quantisation.dequantize_linear,
    **convolution.TABLE,
    **elementwise.TABLE,
    **matmul.TABLE,
    **movement.TABLE,
    **pooling.TABLE,
    **reduction.TABLE,
}
