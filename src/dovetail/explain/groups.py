"""Sorts the kernels of all runtimes into the few groups that people compare."""

from __future__ import annotations

from dovetail.core.profile import KernelTime

CONVOLUTION = "convolution"
MATMUL = "matrix product"
POOLING = "pooling"
ELEMENTWISE = "elementwise"
QUANTIZE = "quantise/dequantise"
LAYOUT = "layout"
CONVERT = "convert"
OTHER = "other"
OVERHEAD = "call overhead"

GROUPS = (CONVOLUTION, MATMUL, POOLING, ELEMENTWISE, QUANTIZE, LAYOUT, CONVERT, OTHER, OVERHEAD)

_PARTS = (
    (QUANTIZE, ("quantizelinear", "fakequantize", "dynamicquantize")),
    (CONVOLUTION, ("conv",)),
    (MATMUL, ("gemm", "matmul", "fullyconnected", "addmm", "::mm", "::bmm", "attention", "lstm", "gru", "rnn")),
    (POOLING, ("pool",)),
    (
        LAYOUT,
        ("reorder", "transpose", "permute", "reshape", "flatten", "contiguous", "squeeze", "expanddims", "depthtospace",
         "spacetodepth", "shuffle"),
    ),
    (CONVERT, ("cast", "copy", "::to")),
    (
        ELEMENTWISE,
        ("eltwise", "subgraph", "relu", "sigmoid", "tanh", "gelu", "add", "sub", "mul", "div", "clip", "clamp", "softmax",
         "norm", "erf", "exp", "sqrt", "pow", "mvn", "elu", "swish", "math", "reduce", "mean", "sum", "power", "logistic",
         "squareddifference", "maximum", "minimum"),
    ),
)  # fmt: skip
"""Group → parts of kernel kinds, in lower case; the first group that matches takes the kernel."""


def group_of(kernel: KernelTime) -> str:
    """The group of a kernel by its runtime's operator type."""
    kind = kernel.kind.lower().replace("_", "")
    if kind == "convert":
        return CONVERT
    if kind in ("quantize", "dequantize"):
        return QUANTIZE
    return next((group for group, parts in _PARTS if any(part in kind for part in parts)), OTHER)
