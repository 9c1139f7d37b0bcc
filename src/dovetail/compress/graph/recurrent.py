"""Exact rewrites of recurrent operators."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dovetail.compress.graph.edit import constant, made_by

RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
FIRST_STATE = 5
"""Inputs from here on, one or for LSTM two, are states before the first step (ONNX operator definitions)."""
MOVES = ("Expand", "Slice", "Split", "Gather", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Cast")
"""Operators whose outputs have no other values than their first input."""


def zero_states(node: ir.Node) -> bool:
    """Initial states of zeros go: an absent one is zero.

    Exporters write them out, one for all layers, with the batch they saw: layers would seem coupled, and the batch fixed.
    """
    if node.domain != "" or node.op_type not in RECURRENT:
        return False
    states = [i for i in range(FIRST_STATE, min(len(node.inputs), FIRST_STATE + 2)) if _is_zero(node.inputs[i])]
    for index in states:
        node.replace_input_with(index, None)
    return bool(states)


def _is_zero(value: ir.Value | None) -> bool:
    if (array := constant(value)) is not None:
        return not np.any(array)
    if (moved := made_by(value, *MOVES)) is not None:
        return _is_zero(moved.inputs[0])
    fill = made_by(value, "ConstantOfShape")
    tensor = None if fill is None else fill.attributes.get_tensor("value")
    return fill is not None and (tensor is None or not np.any(tensor.numpy()))
