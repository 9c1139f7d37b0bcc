"""Operators that change nothing go; rows and bounds move into the operator before them."""

from __future__ import annotations

from dataclasses import replace

from dovetail.lowering.rewrite.terms import ACTIVATION, BIAS, activation
from dovetail.lowering.source import Node, Source

FUSING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "MaxPool", "AveragePool"})
"""Operators that apply a bound to their result at no cost."""


def skip_nothing(source: Source) -> None:
    """Readers of an operator that changes nothing read its input, unless it makes an output of the graph."""
    names: dict[str, str] = {}
    kept: list[Node] = []
    for node in source.nodes:
        same_type = node.op == "Cast" and source.dtype(node.inputs[0]) == source.dtype(node.output)
        nothing = same_type or node.op == "Identity" or _passes(source, node)
        if nothing and not set(node.outputs) & set(source.outputs):
            names[node.output] = node.inputs[0]
        else:
            kept.append(node)
    source.nodes = kept
    _rename(source, names)


def _passes(source: Source, node: Node) -> bool:
    """Whether a Dropout lets everything through: not in training, and nobody reads its mask."""
    if node.op != "Dropout" or (len(node.outputs) > 1 and source.uses()[node.outputs[1]]):
        return False
    training = source.constant(node, 2)
    return not node.has(2) or (training is not None and not training.any())


def skip_pad_of_nothing(source: Source) -> None:
    """The same for padding by zero elements."""
    names = {}
    for node in source.nodes:
        pads = source.constant(node, 1) if node.op == "Pad" else None
        if pads is not None and not pads.any() and node.output not in source.outputs:
            names[node.output] = node.inputs[0]
    _rename(source, names)


def _rename(source: Source, names: dict[str, str]) -> None:
    def final(name: str) -> str:
        while name in names:
            name = names[name]
        return name

    source.nodes = [replace(node, inputs=tuple(final(name) for name in node.inputs)) for node in source.nodes]


def add_bias(source: Source) -> None:
    """A vector added to a matrix product with constant weights becomes its bias."""
    uses, producers = source.uses(), source.producers()
    fixed = source.constants.keys() | stored(source)
    changed: dict[str, Node] = {}
    gone: set[str] = set()
    for node in source.nodes:
        for i in (0, 1) if node.op == "Add" and len(node.inputs) == 2 else ():
            product, vector = producers.get(node.inputs[i]), node.inputs[1 - i]
            if product is None or product.op != "MatMul" or uses[product.output] != 1 or product.get(BIAS):
                continue
            if product.inputs[1] in fixed and vector in fixed and _is_row(source, product, vector):
                attributes = {**product.attributes, BIAS: True}
                inputs = (*product.inputs[:2], vector)
                changed[node.output] = replace(product, inputs=inputs, outputs=node.outputs, attributes=attributes)
                gone.add(product.output)
                break
    source.nodes = [changed.get(n.output, n) for n in source.nodes if n.output not in gone]


def _is_row(source: Source, product: Node, vector: str) -> bool:
    """Whether a constant has one number for each column of a product, and no more axes than that has."""
    weights, shape = source.shape(product.inputs[1]), source.shape(vector)
    fits = shape[-1:] == weights[-1:] and set(shape[:-1]) <= {1}
    return len(weights) == 2 and fits and len(shape) <= len(source.shape(product.output))


def stored(source: Source) -> set[str]:
    """Values that are constants stored as integers."""
    return {n.output for n in source.nodes if n.op == "DequantizeLinear" and n.inputs[0] in source.constants}


def fuse_bounds(source: Source) -> None:
    """A bound on the result of an operator with no other reader becomes the operator's own."""
    uses, producers = source.uses(), source.producers()
    changed: dict[str, Node] = {}
    gone: set[str] = set()
    for node in source.nodes:
        name = activation(source, node)
        producer = producers.get(node.inputs[0]) if name else None
        if producer is None or producer.op not in FUSING or uses[producer.output] != 1 or producer.get(ACTIVATION):
            continue
        if source.dtype(producer.output) != "float32" or len(producer.outputs) != 1:
            continue
        producer = changed.get(producer.output, producer)
        changed[producer.output] = replace(producer, outputs=node.outputs, attributes={**producer.attributes, ACTIVATION: name})
        gone.add(node.output)
    source.nodes = [changed.get(n.output, n) for n in source.nodes if n.output not in gone]
