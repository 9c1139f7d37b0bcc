"""Puts weights, or operators too, into half precision; values between the two kinds pass through Cast."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from dovetail.compress.graph.edit import all_nodes, constant, new_constant, new_node
from dovetail.compress.graph.files import opset
from dovetail.core.protocols import Array

MAX_FLOAT16 = 65504.0
"""Largest finite float16 (IEEE 754-2019, binary16)."""
MIN_ELEMENTS = 64
"""Smaller constants stay in float32: a Cast costs more bytes than they save."""


def store_half(model: ir.Model, target: ir.DataType) -> int:
    """Stores float32 weights in float16 or bfloat16, each followed by one Cast; returns how many."""
    count = 0
    for graph in list(model.graphs()):
        for value in list(graph.initializers.values()):
            array = constant(value)
            if array is None or array.dtype != np.float32 or array.size < MIN_ELEMENTS or value.is_graph_output():
                continue
            if target == ir.DataType.FLOAT16 and not _fits(array):
                continue
            stored = ir.Value(name=f"{value.name}_half", const_value=ir.tensor(array.astype(target.numpy()), dtype=target))
            graph.register_initializer(stored)
            cast = new_node("Cast", [stored], {"to": ir.DataType.FLOAT}, like=value)
            ir.convenience.replace_all_uses_with(value, cast.outputs[0])
            graph.initializers.pop(str(value.name))
            graph.insert_before(graph[0], cast)
            count += 1
    return count


def run_half(model: ir.Model, stays: Callable[[ir.Node], bool]) -> int:
    """Runs operators in float16, interface in float32; returns how many.

    An operator is converted where the ONNX schema lets its float inputs be float16. Bodies of control flow are converted one by
    one; what enters and leaves them is float32.

    Args:
        model: float32 graph with the types of its values inferred.
        stays: whether a node must stay in float32.
    """
    halves: dict[ir.Value, ir.Value] = {}
    version, count = opset(model), 0
    for node in list(all_nodes(model)):
        variables = set() if stays(node) else _half_variables(node, version)
        if not variables:
            continue
        for index, value in enumerate(node.inputs):
            if value is not None and _variable(node, version, index, output=False) in variables and _is_float(value):
                node.replace_input_with(index, _half(value, node, halves))
        for index, output in enumerate(node.outputs):
            if _variable(node, version, index, output=True) in variables and output.name:
                _cast_back(node, output, halves)
        count += 1
    passes.RemoveUnusedNodesPass()(model)
    return count


def _half(value: ir.Value, reader: ir.Node, halves: dict[ir.Value, ir.Value]) -> ir.Value:
    """The float16 twin of a float32 value: known already, a converted constant, or a Cast in front of the reader."""
    known = halves.get(value)
    if known is not None and known.graph is reader.graph:
        return known
    array = constant(value)
    if array is not None:
        halves[value] = new_constant(reader, array.astype(np.float16), f"{value.name}_half")
        return halves[value]
    cast = new_node("Cast", [value], {"to": ir.DataType.FLOAT16}, like=value)
    cast.outputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
    assert reader.graph is not None
    reader.graph.insert_before(reader, cast)
    halves[value] = cast.outputs[0]
    return cast.outputs[0]


def _cast_back(node: ir.Node, output: ir.Value, halves: dict[ir.Value, ir.Value]) -> None:
    """Makes an output float16 and gives its readers, and its name, to a Cast behind it."""
    name, graph = output.name, node.graph
    cast = new_node("Cast", [None], {"to": ir.DataType.FLOAT}, like=output)
    ir.convenience.replace_all_uses_with(output, cast.outputs[0], replace_graph_outputs=True)
    cast.replace_input_with(0, output)
    output.name, cast.outputs[0].name = f"{name}_half", name
    output.type = ir.TensorType(ir.DataType.FLOAT16)
    assert graph is not None
    graph.insert_after(node, cast)
    halves[cast.outputs[0]] = output


def _half_variables(node: ir.Node, version: int) -> set[str]:
    """Type variables of an operator that are float32 now and may be float16; empty when one of them may not."""
    schema = _schema(node, version)
    if schema is None or any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
        return set()
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    found = {_variable(node, version, i, output=False) for i, v in enumerate(node.inputs) if v is not None and _is_float(v)}
    variables = {v for v in found if v in allowed}  # a plain "tensor(float)" is no variable: that input stays as it is
    return variables if all("tensor(float16)" in allowed[v] for v in variables) else set()


def _variable(node: ir.Node, version: int, index: int, *, output: bool) -> str:
    """The type variable of an operand; the last formal operand of a variadic operator stands for all that follow."""
    schema = _schema(node, version)
    formal = [] if schema is None else list(schema.outputs if output else schema.inputs)
    return str(formal[min(index, len(formal) - 1)].type_str) if formal else ""


def _schema(node: ir.Node, version: int) -> onnx.defs.OpSchema | None:
    if node.domain != "" or not onnx.defs.has(node.op_type, version):
        return None
    return onnx.defs.get_schema(node.op_type, version)


def _is_float(value: ir.Value) -> bool:
    return bool(value.dtype == ir.DataType.FLOAT)


def _fits(array: Array) -> bool:
    return not array.size or float(np.abs(array).max()) <= MAX_FLOAT16
