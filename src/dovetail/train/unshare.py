"""Gives layers back what exporters merged because it happened to be equal.

In a network that was never trained all scales are one and all biases and running means zero, and exporters store one tensor for
all of them, or pass it on by Identity. Trained as they stand, such layers could not part, and a bias would be a running mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

_OWN: Mapping[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2, 3, 4), "LayerNormalization": (1, 2), "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2), "Conv": (2,), "ConvTranspose": (2,), "Gemm": (2,),
}  # fmt: skip
"""Inputs that belong to one layer alone when all their elements are equal."""
_STATISTICS = (3, 4)
"""Those of batch normalisation that always do."""


def unshare(graph: GraphProto) -> None:
    """Stores a tensor of its own for each such input, in place; a graph without merged ones stays as it is."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    aliases = {n.output[0]: n for n in graph.node if n.op_type == "Identity" and n.input[0] in tensors}
    readers: dict[str, list[tuple[NodeProto, int, bool]]] = {}  # stored tensor → who reads it, and whether alone
    counts: dict[str, int] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            counts[name] = counts.get(name, 0) + 1
            stored = aliases[name].input[0] if name in aliases else name
            if stored in tensors and node.output[0] not in aliases:
                readers.setdefault(stored, []).append((node, index, index in _OWN.get(node.op_type, ())))
    outputs = {value.name for value in graph.output}
    for stored, found in readers.items():
        own = [(node, index) for node, index, alone in found if alone]
        merged = len(found) > 1 and bool(own)
        if not merged or not (_uniform(tensors[stored]) or any(i in _STATISTICS for n, i in own if len(n.input) == 5)):
            continue
        keeper = next((i for i, (node, index) in enumerate(own) if node.input[index] == stored), 0)
        shared = len(own) < len(found)
        for number, (node, index) in enumerate(own):
            name = node.input[index]
            if number == keeper and not shared:
                node.input[index] = stored
                continue
            single = name in aliases and counts[name] == 1 and name not in outputs
            copy = TensorProto()
            copy.CopyFrom(tensors[stored])
            copy.name = name if single else f"{stored}_{number}"
            if single:
                graph.node.remove(aliases[name])
            node.input[index] = copy.name
            graph.initializer.append(copy)


def _uniform(tensor: TensorProto) -> bool:
    array = numpy_helper.to_array(tensor)
    return array.size > 0 and bool(np.all(array == array.flat[0]))
