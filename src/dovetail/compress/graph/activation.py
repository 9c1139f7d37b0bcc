"""Activation functions that exporters wrote out in elementary operators."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dovetail.compress.graph.edit import constant, constant_operand, new_constant, new_node, producer, replace
from dovetail.core.protocols import Array

GELU_OPSET = 20
"""The first opset with Gelu."""
BOUNDS = ("Relu", "Clip", "Min", "Max")


def merge_bounds(node: ir.Node) -> bool:
    """Two operators in a row that bound a value (Relu, Clip, Min or Max with numbers) → one Clip or Relu."""
    outer = _bounds(node)
    inner_node = None if outer is None else producer(outer[0], *BOUNDS)
    inner = None if inner_node is None else _bounds(inner_node)
    if outer is None or inner is None or node.outputs[0].dtype != ir.DataType.FLOAT:
        return False
    low, high = (min(max(bound, outer[1]), outer[2]) for bound in inner[1:])
    if (low, high) == (0.0, math.inf):
        replace(node, new_node("Relu", [inner[0]], like=node.outputs[0]))
        return True
    name = node.outputs[0].name
    limits = [
        None if math.isinf(bound) else new_constant(node, np.array(bound, np.float32), f"{name}_{side}")
        for side, bound in (("low", low), ("high", high))
    ]
    replace(node, new_node("Clip", [inner[0], *limits], like=node.outputs[0]))
    return True


def gelu(node: ir.Node) -> bool:
    """``x · 0.5 · (1 + erf(x / √2))`` in either order of its products → Gelu (opset 20)."""
    x = written_out_gelu(node)
    if x is None:
        return False
    replace(node, new_node("Gelu", [x], like=node.outputs[0]))
    return True


def written_out_gelu(node: ir.Node) -> ir.Value | None:
    """What goes into a GELU of elementary operators that ends in this node; ``None`` for other nodes."""
    factors = _factors(node) if node.domain == "" and node.op_type == "Mul" else None
    if factors is None:
        return None
    constants, variables = factors
    if len(variables) != 2 or not math.isclose(float(np.prod(constants)), 0.5, rel_tol=1e-6):
        return None
    return next((x for x, gate in (variables, variables[::-1]) if _is_one_plus_erf(gate, x)), None)


def _bounds(node: ir.Node) -> tuple[ir.Value, float, float] | None:
    """Source, lower and upper bound of an operator that bounds its input by constant numbers."""
    source = node.inputs[0] if node.inputs else None
    if node.domain != "" or node.op_type not in BOUNDS or source is None:
        return None
    if node.op_type == "Relu":
        return source, 0.0, math.inf
    if node.op_type == "Clip":
        lower, upper = [*node.inputs[1:], None, None][:2]
        low = -math.inf if lower is None else _number(constant(lower))
        high = math.inf if upper is None else _number(constant(upper))
        return None if low is None or high is None or low > high else (source, low, high)
    parts = constant_operand(node)
    bound = None if parts is None else _number(parts[1])
    if parts is None or bound is None:
        return None
    return (parts[0], -math.inf, bound) if node.op_type == "Min" else (parts[0], bound, math.inf)


def _number(array: Array | None) -> float | None:
    """The value of a scalar constant, ``None`` for anything with dimensions."""
    return float(array.reshape(())) if array is not None and array.ndim == 0 else None


def _factors(node: ir.Node) -> tuple[list[Array], list[ir.Value]] | None:
    """A product of at most three factors, split into scalar constants and variables."""
    constants: list[Array] = []
    variables: list[ir.Value] = []
    pending = list(node.inputs)
    for _ in range(4):
        if not pending:
            return constants, variables
        value = pending.pop(0)
        array = constant(value)
        if array is not None:
            if array.size != 1:
                return None
            constants.append(array.reshape(()))
        elif (inner := producer(value, "Mul")) is not None:
            pending.extend(inner.inputs)
        elif value is not None:
            variables.append(value)
    return None if pending else (constants, variables)


def _is_one_plus_erf(value: ir.Value, x: ir.Value) -> bool:
    total = producer(value, "Add")
    parts = None if total is None else constant_operand(total)
    erf = None if parts is None or parts[1].size != 1 or float(parts[1].reshape(-1)[0]) != 1.0 else producer(parts[0], "Erf")
    inner = None if erf is None else producer(erf.inputs[0], "Div", "Mul")
    scaled = None if inner is None else constant_operand(inner)
    if inner is None or scaled is None or scaled[0] is not x or scaled[1].size != 1:
        return False
    if inner.op_type == "Div" and scaled[2] != 1:
        return False
    factor = float(scaled[1].reshape(-1)[0])
    return math.isclose(factor if inner.op_type == "Mul" else 1 / factor, math.sqrt(0.5), rel_tol=1e-5)
