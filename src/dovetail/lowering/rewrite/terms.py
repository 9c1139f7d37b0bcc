"""Attributes that the steps add to nodes, and what a node says about bounds."""

from __future__ import annotations

import numpy as np

from dovetail.lowering.source import Node, Source

ACTIVATION = "activation"
"""Name of the bound that an operator applies to its result."""
BIAS = "bias"
"""The third input of a MatMul is a row added to the product."""
DYNAMIC = "dynamic"
"""A MatMul whose left operand the model rounds to 8 bits with a range found at run time."""
AXES = "axes"
"""Axes of a LayerNormalization that need not be the last ones."""
EMBEDDING = "dovetail.Embedding"
"""Operator: rows of a constant table, by index, with the scales and zero points that the table is stored with."""
FROM_ZERO = frozenset({"RELU", "RELU6"})
"""Bounds that let no negative number through."""
_POSITIVE = frozenset({"Sigmoid", "Softmax"})
_PAIR = frozenset({"QuantizeLinear", "DequantizeLinear"})
_KEEPING = frozenset({
    "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "MaxPool", "AveragePool", "GlobalAveragePool",
})  # fmt: skip
"""Operators whose results are numbers of their first operand, or means of them."""
_BOUNDS = {(0.0, np.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}


def bounds(source: Source, node: Node) -> tuple[float, float] | None:
    """Lower and upper bound that a node applies to its input; ``None`` where it does something else."""
    if node.op == "Relu":
        return 0.0, np.inf
    if node.op != "Clip":
        return None
    limits = []
    for index, default in ((1, -np.inf), (2, np.inf)):
        value = source.constant(node, index)
        if node.has(index) and (value is None or value.size != 1):
            return None
        limits.append(default if value is None else float(value.reshape(())))
    return limits[0], limits[1]


def never_negative(source: Source, name: str) -> bool:
    """Whether a value surely has no negative numbers: what makes it bounds it, or stores integers from zero on."""
    producers = source.producers()
    while (node := producers.get(name)) is not None:
        limits = bounds(source, node)
        if node.op in _POSITIVE or node.get(ACTIVATION) in FROM_ZERO or (limits is not None and limits[0] >= 0):
            return True
        zero = source.constant(node, 2) if node.op in _PAIR else None
        if zero is not None and bool((zero == np.iinfo(zero.dtype).min).all()):
            return True
        if node.op not in _KEEPING | _PAIR:
            return False
        name = node.inputs[0]
    return False


def activation(source: Source, node: Node) -> str | None:
    """Name of the fused activation that a node is; ``None`` where there is none."""
    found = bounds(source, node)
    return None if found is None else _BOUNDS.get(found)
