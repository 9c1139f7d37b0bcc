"""Walks over ONNX messages that several steps need."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import TopologicalSorter

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto


def subgraphs(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The graphs held by a node's attributes (bodies of ``If``, ``Loop``, ``Scan``), by attribute name."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from ((attribute.name, graph) for graph in attribute.graphs)


def all_nodes(nodes: onnx.GraphProto | onnx.FunctionProto) -> Iterator[NodeProto]:
    """Every node of a graph or function, those of nested graphs included."""
    for node in nodes.node:
        yield node
        for _, graph in subgraphs(node):
            yield from all_nodes(graph)


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and all graphs nested in it."""
    yield graph
    for node in graph.node:
        for _, inner in subgraphs(node):
            yield from all_graphs(inner)


def all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor stored in a model: initialisers, sparse ones, and those in attributes."""
    for graph in all_graphs(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for body in (model.graph, *model.functions):
        for node in all_nodes(body):
            for attribute in node.attribute:
                yield from _attribute_tensors(attribute)


def _attribute_tensors(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.type == AttributeProto.TENSOR:
        yield attribute.t
    elif attribute.type == AttributeProto.TENSORS:
        yield from attribute.tensors
    elif attribute.type == AttributeProto.SPARSE_TENSOR:
        yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)


def domain(name: str) -> str:
    """A domain in its short form: ``ai.onnx`` is the empty string."""
    return "" if name == "ai.onnx" else name


def opsets(model: ModelProto) -> dict[str, int]:
    """Operator-set versions by domain."""
    return {domain(entry.domain): entry.version for entry in model.opset_import}


def free_names(node: NodeProto) -> set[str]:
    """Names that a node reads: its inputs, and what its nested graphs take from outside."""
    names = {name for name in node.input if name}
    for _, graph in subgraphs(node):
        inner = {value.name for value in graph.input}
        inner |= {tensor.name for tensor in graph.initializer}
        inner |= {sparse.values.name for sparse in graph.sparse_initializer}
        read: set[str] = set()
        for child in graph.node:
            read |= free_names(child)
            inner.update(child.output)
        read |= {value.name for value in graph.output}
        names |= read - inner
    return names


def needs(graph: GraphProto | FunctionProto) -> dict[int, set[int]]:
    """For each node of a graph, by position, the positions of the nodes whose results it reads."""
    producer = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    return {index: {producer[name] for name in free_names(node) & producer.keys()} for index, node in enumerate(graph.node)}


def in_order(graph: GraphProto) -> list[NodeProto]:
    """The nodes of an acyclic graph, each after those it reads from; in stored order where that is one.

    Raises:
        graphlib.CycleError: there is no such order.
    """
    dependencies = needs(graph)
    if all(found < index for index, sources in dependencies.items() for found in sources):
        return list(graph.node)
    return [graph.node[index] for index in TopologicalSorter(dependencies).static_order()]
