"""What the runtime's kernels for quantised integers take, where that differs from operator to operator.

Found by running single operators in ai-edge-litert 2.3. None of XNNPACK's kernels takes 16 bits, so the runtime's own run
there.
"""

from __future__ import annotations

from dovetail.core.errors import ModelError
from dovetail.lowering.tensors import Operator, Tensor

SIXTEEN = frozenset({
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "FULLY_CONNECTED", "GATHER",
    "LEAKY_RELU", "LOGISTIC", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MIRROR_PAD", "MUL", "PAD", "PADV2", "QUANTIZE",
    "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SELECT_V2", "SLICE",
    "SOFTMAX", "STRIDED_SLICE", "SUB", "TANH", "TRANSPOSE", "TRANSPOSE_CONV",
})  # fmt: skip
"""Operators with a kernel for 16-bit integers, whose zero must be 0."""
_RESCALED = {
    "int8": frozenset({"int8", "uint8"}),
    "uint8": frozenset({"int8", "uint8"}),
    "int16": frozenset({"int8", "int16"}),
    "int32": frozenset({"int8", "int16"}),
}
"""Type of integers → those that QUANTIZE makes of them."""


def rescales(before: str, after: str) -> bool:
    """Whether QUANTIZE turns integers of one type into those of another without a way through floats."""
    return after in _RESCALED.get(before, ())


def require(op: Operator) -> None:
    """Checks an operator that is about to be written.

    Raises:
        ModelError: the runtime has no such kernel.
    """
    if op.code not in SIXTEEN and any(map(_sixteen, (*op.inputs, *op.outputs))):
        made = op.outputs[0].name
        raise ModelError(f"{op.code}, which makes {made!r}, has no kernel for quantised integers of 16 bits in LiteRT")


def _sixteen(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.quant is not None and tensor.dtype == "int16"
