"""Kernels of ONNX operators in torch, differentiable; the table says which.

A kernel is made once per node, when its attributes are decoded, and then called with tensors of any size.
"""

from __future__ import annotations

from collections.abc import Mapping

from dovetail.train.ops import (
    activation,
    convolution,
    elementwise,
    indexing,
    linear,
    normalization,
    padding,
    pooling,
    quantization,
    recurrent,
    reduction,
    resize,
    shape,
    types,
)
from dovetail.train.ops.node import Maker

TABLE: Mapping[str, Maker] = {
    **activation.TABLE,
    **convolution.TABLE,
    **elementwise.TABLE,
    **indexing.TABLE,
    **linear.TABLE,
    **normalization.TABLE,
    **padding.TABLE,
    **pooling.TABLE,
    **quantization.TABLE,
    **recurrent.TABLE,
    **reduction.TABLE,
    **resize.TABLE,
    **shape.TABLE,
    **types.TABLE,
}
"""ONNX operator type → what makes its kernel."""
