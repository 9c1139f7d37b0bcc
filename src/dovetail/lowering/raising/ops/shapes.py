"""Shapes as values, and tensors made from shapes."""

from __future__ import annotations

import math

import numpy as np
import onnx

from dovetail.lowering.litert_file import LiteRtOperator
from dovetail.lowering.raising.folding import FOLDED_ELEMENTS
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.ops.common import int64
from dovetail.lowering.raising.ops.reduction import as_type
from dovetail.lowering.tensors import identity


def shape(graph: Graph, op: LiteRtOperator) -> None:
    """SHAPE: a constant where every size is known."""
    x = op.input(0)
    sizes = graph.sizes(x)
    if -1 not in sizes:
        graph.fix(op.output, np.array(sizes, op.output.dtype))
        return
    order = graph.order(x)
    name = graph.node("Shape", [graph.stored(x, order)])
    if order != identity(x.rank):
        name = graph.node("Gather", [name, graph.integers([order.index(axis) for axis in range(x.rank)])], axis=0)
    graph.bind(op, op.output, as_type(graph, name, op.output))


def rank(graph: Graph, op: LiteRtOperator) -> None:
    """RANK: the number of axes."""
    graph.fix(op.output, np.array(op.input(0).rank, op.output.dtype).reshape(op.output.shape))


def range_(graph: Graph, op: LiteRtOperator) -> None:
    """RANGE."""
    names = []
    for i in range(3):
        name = graph.stored(op.input(i))
        names.append(graph.node("Squeeze", [name]) if op.input(i).rank else name)
    graph.bind(op, op.output, graph.node("Range", names))


def fill(graph: Graph, op: LiteRtOperator) -> None:
    """FILL: one number in a given shape."""
    graph.bind_stored(op.output, graph.node("Expand", [graph.stored(op.input(1)), int64(graph, op.input(0))]))


def zeros_like(graph: Graph, op: LiteRtOperator) -> None:
    """ZEROS_LIKE: zeros in the shape of the operand."""
    x = op.input(0)
    zero = onnx.numpy_helper.from_array(np.zeros(1, op.output.dtype))
    if -1 not in graph.sizes(x) and math.prod(x.shape) <= FOLDED_ELEMENTS:
        graph.fix(op.output, np.zeros(graph.sizes(x), op.output.dtype), op.output.quant)
        return
    order = graph.order(x)
    name = graph.node("ConstantOfShape", [graph.node("Shape", [graph.stored(x, order)])], value=zero)
    graph.bind_stored(op.output, name, order)


TABLE = {"SHAPE": shape, "RANK": rank, "RANGE": range_, "FILL": fill, "ZEROS_LIKE": zeros_like}
