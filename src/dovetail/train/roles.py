"""Which of a model's stored tensors are worth training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from onnx import TensorProto, numpy_helper

from dovetail.train.ops.types import FLOATS, INTEGER_LIMITS
from dovetail.train.source import Item

ROLES: Mapping[str, tuple[int, ...]] = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (0, 1, 2), "MatMul": (0, 1), "Einsum": (0, 1, 2),
    "BatchNormalization": (1, 2), "LayerNormalization": (1, 2), "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2), "RMSNormalization": (1,), "LSTM": (1, 2, 3, 7), "GRU": (1, 2, 3), "RNN": (1, 2, 3),
    "Gather": (0,), "PRelu": (1,), "Add": (0, 1), "Mul": (0, 1),
}  # fmt: skip
"""Operator → which of its inputs are weights when they are stored."""
_CONSTANTS = frozenset({"Add", "Mul"})
"""Here only tensors of more than one element are weights."""
_PASSED_ON: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(
        ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Split", "Expand", "Tile", "Cast",
         "QuantizeLinear", "DequantizeLinear", "Pad"), (0,)),
    "Concat": tuple(range(64)),
}  # fmt: skip
"""Operators that may stand between a stored weight and its use."""
_MASK = 1e4
"""Constants that reach this magnitude are masks, not weights."""


def statistics(items: Sequence[Item], stored: Collection[str]) -> set[str]:
    """Names of stored running means and variances."""
    norms = [item for item in items if item.kind == "BatchNormalization"]
    return {name for item in norms for name in item.inputs[3:5] if name in stored}


def trainable(items: Sequence[Item], stored: Mapping[str, TensorProto]) -> list[str]:
    """Names of the stored tensors worth training, in the order of their use: floats, and integers that are dequantised.

    ``items`` are all nodes, those of branches in front of the node that chooses.

    A tensor that batch normalisation also keeps as a statistic stays out, and so do dequantised integers that are read
    in any other way, or on two grids.
    """
    needed: dict[str, bool] = {}  # tensor → whether a single element of it counts
    found: dict[str, bool] = {}
    for item in reversed(items):
        single = item.kind not in _CONSTANTS
        wanted = [(index, single) for index in ROLES.get(item.kind, ())]
        passed = [needed[name] for name in item.outputs if name in needed]
        if passed:
            wanted += [(index, any(passed)) for index in _PASSED_ON.get(item.kind, ())]
        sources = [(item.inputs[index], counts) for index, counts in wanted if index < len(item.inputs)]
        for branch in item.branches:
            pairs = zip(item.outputs, branch.results, strict=True)
            sources += [(result, needed[name]) for name, result in pairs if name in needed]
        for name, counts in sources:
            if name:
                needed[name] = needed.get(name, False) or counts
                if name in stored:
                    found[name] = needed[name]
    fixed = statistics(items, stored)
    weights = [n for n in reversed(found) if n not in fixed and _is_weight(n, found[n], items, stored)]
    return weights


def _is_weight(name: str, single: bool, items: Sequence[Item], stored: Mapping[str, TensorProto]) -> bool:
    tensor = stored[name]
    size = int(np.prod(tensor.dims))
    if size == 0 or (size == 1 and not single):
        return False
    if tensor.data_type in FLOATS:
        return single or bool(np.abs(numpy_helper.to_array(tensor)).max() < _MASK)
    readers = [item for item in items if name in item.inputs]
    return (
        tensor.data_type in INTEGER_LIMITS
        and all(item.kind == "DequantizeLinear" and item.inputs[0] == name for item in readers)
        and all(name in stored for item in readers for name in item.inputs[1:] if name)
        and len({item.inputs[1:] for item in readers}) == 1
    )
