"""Steps on the ONNX graph before it is lowered: what the runtime's operators carry as attributes moves into them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dovetail.core.protocols import Array
from dovetail.lowering.source import Node, Source

FUSING = frozenset({"Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "MaxPool", "AveragePool"})
"""Operators that apply a bound to their result at no cost."""
ACTIVATION = "activation"
BIAS = "bias"
_BOUNDS = {(0.0, np.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}
_NOTHING = frozenset({"Identity", "Dropout"})
_ROUNDED = 1e-6


def rewrite(source: Source) -> None:
    """All steps, in order; the graph is changed in place."""
    for step in (_skip_nothing, _skip_pad_of_nothing, _add_bias, _fuse_bounds):
        step(source)
        source.drop_dead()


def bounds(source: Source, node: Node) -> tuple[float, float] | None:
    """Lower and upper bound that a node applies to its input; ``None`` where it does something else."""
    if node.op == "Relu":
        return 0.0, np.inf
    if node.op != "Clip":
        return None
    limits = []
    for index, default in ((1, -np.inf), (2, np.inf)):
        value = source.constant(node, index)
        if node.has(index) and (value is None or value.size != 1):
            return None
        limits.append(default if value is None else float(value.reshape(())))
    return limits[0], limits[1]


def activation(source: Source, node: Node) -> str | None:
    """Name of the fused activation that a node is; ``None`` where there is none."""
    found = bounds(source, node)
    return None if found is None else _BOUNDS.get(found)


def _replaced(source: Source, change: Callable[[Node], Node | None]) -> None:
    source.nodes = [new for node in source.nodes if (new := change(node)) is not None]


def _rename(source: Source, names: dict[str, str]) -> None:
    def final(name: str) -> str:
        while name in names:
            name = names[name]
        return name

    source.nodes = [replace(node, inputs=tuple(final(name) for name in node.inputs)) for node in source.nodes]


def _skip_nothing(source: Source) -> None:
    """Readers of an operator that changes nothing read its input, unless it makes an output of the graph."""
    names = {}
    kept = []
    for node in source.nodes:
        same_type = node.op == "Cast" and source.dtype(node.inputs[0]) == source.dtype(node.output)
        if (node.op in _NOTHING or same_type) and not set(node.outputs) & set(source.outputs):
            names[node.output] = node.inputs[0]
        else:
            kept.append(node)
    source.nodes = kept
    _rename(source, names)


def _skip_pad_of_nothing(source: Source) -> None:
    names = {}
    for node in source.nodes:
        pads = source.constant(node, 1) if node.op == "Pad" else None
        if pads is not None and not pads.any() and node.output not in source.outputs:
            names[node.output] = node.inputs[0]
    _rename(source, names)


def _add_bias(source: Source) -> None:
    """A vector added to a matrix product with constant weights becomes its bias."""
    uses, producers = source.uses(), source.producers()
    changed: dict[str, Node] = {}
    gone: set[str] = set()
    for node in source.nodes:
        for i in (0, 1) if node.op == "Add" and len(node.inputs) == 2 else ():
            product, vector = producers.get(node.inputs[i]), node.inputs[1 - i]
            if product is None or product.op != "MatMul" or uses[product.output] != 1 or product.get(BIAS):
                continue
            if _is_row(source, product, vector):
                attributes = {**product.attributes, BIAS: True}
                inputs = (*product.inputs[:2], vector)
                changed[node.output] = replace(product, inputs=inputs, outputs=node.outputs, attributes=attributes)
                gone.add(product.output)
                break
    source.nodes = [changed.get(n.output, n) for n in source.nodes if n.output not in gone]


def _is_row(source: Source, product: Node, vector: str) -> bool:
    """Whether the product has constant weights and the vector one constant number a column."""
    if vector not in source.constants and vector not in _dequantised(source):
        return False
    weights = product.inputs[1]
    is_constant = weights in source.constants or weights in _dequantised(source)
    columns = source.shape(weights)[-1]
    shape = source.shape(vector)
    return is_constant and len(source.shape(weights)) == 2 and shape[-1:] == (columns,) and set(shape[:-1]) <= {1}


def _dequantised(source: Source) -> set[str]:
    return {n.output for n in source.nodes if n.op == "DequantizeLinear" and n.inputs[0] in source.constants}


def _fuse_bounds(source: Source) -> None:
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
        changed[producer.output] = replace(
            producer, outputs=node.outputs, attributes={**producer.attributes, ACTIVATION: name}
        )
        gone.add(node.output)
    source.nodes = [changed.get(n.output, n) for n in source.nodes if n.output not in gone]


def as_float(value: Array) -> Array:
    """A constant in the type that the runtime computes in."""
    return value.astype(np.float32, copy=False)
