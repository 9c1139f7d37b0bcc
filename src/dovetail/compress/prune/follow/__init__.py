"""How units get through each operator: one function per operator, collected in :data:`TABLE`.

A function reads the labels of a node's inputs, labels its outputs, puts units on the axes of its constants, and registers what
else changes when units go. What it cannot follow it stops, with the reason: then those units stay, and nothing breaks.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from dovetail.compress.prune.follow import layers, layout, pointwise, recurrent, reshape
from dovetail.compress.prune.walk import Walk, sizes

Rule = Callable[[Walk, ir.Node], None]

TABLE: dict[str, Rule] = {**layers.TABLE, **layout.TABLE, **pointwise.TABLE, **recurrent.TABLE, **reshape.TABLE}


def follow(walk: Walk, node: ir.Node) -> None:
    """Takes the walk past one node."""
    values = [v for v in node.inputs if v is not None] + [v for v in node.outputs if v.uses() or v.is_graph_output()]
    known = node.domain in ("", "ai.onnx") and all(sizes(value) is not None for value in values)
    rule = TABLE.get(node.op_type) if known else None
    if rule is None:
        walk.stop(node)
    else:
        rule(walk, node)
    walk.settle(node)
