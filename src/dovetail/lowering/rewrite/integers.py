"""Integers that the runtime lacks are unpacked; products whose operand is rounded at run time become one node."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dovetail.core.protocols import Array
from dovetail.lowering.rewrite.build import new_value
from dovetail.lowering.rewrite.match import Graph
from dovetail.lowering.rewrite.terms import DYNAMIC
from dovetail.lowering.source import Info, Node, Source

_SMALL = frozenset({"int4", "uint4", "int2", "uint2"})
_PAIR = frozenset({"QuantizeLinear", "DequantizeLinear"})


def join_scales(source: Source) -> None:
    """Computed values that repeat one scale and zero point along an axis have them once, for the whole value.

    Quantisers repeat them so that ONNX Runtime leaves the float layer behind such a value alone.
    """
    for index, node in enumerate(source.nodes):
        if node.op in _PAIR and node.inputs[0] not in source.constants and _repeats(source, node):
            names = [
                source.add_constant(f"{name}/once", source.constants[name].reshape(-1)[:1].reshape(()))
                for name in node.inputs[1:]
                if name
            ]
            attributes = {key: value for key, value in node.attributes.items() if key != "axis"}
            source.nodes[index] = replace(node, inputs=(node.inputs[0], *names), attributes=attributes)


def _repeats(source: Source, node: Node) -> bool:
    """Whether a node has several scales, one for each place along its axis, and they and the zero points are all equal."""
    scale, zero = source.constant(node, 1), source.constant(node, 2)
    if scale is None or scale.ndim != 1 or scale.size < 2 or (node.has(2) and zero is None) or node.get("block_size"):
        return False
    shape, axis = source.shape(node.inputs[0]), node.get("axis", 1)
    fits = -len(shape) <= axis < len(shape) and shape[axis] == scale.size
    zeros = np.zeros(scale.shape) if zero is None else zero
    return bool(fits and zeros.shape == scale.shape and (scale == scale[0]).all() and (zeros == zeros[0]).all())


def widen_small(source: Source) -> None:
    """Constants of fewer than 8 bits are stored in 8, with the same scales."""
    for node in source.nodes:
        if node.op == "DequantizeLinear" and source.dtype(node.inputs[0]) in _SMALL:
            for name in (node.inputs[0], *node.inputs[2:3]):
                if name in source.constants:
                    source.constants[name] = source.constants[name].astype(np.int8)
                    source.infos[name] = Info(shape=source.shape(name), dtype="int8")


def unpack_blocks(source: Source) -> None:
    """Constants with a scale for each block, which the runtime lacks, become floats."""
    kept = []
    for node in source.nodes:
        blocks = node.op == "DequantizeLinear" and node.get("block_size") and source.dtype(node.output) == "float32"
        if blocks and all(name in source.constants for name in node.inputs if name):
            source.constants[node.output] = _unpacked(source, node)
        else:
            kept.append(node)
    source.nodes = kept


def _unpacked(source: Source, node: Node) -> Array:
    values, scale = (source.constants[name] for name in node.inputs[:2])
    axis, block = node.get("axis", 1), node.get("block_size")

    def spread(blocks: Array) -> Array:
        repeated = np.repeat(blocks, block, axis=axis)
        return np.take(repeated, np.arange(values.shape[axis]), axis=axis)

    zero = source.constants[node.inputs[2]] if node.has(2) else np.zeros(scale.shape, np.int8)
    real = (values.astype(np.int32) - spread(zero).astype(np.int32)) * spread(scale).astype(np.float32)
    return real.astype(np.float32)


def dynamic_products(source: Source) -> None:
    """DynamicQuantizeLinear, MatMulInteger, Cast and the product with the scales → a MatMul marked as dynamic."""
    graph = Graph(source)
    weights: list[Node] = []
    changed: dict[str, Node] = {}
    for node in source.nodes:
        for x, product, scale in _dynamic(graph, node):
            name = new_value(source, f"{product.inputs[1]}/real", source.shape(product.inputs[1]), "float32")
            stored = (product.inputs[1], scale, *product.inputs[3:4])
            weights.append(Node(op="DequantizeLinear", inputs=stored, outputs=(name,), attributes={"axis": 1}))
            changed[node.output] = Node(op="MatMul", inputs=(x, name), outputs=node.outputs, attributes={DYNAMIC: True})
    source.nodes = weights + [changed.get(node.output, node) for node in source.nodes]


def _dynamic(graph: Graph, node: Node) -> list[tuple[str, Node, str]]:
    """The operand that is rounded at run time, the product of integers and the scale of the weights, if it is that."""
    for product, scales in (node.inputs, node.inputs[::-1]) if node.op == "Mul" else ():
        cast = graph.private(product, "Cast")
        inner = None if cast is None else graph.private(cast.inputs[0], "MatMulInteger")
        rounded = None if inner is None else graph.producer(inner.inputs[0], "DynamicQuantizeLinear")
        factors = graph.producer(scales, "Mul")
        if inner is None or rounded is None or factors is None or graph.source.dtype(product) != "float32":
            continue
        constants = graph.source.constants
        own = inner.inputs[1] in constants and len(graph.source.shape(inner.inputs[1])) == 2
        zeros = inner.inputs[2:3] == rounded.outputs[2:3] and all(name in constants for name in inner.inputs[3:4] if name)
        for mine, scale in (factors.inputs, factors.inputs[::-1]):
            if own and zeros and mine == rounded.outputs[1] and graph.constant(scale) is not None:
                return [(rounded.inputs[0], inner, scale)]
    return []
