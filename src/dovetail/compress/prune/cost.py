"""What a layer costs as a function of how many channels it has: enough to rank steps of pruning, no forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dovetail.compress.prune.coupling import Coupling, Group, width
from dovetail.compress.prune.follow.recurrent import GATES, W
from dovetail.compress.prune.units import Labels
from dovetail.compress.prune.walk import Layer, constant_shape, sizes
from dovetail.core.protocols import Array

FLOP_PER_S = 5e10
"""Assumed rate of one core's float32 arithmetic. Only its ratio to the next number decides, and that only among steps."""
BYTES_PER_S = 1e10
"""Assumed rate at which operands and results move."""
ELEMENT_BYTES = 4
ASSUMED_LENGTH = 128
"""Size of an axis other than the first that neither the graph nor the samples tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Costs of all layers at any numbers of units, in closed form. Arrays have one row per layer.

    Attributes:
        flop: arithmetic of the unpruned layers, multiply-add = 2, ``[layers]``.
        weights, reads, writes: bytes of the unpruned layers, ``[layers]``.
        outputs: output channels that one unit of each group stands for, ``[layers, groups]``.
        inputs: likewise of input channels.
        fixed_outputs: output channels that belong to no group, ``[layers]``.
        fixed_inputs: likewise of input channels.
        depthwise: layers whose weights have no input axis.
        full: units of the unpruned groups, ``[groups]``.
    """

    flop: Array
    weights: Array
    reads: Array
    writes: Array
    outputs: Array
    inputs: Array
    fixed_outputs: Array
    fixed_inputs: Array
    depthwise: Array
    full: Array

    def flops(self, units: Array) -> float:
        """Arithmetic of all layers when each group has ``units`` units left, multiply-add = 2."""
        out, into = self._shares(units)
        return float((self.flop * out * into).sum())

    def seconds(self, units: Array) -> float:
        """Arithmetic and movement at the assumed rates."""
        out, into = self._shares(units)
        moved = self.weights * out * into + self.reads * np.where(self.depthwise, out, into) + self.writes * out
        return self.flops(units) / FLOP_PER_S + float(moved.sum()) / BYTES_PER_S

    def _shares(self, units: Array) -> tuple[Array, Array]:
        out = (self.fixed_outputs + self.outputs @ units) / (self.fixed_outputs + self.outputs @ self.full)
        into = (self.fixed_inputs + self.inputs @ units) / (self.fixed_inputs + self.inputs @ self.full)
        return out, np.where(self.depthwise, 1.0, into)


def of(coupling: Coupling, groups: Sequence[Group], lengths: Mapping[str, int]) -> Costs:
    """Costs of a graph's layers.

    Args:
        coupling: the graph, unpruned.
        groups: those whose sizes will vary.
        lengths: symbolic dimension → size; 1 for a first axis and :data:`ASSUMED_LENGTH` for others that are not named.
    """
    rows = [_row(coupling, layer, groups, lengths) for layer in coupling.layers if layer.node.op_type != "Gather"]
    columns = [np.array(column, np.float64) for column in zip(*rows, strict=True)] if rows else [np.zeros((0, 0))] * 9
    flop, weights, reads, writes, outputs, inputs, fixed_outputs, fixed_inputs, depthwise = columns
    return Costs(
        flop=flop, weights=weights, reads=reads, writes=writes, outputs=outputs, inputs=inputs, fixed_outputs=fixed_outputs,
        fixed_inputs=fixed_inputs, depthwise=depthwise > 0, full=np.array([len(g) for g in groups], np.float64),
    )  # fmt: skip


def _row(coupling: Coupling, layer: Layer, groups: Sequence[Group], lengths: Mapping[str, int]) -> tuple[object, ...]:
    data = layer.node.inputs[1] if layer.node.inputs[0] is layer.weight else layer.node.inputs[0]
    result = layer.node.outputs[0]
    weights = int(np.prod(constant_shape(layer.weight)))
    read, written = elements(data, lengths), elements(result, lengths)
    channels = width(layer)
    if layer.node.op_type == "ConvTranspose":
        positions = read / constant_shape(layer.weight)[0]
    elif layer.node.op_type in GATES:
        own = layer.node.inputs[W]
        assert own is not None
        positions = read / constant_shape(own)[2]  # steps of all sequences; the weights hold both directions
    else:
        positions = written / channels
    outputs = _members(coupling, layer.outputs, groups)
    inputs = _members(coupling, layer.inputs, groups)
    flop = 2.0 * weights * positions
    fixed_out = max(channels - sum(n * len(g) for n, g in zip(outputs, groups, strict=True)), 0)
    fixed_in = 1.0 if layer.inputs is None else len(layer.inputs) - sum(n * len(g) for n, g in zip(inputs, groups, strict=True))
    moved = tuple(float(ELEMENT_BYTES * count) for count in (weights, read, written))
    return flop, *moved, outputs, inputs, float(fixed_out), float(fixed_in), float(not layer.makes)


def _members(coupling: Coupling, labels: Labels | None, groups: Sequence[Group]) -> list[float]:
    """Positions of an axis per unit of each group."""
    if labels is None:
        return [0.0] * len(groups)
    roots = coupling.walk.units.roots(labels)
    return [float(np.isin(roots, group.units).sum()) / len(group) for group in groups]


def elements(value: ir.Value | None, lengths: Mapping[str, int]) -> int:
    """Number of elements of a value, symbolic sizes resolved."""
    known = None if value is None or value.shape is None else list(value.shape)
    if value is None or known is None:
        return int(np.prod([size or 1 for size in sizes(value) or ()]))
    count = 1
    for axis, size in enumerate(known):
        default = 1 if axis == 0 else ASSUMED_LENGTH
        count *= size if isinstance(size, int) else lengths.get(str(size.value), default)
    return count
