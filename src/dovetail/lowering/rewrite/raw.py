"""Raw 8-bit inputs (pixels) stand for reals of scale 1, so that no operator has to turn them into floats first."""

from __future__ import annotations

import numpy as np

from dovetail.lowering.rewrite.match import Graph
from dovetail.lowering.source import Node, Source

_BYTES = frozenset({"uint8", "int8"})
_MOVING = frozenset({"Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten"})


def as_reals(source: Source) -> None:
    """Cast of an 8-bit graph input to float → DequantizeLinear with scale 1 and zero point 0, which is the same.

    What quantises next then rescales integers, and a kernel of the delegate does the rest; CAST has none. An input that others
    read as plain integers too stays as it is.
    """
    uses, graph = source.uses(), Graph(source)

    def raw(name: str) -> bool:
        if source.dtype(name) not in _BYTES or uses[name] > 1:
            return False
        before = graph.producer(name, *_MOVING)
        return raw(before.inputs[0]) if before is not None else name in source.inputs

    for index, node in enumerate(source.nodes):
        if node.op == "Cast" and source.dtype(node.output) == "float32" and raw(node.inputs[0]):
            scale = source.add_constant(f"{node.output}/scale", np.ones((), np.float32))
            zero = source.add_constant(f"{node.output}/zero_point", np.zeros((), source.dtype(node.inputs[0])))
            source.nodes[index] = Node(op="DequantizeLinear", inputs=(node.inputs[0], scale, zero), outputs=node.outputs)
