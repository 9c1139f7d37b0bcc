"""The state of one walk through a graph: which units lie on which axis of which value, and what has to change with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from dovetail.compress.graph import edit
from dovetail.compress.prune.units import Labels, Units
from dovetail.core.protocols import Array

Axes = tuple[Labels | None, ...]
"""Units of each axis of a value; ``None`` for an axis whose size stays."""

Kept = Callable[[Labels], Array]
"""Which positions of an axis stay, ``bool[n]``."""

Edit = Callable[[Kept], None]
"""Changes attributes and shape constants of one node after units have gone."""

Role = Literal["weight", "scale", "other"]
"""What a constant tells of a unit's importance: its weights, its scale in a batch normalisation, or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """An operator with weights.

    Attributes:
        node: the operator.
        weight: its weights.
        outputs: units of its output channels, ``None`` where their number is fixed.
        inputs: likewise of its input channels.
        makes: its output channels are its own; those of a depthwise convolution are its inputs'.
    """

    node: ir.Node
    weight: ir.Value
    outputs: Labels | None
    inputs: Labels | None
    makes: bool = True

    @property
    def name(self) -> str:
        """The operator's name."""
        return str(self.node.name)


class Walk:
    """Collects labels while the rules of :mod:`.follow` visit nodes in execution order.

    Attributes:
        units: the units met so far.
        places: constant → axis → units on it.
        roles: constant → what it tells of importance.
        layers: operators with weights, in execution order.
        edits: what else changes when units go.
        heads: units of axes that a reshape splits into heads and the rest, as in attention.
        averaged: units over which a layer normalisation takes its statistics.
        regions: parts of an axis of which something has to remain, as pieces of a Split.
    """

    def __init__(self) -> None:
        self.units = Units()
        self.places: dict[ir.Value, dict[int, Labels]] = {}
        self.roles: dict[ir.Value, Role] = {}
        self.layers: list[Layer] = []
        self.edits: list[Edit] = []
        self.heads: list[int] = []
        self.averaged: list[int] = []
        self.regions: list[Labels] = []
        self._axes: dict[ir.Value, Axes] = {}
        self._fixed: dict[tuple[ir.Value, int], str] = {}
        self._claimed: set[tuple[ir.Value, int]] = set()

    # -- values ----------------------------------------------------------------------------------------------------------

    def axes(self, value: ir.Value | None) -> Axes:
        """Units by axis; all ``None`` for a value that the walk has not labelled, and empty where its rank is unknown."""
        if value is None:
            return ()
        return self._axes.get(value) or (None,) * len(sizes(value) or ())

    def set(self, value: ir.Value, axes: Sequence[Labels | None]) -> None:
        """Labels a node's output. An axis of one position cannot lose it, so it counts as fixed."""
        self._axes[value] = tuple(None if units is None or len(units) < 2 else units for units in axes)

    def claim(self, value: ir.Value, axis: int, labels: Labels, role: Role = "other") -> None:
        """Puts units onto an axis of a constant; where others lie already, because it is read twice, they are joined."""
        if (value, axis) in self._fixed:
            self.units.keep(labels, self._fixed[value, axis])
        self._claimed.add((value, axis))
        there = self.places.setdefault(value, {}).setdefault(axis, labels)
        if there is not labels:
            self.units.join(there, labels)
        if self.roles.get(value, "other") == "other":
            self.roles[value] = role

    def fresh(self, value: ir.Value, axis: int, times: int = 1) -> Labels | None:
        """New units on an axis of a weight, each at ``times`` places at equal distances; those that lie there if any do."""
        size = constant_shape(value)[axis]
        if size // times < 2:
            return None
        there = self.places.get(value, {}).get(axis)
        labels = np.tile(self.units.new(size // times), times) if there is None else there
        if times > 1:
            self.units.tie(labels.reshape(times, -1))
        self.claim(value, axis, labels, "weight")
        return labels

    # -- what cannot be followed -----------------------------------------------------------------------------------------

    def keep(self, labels: Labels | None, reason: str) -> None:
        """These units have to stay."""
        if labels is not None:
            self.units.keep(labels, reason)

    def stop(self, node: ir.Node, reason: str | None = None) -> None:
        """Everything that a node reads has to stay as it is, bodies of control flow included; its outputs are fixed."""
        reason = reason or f"{describe(node)} cannot be followed"
        inner = [v for graph in subgraphs(node) for inside in graph.all_nodes() for v in inside.inputs]
        for value in (*node.inputs, *inner):
            if value is not None:
                self.fix(value, reason)

    def fix(self, value: ir.Value, reason: str) -> None:
        """A value has to keep its shape."""
        for labels in self.axes(value):
            self.keep(labels, reason)
        if is_constant(value):
            for axis in range(len(constant_shape(value))):
                self._fix_axis(value, axis, reason)

    def settle(self, node: ir.Node) -> None:
        """Axes of constants on which a node's rule put no units stay: another reader that shares them must not shrink them."""
        for value in node.inputs:
            if value is not None and is_constant(value):
                for axis in range(len(constant_shape(value))):
                    if (value, axis) not in self._claimed:
                        self._fix_axis(value, axis, f"{describe(node)} reads {value.name!r} as it is")
        self._claimed.clear()

    def _fix_axis(self, value: ir.Value, axis: int, reason: str) -> None:
        self.keep(self.places.get(value, {}).get(axis), reason)
        self._fixed.setdefault((value, axis), reason)

    # -- edits -----------------------------------------------------------------------------------------------------------

    def on_removal(self, change: Edit) -> None:
        """Registers what else has to change once units go."""
        self.edits.append(change)


def describe(node: ir.Node) -> str:
    """A node as messages name it."""
    return f"{node.op_type} {node.name!r}"


def subgraphs(node: ir.Node) -> list[ir.Graph]:
    """Bodies of a control-flow node."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found


def is_constant(value: ir.Value | None) -> bool:
    """An initialiser that no caller can replace."""
    return value is not None and value.is_initializer() and not value.is_graph_input() and value.const_value is not None


def constant_shape(value: ir.Value) -> tuple[int, ...]:
    """Sizes of an initialiser."""
    assert value.const_value is not None
    return tuple(int(size) for size in value.const_value.shape.numpy())


def sizes(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """Sizes of any value with ``None`` for symbolic ones; ``None`` when even the rank is unknown."""
    return constant_shape(value) if value is not None and is_constant(value) else edit.dims(value)


def rank(value: ir.Value | None) -> int:
    """Number of axes of a value whose rank is known."""
    known = sizes(value)
    assert known is not None
    return len(known)


def integers(value: ir.Value | None) -> list[int] | None:
    """A constant of integers as a flat list."""
    array = edit.constant(value)
    return None if array is None else [int(x) for x in np.asarray(array).reshape(-1)]


def set_integers(node: ir.Node, index: int, numbers: Sequence[int], like: Array | None = None) -> None:
    """Gives a node a constant of its own in place of one that others may share."""
    array = np.asarray(numbers, np.int64)
    value = edit.new_constant(node, array if like is None else array.astype(like.dtype), f"{node.name}_pruned_{index}")
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def counted(kept: Kept, labels: Labels) -> int:
    """How many positions stay."""
    return int(np.count_nonzero(kept(labels))) if len(labels) else 0
