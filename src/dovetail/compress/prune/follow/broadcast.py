"""Operands that meet position by position."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx_ir as ir

from dovetail.compress.prune.units import Labels
from dovetail.compress.prune.walk import Walk, describe, is_constant, rank, sizes


def broadcast(walk: Walk, node: ir.Node, values: Sequence[ir.Value | None], skip: Collection[int] = ()) -> None:
    """Labels a node's output from operands aligned at their last axes; axes in ``skip``, counted from -1, are left out.

    Units that meet are joined. An operand of size 1 meets nobody. Units that meet an axis of a fixed size have to stay.
    """
    present = [value for value in values if value is not None]
    out = rank(node.outputs[0])
    axes = [None if axis in skip else _along(walk, node, present, axis) for axis in range(-out, 0)]
    walk.set(node.outputs[0], axes)


def _along(walk: Walk, node: ir.Node, values: Sequence[ir.Value], axis: int) -> Labels | None:
    """Units on one axis, counted from the last one: -1."""
    reaching = [value for value in values if rank(value) >= -axis]
    labelled = [labels for value in reaching if (labels := walk.axes(value)[axis]) is not None]
    if not labelled:
        return None
    first = labelled[0]
    for other in labelled[1:]:
        walk.units.join(first, other)
    for value in reaching:
        known = sizes(value)
        assert known is not None
        if known[axis] == 1 or walk.axes(value)[axis] is not None:
            continue
        if is_constant(value):
            walk.claim(value, rank(value) + axis, first)
        else:
            walk.keep(first, f"{describe(node)} combines them with {value.name!r}, whose size is fixed")
    return first
