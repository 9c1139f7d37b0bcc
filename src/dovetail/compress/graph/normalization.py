"""Recognises layer normalisation that exporters wrote out in elementary operators."""

from __future__ import annotations

import onnx_ir as ir

from dovetail.compress.graph.edit import (
    axes_of,
    constant,
    constant_operand,
    made_by,
    new_constant,
    new_node,
    producer,
    rank,
    replace,
)

LAYER_NORM_OPSET = 17
"""The first opset with LayerNormalization."""


def layer_norm(node: ir.Node) -> bool:
    """``(x - mean(x)) / sqrt(mean((x - mean(x))²) + ε) · γ + β`` over the last axis → LayerNormalization (opset 17)."""
    beta = None
    scaled: ir.Node | None = node
    if node.domain == "" and node.op_type == "Add" and (parts := constant_operand(node)) is not None:
        beta, scaled = parts[1], producer(parts[0], "Mul")
    if scaled is None or scaled.domain != "" or scaled.op_type != "Mul" or (scale := constant_operand(scaled)) is None:
        return False
    if beta is None and _adds_constant(node):
        return False  # the Add that follows belongs to it and starts the match
    found = _normalised(scale[0])
    if found is None:
        return False
    source, epsilon = found
    gamma = scale[1]
    size = source.shape[-1] if source.shape is not None else None
    if gamma.ndim != 1 or gamma.size != size or (beta is not None and beta.shape != gamma.shape):
        return False
    name = node.outputs[0].name
    operands = [source, new_constant(node, gamma, f"{name}_gamma")]
    if beta is not None:
        operands.append(new_constant(node, beta, f"{name}_beta"))
    replace(node, new_node("LayerNormalization", operands, {"axis": -1, "epsilon": epsilon}, like=node.outputs[0]))
    return True


def _adds_constant(node: ir.Node) -> bool:
    uses = [use for use, _ in node.outputs[0].uses()]
    return len(uses) == 1 and uses[0].domain == "" and uses[0].op_type == "Add" and constant_operand(uses[0]) is not None


def _normalised(value: ir.Value) -> tuple[ir.Value, float] | None:
    """Source and epsilon of a value that is ``(x - mean) / sqrt(variance + ε)``, else ``None``."""
    quotient = producer(value, "Div")
    if quotient is None:
        return None
    deviation, root = made_by(quotient.inputs[0], "Sub"), producer(quotient.inputs[1], "Sqrt")
    total = None if root is None else producer(root.inputs[0], "Add")
    parts = None if total is None else constant_operand(total)
    if deviation is None or parts is None or parts[1].size != 1:
        return None
    variance = producer(parts[0], "ReduceMean")
    square = None if variance is None else producer(variance.inputs[0], "Pow", "Mul")
    mean = producer(deviation.inputs[1], "ReduceMean")
    if variance is None or square is None or mean is None or deviation.inputs[0] is not mean.inputs[0]:
        return None
    source = mean.inputs[0]
    if source is None or not _is_square(square, deviation.outputs[0]) or not (_over_last(mean) and _over_last(variance)):
        return None
    return source, float(parts[1].reshape(-1)[0])


def _is_square(node: ir.Node, value: ir.Value) -> bool:
    if node.op_type == "Mul":
        return node.inputs[0] is value and node.inputs[1] is value
    power = constant(node.inputs[1])
    return node.inputs[0] is value and power is not None and power.size == 1 and float(power.reshape(-1)[0]) == 2.0


def _over_last(mean: ir.Node) -> bool:
    value_rank = rank(mean.inputs[0])
    if value_rank is None or not mean.attributes.get_int("keepdims", 1):
        return False
    return axes_of(mean, value_rank) == [value_rank - 1]
