"""Arithmetic on sizes that are known: exporters read them from the shape of a tensor, even where the graph states them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dovetail.compress.graph.edit import constant, dims, made_by, new_constant
from dovetail.core.protocols import Array


def known_sizes(node: ir.Node) -> bool:
    """A Slice or Gather that takes nothing but known sizes out of a Shape → a constant.

    The shapes must have been inferred: those that a file states may be wrong.
    """
    shape = made_by(node.inputs[0], "Shape") if node.domain == "" and node.op_type in ("Slice", "Gather") else None
    if shape is None or not isinstance(node.graph, ir.Graph) or node.outputs[0].is_graph_output():
        return False
    known, read = dims(shape.inputs[0]), shape.inputs[0]
    if known is None or read is None or read.is_graph_output():  # whose shape the file states
        return False
    places = np.arange(len(known))[shape.attributes.get_int("start", 0) : shape.attributes.get_int("end", len(known))]
    chosen = _chosen(node, places)
    sizes = [] if chosen is None else [known[place] for place in chosen.reshape(-1)]
    if chosen is None or None in sizes:
        return False
    found = np.array(sizes, np.int64).reshape(chosen.shape)
    node.outputs[0].replace_all_uses_with(new_constant(node, found, f"{node.outputs[0].name}_known"))
    return True


def _chosen(node: ir.Node, places: Array) -> Array | None:
    """What the operator takes of ``places``; ``None`` where that depends on the input."""
    given = [constant(value) for value in node.inputs[1:]]
    if any(array is None for array in given):
        return None
    if node.op_type == "Gather":
        return None if given[0] is None else places[given[0]]
    start, end, step = (1 if i >= len(given) else int(np.asarray(given[i]).reshape(-1)[0]) for i in (0, 1, 3))
    return places[start:end:step] if step > 0 else None
