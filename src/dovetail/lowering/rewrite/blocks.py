"""Channels that DepthToSpace takes in an order that the runtime lacks are made in the order that it has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dovetail.core.protocols import Array
from dovetail.lowering.rewrite.build import new_value
from dovetail.lowering.rewrite.match import Graph
from dovetail.lowering.source import Node, Source

_POINTWISE = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "QuantizeLinear", "DequantizeLinear"})
"""Operators that may stand between: they do the same to every channel."""


def order_channels(source: Source) -> None:
    """The convolution that alone feeds a DepthToSpace of mode CRD gets its outputs in the order of mode DCR."""
    graph = Graph(source)
    stored: list[Node] = []
    changed: dict[str, Node] = {}
    for node in source.nodes:
        order = _order(source, node)
        conv = None if order is None else _feeding(graph, node.inputs[0])
        if order is None or conv is None:
            continue
        made = [_permuted(graph, name, order) for name in conv.inputs[1:] if name]
        names = [name for name, _ in made]
        if all(names):
            stored += [part for _, part in made if part is not None]
            changed[conv.output] = replace(conv, inputs=(conv.inputs[0], *names))
            changed[node.output] = replace(node, attributes={**node.attributes, "mode": "DCR"})
    source.nodes = stored + [changed.get(node.output, node) for node in source.nodes]


def _order(source: Source, node: Node) -> Array | None:
    """Which channel stands at each place in mode DCR; ``None`` where the modes are the same, or it is no such operator."""
    if node.op != "DepthToSpace" or node.get("mode", "DCR") != "CRD":
        return None
    channels, block = source.shape(node.inputs[0])[1], node.get("blocksize")
    return None if channels == block * block else np.arange(channels).reshape(-1, block * block).T.reshape(-1)


def _feeding(graph: Graph, name: str) -> Node | None:
    """The convolution without groups whose result nobody else reads, maybe behind what treats all channels alike."""
    node = graph.private(name, "Conv", *_POINTWISE)
    if node is None:
        return None
    if node.op == "Conv":
        return node if node.get("group", 1) == 1 else None
    scale = graph.source.constant(node, 1) if node.op in ("QuantizeLinear", "DequantizeLinear") else None
    return None if scale is not None and scale.size > 1 else _feeding(graph, node.inputs[0])


def _permuted(graph: Graph, name: str, order: Array) -> tuple[str, Node | None]:
    """A constant with its first axis in an order, and what makes reals of stored integers; no name for what is computed."""
    source = graph.source

    def moved(name: str) -> str:
        return source.add_constant(f"{name}/ordered", source.constants[name][order])

    if name in source.constants:
        return moved(name), None
    node = graph.producer(name, "DequantizeLinear")
    if node is None or node.get("block_size") or any(part not in source.constants for part in node.inputs if part):
        return "", None
    first = node.get("axis", 1) % len(source.shape(name)) == 0
    parameters = [moved(part) if part and first and source.constants[part].size > 1 else part for part in node.inputs[1:]]
    real = new_value(source, f"{name}/ordered", source.shape(name), source.dtype(name))
    return real, replace(node, inputs=(moved(node.inputs[0]), *parameters), outputs=(real,))
