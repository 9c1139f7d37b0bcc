"""The few questions and edits that all rewrite rules share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import onnx_ir as ir

from dovetail.core.protocols import Array


def constant(value: ir.Value | None) -> Array | None:
    """The array of a value that never changes, else ``None``. An initialiser that is also a graph input may change."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that makes a value, if it is one of these standard operators and nothing else reads the value."""
    if value is None or value.is_graph_output() or len(value.uses()) != 1:
        return None
    return made_by(value, *op_types)


def made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that makes a value, if it is one of these standard operators; others may read the value too."""
    node = None if value is None else value.producer()
    return node if node is not None and node.domain == "" and node.op_type in op_types else None


def constant_operand(node: ir.Node) -> tuple[ir.Value, Array, int] | None:
    """Splits a binary operator into its variable operand, its constant operand and the constant's position."""
    if len(node.inputs) != 2:
        return None
    for position in (1, 0):
        array, other = constant(node.inputs[position]), node.inputs[1 - position]
        if array is not None and other is not None and constant(other) is None:
            return other, array, position
    return None


def dims(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """Sizes of a value with ``None`` for symbolic ones; ``None`` when even the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else None for d in value.shape)


def rank(value: ir.Value | None) -> int | None:
    """Number of dimensions, ``None`` when unknown."""
    return None if value is None or value.shape is None else len(value.shape)


def integers(node: ir.Node, attribute: str, default: Sequence[int]) -> list[int]:
    """A list attribute, or its default."""
    return list(node.attributes.get_ints(attribute, default))


def axes_of(node: ir.Node, value_rank: int) -> list[int] | None:
    """Sorted non-negative axes of a reduction, from its attribute or (newer opsets) its second input."""
    if "axes" in node.attributes:
        axes = list(node.attributes.get_ints("axes"))
    else:
        array = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if array is None:
            return None
        axes = [int(a) for a in array.reshape(-1)]
    return sorted(a % value_rank for a in axes)


def new_constant(near: ir.Node, array: Array, name: str) -> ir.Value:
    """Registers an initialiser in the graph of ``near`` under a name that is still free there."""
    graph = near.graph
    assert isinstance(graph, ir.Graph)
    unique, count = name, 0
    while unique in graph.initializers:
        count += 1
        unique = f"{name}_{count}"
    tensor = ir.tensor(np.ascontiguousarray(array) if array.ndim else array, name=unique)
    value = ir.Value(name=unique, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def new_node(
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    like: ir.Value | None = None,
    shape: Sequence[Any] | None = None,
) -> ir.Node:
    """A standard operator with one output; ``like`` lends the output its type and, unless given, its shape."""
    node = ir.node(op_type, inputs, dict(attributes or {}))
    if like is not None:
        node.outputs[0].type = copy(like.type)
        node.outputs[0].shape = ir.Shape(shape) if shape is not None else (None if like.shape is None else like.shape.copy())
    return node


def replace(node: ir.Node, *replacements: ir.Node) -> None:
    """Puts nodes in the place of one; the last takes over its output, name and readers. What nobody reads then goes."""
    graph, inputs = node.graph, [v for v in node.inputs if v is not None]
    assert graph is not None
    if not replacements[-1].name:
        replacements[-1].name = node.name
    ir.convenience.replace_nodes_and_values(graph, node, [node], replacements, node.outputs[:1], replacements[-1].outputs)
    _prune(inputs)


def _prune(values: Iterable[ir.Value]) -> None:
    for value in values:
        node = value.producer()
        if node is None or node.graph is None or any(o.uses() or o.is_graph_output() for o in node.outputs):
            continue
        inputs = [v for v in node.inputs if v is not None]
        node.graph.remove(node, safe=True)
        _prune(inputs)


def all_nodes(graph_model: ir.Model) -> Iterator[ir.Node]:
    """Every node of every graph, bodies of control flow included; edits while iterating are allowed."""
    for graph in list(graph_model.graphs()):
        yield from graph
