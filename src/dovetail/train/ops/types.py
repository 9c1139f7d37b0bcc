"""Element types of ONNX in torch, and conversion of stored tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from onnx import TensorProto, numpy_helper

from dovetail.core.protocols import Array
from dovetail.train.ops.node import Kernel, NodeView, Unsupported

TORCH_TYPES = {
    TensorProto.FLOAT: torch.float32, TensorProto.DOUBLE: torch.float64, TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16, TensorProto.INT8: torch.int8, TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32, TensorProto.INT64: torch.int64, TensorProto.UINT8: torch.uint8,
    TensorProto.UINT16: torch.uint16, TensorProto.UINT32: torch.uint32, TensorProto.UINT64: torch.uint64,
    TensorProto.BOOL: torch.bool,
}  # fmt: skip

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
"""Types that can be trained as they are."""

INTEGER_LIMITS = {
    TensorProto.INT4: (-8, 7), TensorProto.UINT4: (0, 15), TensorProto.INT8: (-128, 127), TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-32768, 32767), TensorProto.UINT16: (0, 65535), TensorProto.INT32: (-(2**31), 2**31 - 1),
}  # fmt: skip
"""Lowest and highest level of the types that QuantizeLinear and DequantizeLinear know."""


NARROW = frozenset({TensorProto.INT4, TensorProto.UINT4, TensorProto.INT2, TensorProto.UINT2})
"""Types that torch lacks; stored tensors of them are held in 8 bits."""


def from_array(array: Array) -> torch.Tensor:
    """A tensor of its own memory; types that torch lacks become the next wider one.

    Raises:
        Unsupported: strings and complex numbers of unusual width.
    """
    array = np.array(array, order="C")
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    if array.dtype.name in ("int4", "uint4", "int2", "uint2"):
        return torch.from_numpy(array.astype(np.int8 if array.dtype.name.startswith("i") else np.uint8))
    try:
        return torch.from_numpy(array)
    except TypeError as exc:
        raise Unsupported(f"tensors of type {array.dtype}") from exc


def from_proto(tensor: TensorProto) -> torch.Tensor:
    """The value of a stored tensor."""
    return from_array(numpy_helper.to_array(tensor))


def torch_type(onnx_type: int) -> torch.dtype:
    """The element type.

    Raises:
        Unsupported: torch has no such type.
    """
    if onnx_type not in TORCH_TYPES:
        raise Unsupported(f"element type {TensorProto.DataType.Name(onnx_type)}")
    return TORCH_TYPES[onnx_type]


def _cast(node: NodeView) -> Kernel:
    target = torch_type(node.attributes["to"])
    return lambda x, *rest: _converted(x, target)


def _cast_like(node: NodeView) -> Kernel:
    return lambda x, like: _converted(x, like.dtype)


def _converted(x: torch.Tensor, target: torch.dtype) -> Any:
    if x.dtype == target:
        return x
    if x.dtype.is_floating_point and not target.is_floating_point and target != torch.bool:
        return x.to(torch.int64).to(target)  # toward zero, and modulo the range as ONNX Runtime does on x86
    return x.to(target)


TABLE = {"Cast": _cast, "CastLike": _cast_like}
