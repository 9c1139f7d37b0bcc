"""The two spellings of a fully connected layer: Gemm, and MatMul followed by Add."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dovetail.compress.graph.edit import constant, constant_operand, new_constant, new_node, producer, rank, replace


def matmul_to_gemm(node: ir.Node) -> bool:
    """Matrix product with constant weights plus a constant row → Gemm."""
    if node.domain != "" or node.op_type != "Add" or (parts := constant_operand(node)) is None:
        return False
    product, bias, position = parts
    matmul = producer(product, "MatMul")
    weight = None if matmul is None else constant(matmul.inputs[1])
    if matmul is None or weight is None or weight.ndim != 2 or rank(matmul.inputs[0]) != 2:
        return False
    columns = weight.shape[1]
    if (
        weight.dtype != np.float32
        or bias.dtype != weight.dtype
        or bias.shape not in ((), (1,), (columns,), (1, 1), (1, columns))
    ):
        return False
    row = node.inputs[position]
    if bias.shape != (columns,):
        full = np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), columns))
        row = new_constant(node, full, f"{node.outputs[0].name}_bias")
    replace(node, new_node("Gemm", [*matmul.inputs, row], like=node.outputs[0]))
    return True


def gemm_to_matmul(node: ir.Node) -> bool:
    """Gemm with constant weights → MatMul, then Add; scalars and transposition move into the constants."""
    if node.domain != "" or node.op_type != "Gemm" or node.attributes.get_int("transA", 0):
        return False
    weight = constant(node.inputs[1])
    if weight is None:
        return False
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if bias is None and len(node.inputs) > 2:
        return False
    name = node.outputs[0].name
    matrix = weight.T if node.attributes.get_int("transB", 0) else weight
    operand = new_constant(node, (matrix * node.attributes.get_float("alpha", 1.0)).astype(weight.dtype), f"{name}_weight")
    product = new_node("MatMul", [node.inputs[0], operand], like=node.outputs[0])
    if bias is None:
        replace(node, product)
        return True
    row = new_constant(node, (bias * node.attributes.get_float("beta", 1.0)).astype(bias.dtype), f"{name}_bias")
    replace(node, product, new_node("Add", [product.outputs[0], row], like=node.outputs[0]))
    return True
