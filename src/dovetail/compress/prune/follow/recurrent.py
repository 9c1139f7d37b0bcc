"""LSTM, GRU and RNN: a unit is one cell, with its rows in every gate and its column in the recurrent weights.

``W [D, G·H, I]``, ``R [D, G·H, H]``, ``B [D, 2·G·H]``, peepholes ``P [D, 3·H]``: ``D`` directions of equal size, whose cells go
in pairs, ``G`` gates, ``H`` cells, ``I`` inputs (ONNX operator definitions). A cell of tanh whose weights are zero answers 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from dovetail.compress.prune.units import Labels
from dovetail.compress.prune.walk import Layer, Walk, counted, describe, is_constant

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
PEEPHOLES = 3
W, R, B, FIRST_H, FIRST_C, P = 1, 2, 3, 5, 6, 7
"""Inputs by position."""


def recurrent(walk: Walk, node: ir.Node) -> None:
    """Cells go with their rows and columns; states that a caller holds keep all of them."""
    weight, recurrence = node.inputs[W], node.inputs[R]
    given = [value for index in (W, R, B, P) if (value := _input(node, index)) is not None]
    if weight is None or recurrence is None or not all(map(is_constant, given)):
        return walk.stop(node, f"{describe(node)} has weights that are computed")
    *along, inputs = walk.axes(node.inputs[0])
    for labels in along:
        walk.keep(labels, f"{describe(node)} goes along them")
    if inputs is not None:
        walk.claim(weight, 2, inputs, "weight")
    cells = walk.fresh(recurrence, 2)
    if cells is not None:
        _claim(walk, node, cells)
        walk.on_removal(lambda kept: node.attributes.add(ir.AttrInt64("hidden_size", counted(kept, cells))))
    for output in node.outputs:
        if output.shape is not None:
            walk.set(output, (*[None] * (len(output.shape) - 1), cells))
    walk.layers.append(Layer(node=node, weight=weight, outputs=cells, inputs=inputs))
    walk.layers.append(Layer(node=node, weight=recurrence, outputs=cells, inputs=cells))


def _claim(walk: Walk, node: ir.Node, cells: Labels) -> None:
    gates = GATES[node.op_type]
    for index, times in ((W, gates), (R, gates), (B, 2 * gates), (P, PEEPHOLES)):
        if (value := _input(node, index)) is not None:
            walk.claim(value, 1, np.tile(cells, times), "weight" if index in (W, R) else "other")
    for index in (FIRST_H, FIRST_C):
        state = _input(node, index)
        if state is None:
            continue
        *along, labels = walk.axes(state)
        for others in along:
            walk.keep(others, f"{describe(node)} goes along them")
        if is_constant(state):
            walk.claim(state, 2, cells)
        elif labels is not None:
            walk.units.join(labels, cells)
        else:
            walk.keep(cells, f"{describe(node)} starts from {state.name!r}, whose size is fixed")


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


TABLE: dict[str, Callable[[Walk, ir.Node], None]] = dict.fromkeys(GATES, recurrent)
