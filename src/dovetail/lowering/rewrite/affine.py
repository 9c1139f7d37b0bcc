"""Scale and shift of a normalisation: into the weights of the products that read it, or written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dovetail.core.protocols import Array
from dovetail.lowering.rewrite.build import Builder
from dovetail.lowering.rewrite.match import Graph
from dovetail.lowering.rewrite.terms import BIAS
from dovetail.lowering.source import Node, Source


def into_weights(source: Source) -> None:
    """``W (γ n + β) + b`` → ``(W γ) n + (W β + b)`` where only products with constant weights read the normalised value."""
    graph, consumers = Graph(source), source.consumers()
    changed: dict[str, Node] = {}
    for node in source.nodes:
        readers = consumers.get(node.output, [])
        if node.op != "LayerNormalization" or node.output in source.outputs or not readers:
            continue
        parts = _affine(graph, node)
        if parts is None or not all(_absorbs(graph, reader, node.output) for reader in readers):
            continue
        gamma, beta = parts
        for reader in readers:
            changed[reader.output] = _folded(source, reader, gamma, beta)
        plain = source.add_constant(f"{node.output}/plain", np.ones((1,), np.float32))
        changed[node.output] = replace(node, inputs=(node.inputs[0], plain))
    source.nodes = [changed.get(node.output, node) for node in source.nodes]


def _affine(graph: Graph, node: Node) -> tuple[Array, Array] | None:
    """Scale and shift along the last axis, in double precision; ``None`` where they are computed, or nothing."""
    size = graph.source.shape(node.inputs[0])[-1]
    found = []
    for index, nothing in ((1, 1.0), (2, 0.0)):
        value = graph.constant(node.inputs[index]) if node.has(index) else np.full((1,), nothing)
        if value is None or value.size not in (1, size) or value.shape[-1:] != (value.size,):
            return None
        found.append(np.broadcast_to(value.astype(np.float64).reshape(-1), (size,)))
    gamma, beta = found
    return None if (gamma == 1.0).all() and not beta.any() else (gamma, beta)


def _absorbs(graph: Graph, node: Node, name: str) -> bool:
    """Whether a node multiplies a value with constant weights of its own."""
    return node.op == "MatMul" and node.inputs.count(name) == 1 and node.inputs[0] == name and graph.own_weights(node)


def _folded(source: Source, node: Node, gamma: Array, beta: Array) -> Node:
    weights = source.constants[node.inputs[1]].astype(np.float64)
    shift = beta @ weights
    if node.get(BIAS):
        shift = shift + source.constants[node.inputs[2]].astype(np.float64).reshape(-1)
    w = source.add_constant(f"{node.inputs[1]}/scaled", (gamma[:, None] * weights).astype(np.float32))
    b = source.add_constant(f"{node.output}/shift", shift.astype(np.float32))
    return replace(node, inputs=(node.inputs[0], w, b), attributes={**node.attributes, BIAS: True})


# -- batch normalisation -------------------------------------------------------------------------------------------------


def write_out(source: Source) -> None:
    """BatchNormalization with the statistics of the model → a product and a sum, with which a bound behind it can fuse."""
    nodes: list[Node] = []
    for node in source.nodes:
        nodes += _product_and_sum(source, node) if node.op == "BatchNormalization" else [node]
    source.nodes = nodes


def _product_and_sum(source: Source, node: Node) -> list[Node]:
    given = [source.constant(node, index) for index in (1, 2, 3, 4)]
    gamma, beta, mean, variance = (None if value is None else value.astype(np.float64) for value in given)
    if node.get("training_mode", 0) or gamma is None or beta is None or mean is None or variance is None:
        return [node]
    scale = gamma / np.sqrt(variance + node.get("epsilon", 1e-5))
    shape = source.shape(node.output)
    b = Builder(source, node.output)

    def by_channel(value: Array, what: str) -> str:
        return b.constant(value.astype(np.float32).reshape(-1, *(1,) * (len(shape) - 2)), what)

    product = b.elementwise("Mul", node.inputs[0], by_channel(scale, "scale"))
    b.node("Add", product, by_channel(beta - mean * scale, "shift"), shape=shape, name=node.output)
    return b.nodes
