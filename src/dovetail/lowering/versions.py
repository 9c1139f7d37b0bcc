"""Versions of operators: the lowest in which the runtime knows the form that is written.

A file says a version for each operator, and a runtime older than that refuses the file instead of computing something else.
The rules are those of ``GetBuiltinOperatorVersion`` in TensorFlow's ``lite/tools/versioning/op_version.cc`` (LiteRT keeps it in
``tflite/tools/versioning``). It does not number convolutions of 16 by 8 bits; they take the version that brought 16 bits in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dovetail.lowering.tensors import Operator, Tensor

Rule = Callable[[Operator], int]


def version(op: Operator) -> int:
    """The version that an operator is written with."""
    return max((rule(op) for rule in _RULES.get(op.code, ())), default=1)


# -- parts of rules ------------------------------------------------------------------------------------------------------


def _input(op: Operator, index: int) -> Tensor | None:
    return op.inputs[index] if index < len(op.inputs) else None


def _dtype(op: Operator, index: int = 0) -> str:
    tensor = _input(op, index)
    return "" if tensor is None else tensor.dtype


def _typed(index: int = 0, **versions: int) -> Rule:
    """By the type of an input."""
    return lambda op: versions.get(_dtype(op, index), 1)


def _made(**versions: int) -> Rule:
    """By the type of the result."""
    return lambda op: versions.get(op.outputs[0].dtype, 1)


def _either(**versions: int) -> Rule:
    """By the types of input and result, whichever asks for more."""
    return lambda op: max(versions.get(_dtype(op), 1), versions.get(op.outputs[0].dtype, 1))


def _ranked(above: int, number: int) -> Rule:
    """From more than some axes on."""

    def rule(op: Operator) -> int:
        tensor = _input(op, 0)
        return number if tensor is not None and len(tensor.shape) > above else 1

    return rule


def _wide_broadcast(number: int) -> Rule:
    """From five axes on, where the two operands differ in shape."""

    def rule(op: Operator) -> int:
        shapes = [() if tensor is None else tensor.shape for tensor in op.inputs[:2]]
        return number if len(set(shapes)) > 1 and max(map(len, shapes)) > 4 else 1

    return rule


def _flagged(number: int, *fields: str) -> Rule:
    """Where one of some options is set."""
    return lambda op: number if any(op.options.get(field) for field in fields) else 1


def _several_scales(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.quant is not None and not tensor.quant.per_tensor


def _unquantised(dtype: str, number: int) -> Rule:
    """For integers that stand for themselves."""

    def rule(op: Operator) -> int:
        tensor = _input(op, 0)
        return number if tensor is not None and tensor.dtype == dtype and tensor.quant is None else 1

    return rule


def _hybrid(one_scale: int, several: int) -> Rule:
    """For floats that meet 8-bit weights."""

    def rule(op: Operator) -> int:
        if (_dtype(op, 0), _dtype(op, 1)) != ("float32", "int8"):
            return 1
        return several if _several_scales(_input(op, 1)) else one_scale

    return rule


# -- operators that need more than parts ---------------------------------------------------------------------------------


def _grouped(op: Operator) -> int:
    x, weights = _input(op, 0), _input(op, 1)
    return 6 if x is not None and weights is not None and x.shape[-1] != weights.shape[-1] else 1


def _dilated(op: Operator) -> int:
    factors = (op.options.get("dilationHFactor", 1), op.options.get("dilationWFactor", 1))
    return 2 if factors != (1, 1) else 1


def _fully_connected(op: Operator) -> int:
    found = [1, 6 if _input(op, 2) is None else 1, 5 if op.options.get("keepNumDims") else 1]
    if (_dtype(op, 0), _dtype(op, 1)) == ("float32", "int8") and op.options.get("asymmetricQuantizeInputs"):
        found.append(9)
    return max(found)


def _batched_hybrid(op: Operator) -> int:
    hybrid = (_dtype(op, 0), _dtype(op, 1)) == ("float32", "int8")
    return 4 if hybrid and op.options.get("asymmetricQuantizeInputs") else 1


def _magnifying(op: Operator) -> int:
    """MUL whose integers grow: the scales of the operands multiplied reach that of the result."""
    quants = [None if tensor is None else tensor.quant for tensor in (*op.inputs[:2], op.outputs[0])]
    scales = [float(quant.scale[0]) for quant in quants if quant is not None]
    return 3 if len(scales) == 3 and scales[0] * scales[1] / scales[2] >= 1 else 1


def _transposed(op: Operator) -> int:
    fused = op.options.get("fusedActivationFunction", "NONE") != "NONE"
    return 4 if fused else 3 if _input(op, 3) is not None else 1


def _per_channel(index: int, number: int) -> Rule:
    """Where an operand, or at −1 the result, has several scales."""
    return lambda op: number if _several_scales(op.outputs[0] if index < 0 else _input(op, index)) else 1


def _not_four_axes(op: Operator) -> int:
    tensor = _input(op, 0)
    return 3 if tensor is not None and len(tensor.shape) != 4 else 1


def _five_axes(op: Operator) -> int:
    return 3 if any(tensor is not None and len(tensor.shape) == 5 for tensor in op.inputs) else 1


# -- the table -----------------------------------------------------------------------------------------------------------

_BYTES, _INTEGERS = _typed(int8=2), _typed(int16=3, int8=2)
_POINTWISE = (_typed(int16=3, int8=2, uint8=2),)
_EXTREMES = (_typed(int16=4, int8=2), _wide_broadcast(3))
_PADS = (_typed(bool=5, int16=3, int8=2), _ranked(4, 4))
_BLOCKS = (_typed(int16=4, int8=2), _not_four_axes)

_RULES: Mapping[str, tuple[Rule, ...]] = {
    # weights
    "CONV_2D": (_typed(int16=4, int8=3), _hybrid(2, 5), _grouped),
    "DEPTHWISE_CONV_2D": (_typed(int16=5, int8=3), _hybrid(4, 6), _dilated),
    "TRANSPOSE_CONV": (_typed(1, int8=2), _transposed),
    "FULLY_CONNECTED": (_typed(int16=7, int8=4), _hybrid(3, 12), _fully_connected),
    "BATCH_MATMUL": (_typed(int16=3, int8=2), _batched_hybrid),
    "EMBEDDING_LOOKUP": (_per_channel(1, 4),),
    # element by element
    "ADD": (_typed(int64=4, int16=3, int8=2), _unquantised("int16", 5)),
    "SUB": (_typed(int16=5, int64=4, int8=2), _wide_broadcast(3)),
    "MUL": (_typed(uint32=7, int64=5, int16=4, int8=2), _unquantised("int16", 7), _magnifying),
    "DIV": (_wide_broadcast(2),),
    "MAXIMUM": _EXTREMES,
    "MINIMUM": _EXTREMES,
    "FLOOR_DIV": (_typed(int16=3, int8=3, float32=2),),
    "FLOOR_MOD": (_typed(int16=2, int8=2),),
    "SQUARED_DIFFERENCE": (_BYTES,),
    "ABS": (_typed(int32=5, int16=3, int8=2, uint8=2), _unquantised("int16", 4)),
    "SIGN": (_typed(int32=2),),
    "EXP": (_typed(int16=2, int8=2),),
    "LOG": (_typed(int16=2, int8=2),),
    "RSQRT": (_INTEGERS,),
    "RELU": _POINTWISE,
    "RELU6": (_INTEGERS,),
    "LEAKY_RELU": (_typed(int16=2),),
    "TANH": (_INTEGERS,),
    "LOGISTIC": (_INTEGERS,),
    "GELU": (_typed(int8=2, uint8=2),),
    "EQUAL": (_typed(int16=4, int8=2),),
    "NOT_EQUAL": (_BYTES,),
    "LESS": (_INTEGERS,),
    "LESS_EQUAL": (_BYTES,),
    "GREATER": (_BYTES,),
    "GREATER_EQUAL": (_INTEGERS,),
    "SELECT": (_five_axes, _typed(1, uint32=4, int8=2)),
    "SELECT_V2": (_typed(1, uint32=2),),
    # along axes
    "AVERAGE_POOL_2D": (_INTEGERS,),
    "MAX_POOL_2D": (_INTEGERS,),
    "MEAN": (_INTEGERS,),
    "SUM": (_BYTES,),
    "REDUCE_MAX": (_INTEGERS,),
    "REDUCE_MIN": (_INTEGERS,),
    "REDUCE_PROD": (_typed(int16=2, int8=2),),
    "SOFTMAX": (_INTEGERS,),
    "LOG_SOFTMAX": (_BYTES,),
    "L2_NORMALIZATION": (_made(int8=2),),
    "ARG_MAX": (_typed(bool=3, int8=2),),
    "ARG_MIN": (_typed(bool=3, int8=2),),
    "TOPK_V2": (_INTEGERS, _typed(1, int16=3)),
    # moving
    "TRANSPOSE": (_typed(int16=5, bool=3, int8=2), _ranked(4, 4), _ranked(5, 6)),
    "CONCATENATION": (_typed(uint32=4, int16=3, int8=2),),
    "PACK": (_typed(uint32=4, int16=3, int8=2),),
    "UNPACK": (_typed(int16=4, bool=3, int8=2, uint8=2),),
    "SPLIT": (_typed(1, int16=4, int32=3, int8=2),),
    "SPLIT_V": (_BYTES,),
    "SLICE": (_typed(uint32=6, int16=4, int8=2), _ranked(4, 5)),
    "STRIDED_SLICE": (_typed(uint32=7, bool=3, int8=2), _ranked(4, 4), _flagged(6, "ellipsisMask", "newAxisMask")),
    "GATHER": (_typed(int16=4, bool=3, int8=2), _typed(1, int16=6), _flagged(5, "batchDims")),
    "GATHER_ND": (_typed(bool=5, int16=3), _typed(1, int16=4)),
    "PAD": _PADS,
    "PADV2": _PADS,
    "MIRROR_PAD": (_INTEGERS,),
    "REVERSE_V2": (_typed(int8=3, bool=2),),
    "TILE": (_typed(int8=3),),
    # Version 1 was withdrawn, and its number given to another operator.
    "BROADCAST_TO": (lambda op: 2, _typed(int16=3, int8=3)),
    "FILL": (_typed(1, float16=4, int16=3, int8=3, bool=2),),
    "RANGE": (_typed(int64=2),),
    "RESIZE_BILINEAR": (_typed(int16=4, int8=2), _flagged(3, "halfPixelCenters")),
    "RESIZE_NEAREST_NEIGHBOR": (_typed(int16=4, int8=2), _flagged(3, "halfPixelCenters", "alignCorners")),
    "SPACE_TO_DEPTH": (_BYTES,),
    "DEPTH_TO_SPACE": (_BYTES,),
    "SPACE_TO_BATCH_ND": _BLOCKS,
    "BATCH_TO_SPACE_ND": _BLOCKS,
    # types
    "CAST": (_either(bfloat16=7, float64=5, float16=5, uint16=4, int8=3, uint32=2),),
    "QUANTIZE": (_made(int16=2), _per_channel(-1, 3)),
    "DEQUANTIZE": (_typed(float16=3, int16=3, int8=2), _per_channel(0, 5)),
    "FAKE_QUANT": (_flagged(2, "narrowRange"),),
}  # fmt: skip
"""Operator → rules, of which the one that asks for most counts; all others have version 1."""
