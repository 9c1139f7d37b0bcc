"""Which operators use hardware alike, and what their elements take."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from dovetail.core.workload import Op

ELEMENT_BYTES = {
    "float64": 8.0, "float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "int64": 8.0, "int32": 4.0, "int8": 1.0, "uint8": 1.0,
    "bool": 1.0,
}  # fmt: skip

_FREE = frozenset({
    "Constant", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape", "Size", "Dropout", "QuantizeLinear",
    "DequantizeLinear", "Cast", "ConstantOfShape",
})  # fmt: skip
_MOVES = frozenset({
    "Transpose", "Concat", "Slice", "Split", "Gather", "GatherElements", "GatherND", "Pad", "Resize", "Expand", "Tile",
    "DepthToSpace", "SpaceToDepth", "ScatterND", "Upsample",
})  # fmt: skip
_REDUCES = frozenset({
    "Softmax", "LayerNormalization", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "MaxPool",
    "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LRN", "TopK", "ArgMax", "CumSum",
})  # fmt: skip


class Family(IntEnum):
    """Operators that use hardware alike."""

    PRODUCT = 0
    DEPTHWISE = 1
    REDUCE = 2
    ELEMENTWISE = 3
    MOVE = 4
    FREE = 5


def family(op: Op) -> Family:
    """Which family an operator belongs to."""
    facts = op.attributes or {}
    if op.kind in _FREE or facts.get("counted", "").startswith("once"):
        return Family.FREE
    if "matrix_flop" in facts:
        return Family.DEPTHWISE if _is_depthwise(op, facts) else Family.PRODUCT
    if op.kind in _MOVES:
        return Family.MOVE
    return Family.REDUCE if op.kind in _REDUCES or op.kind.startswith("Reduce") else Family.ELEMENTWISE


def _is_depthwise(op: Op, facts: Mapping[str, str]) -> bool:
    shape = op.output_shapes[0] if op.output_shapes else None
    groups = int(facts.get("group", "1"))
    return groups > 1 and shape is not None and len(shape) > 1 and shape[1] is not None and groups >= shape[1] > 1
