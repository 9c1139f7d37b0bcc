"""Dependency groups: which channels of which layers can only go together, and which cannot go.

Every position of every axis carries a unit (:mod:`.units`). A walk in execution order takes the units of each layer's outputs
through the operators behind it and joins those that meet, as two channels do that are added. Units that nothing holds form the
groups to choose from. The idea is that of DepGraph (Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023), on
single positions instead of whole axes, so that padded shortcuts, concatenations and heads need no special case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dovetail.compress.prune.follow import follow
from dovetail.compress.prune.follow.recurrent import GATES
from dovetail.compress.prune.units import Labels
from dovetail.compress.prune.walk import Kept, Layer, Walk, constant_shape
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Array

Kind = Literal["channels", "neurons", "heads"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Units that are alike: outputs of the same layers, any of which may go without the others.

    Attributes:
        name: the first layer's name; ``#2`` and so on for further groups of the same layer.
        layers: names of the layers whose outputs they are; more than one where layers are coupled.
        units: which they are, in the order of the first layer's channels.
        width: channels of the first layer that one unit stands for; the size of a head for heads.
        kind: ``heads`` of attention, ``neurons`` of matrix products, ``channels`` of convolutions.
        reason: why they have to stay; ``None`` when they may go.
        averaged: a layer normalisation takes its statistics over them, so that even channels of zeros count.
    """

    name: str
    layers: tuple[str, ...]
    units: tuple[int, ...]
    width: int
    kind: Kind
    reason: str | None
    averaged: bool

    def __len__(self) -> int:
        return len(self.units)


class Coupling:
    """The groups of one graph; :meth:`remove` takes units out of it, once.

    Args:
        graph_model: a prepared graph (:func:`.graph.prepare`). Units of equal graphs have equal numbers.
    """

    def __init__(self, graph_model: ir.Model) -> None:
        self.model = graph_model
        self.walk = Walk()
        for node in graph_model.graph:
            follow(self.walk, node)
        for output in graph_model.graph.outputs:
            self.walk.fix(output, f"graph output {output.name!r} shows them")
        self.groups = _groups(self.walk)

    @property
    def layers(self) -> list[Layer]:
        """Operators with weights, in execution order."""
        return self.walk.layers

    def groups_of(self, name: str) -> list[Group]:
        """The groups of that name, or all that the layer of that name has a part in.

        Raises:
            InputError: there are none.
        """
        found = [g for g in self.groups if g.name == name] or [g for g in self.groups if name in g.layers]
        if not found:  # a depthwise convolution, whose channels are those of another layer
            passed = [layer.outputs for layer in self.layers if layer.name == name and layer.outputs is not None]
            units = {unit for labels in passed for unit in self.walk.units.roots(labels).tolist()}
            found = [g for g in self.groups if not units.isdisjoint(g.units)]
        if not found:
            raise InputError(f"no layer is named {name!r}", hint=f"known: {', '.join(g.name for g in self.groups)}")
        return found

    def kept(self, units: Collection[int]) -> Kept:
        """Which positions of an axis stay when these units go."""
        gone = np.unique(self.walk.units.roots(np.fromiter(units, np.int64)))
        return lambda labels: ~np.isin(self.walk.units.roots(labels), gone)

    def remove(self, units: Collection[int]) -> None:
        """Takes units out of every constant and attribute that knows of them.

        Raises:
            ModelError: a unit has to stay, or an axis would be left without positions.
        """
        reasons = self.walk.units.reasons()
        held = self.walk.units.marked(units) & set(reasons)
        if held:
            raise ModelError(f"channels that have to stay: {reasons[min(held)]}")
        kept = self.kept(units)
        for name, labels in self._axes():
            if not kept(labels).any():
                raise ModelError(f"every channel of {name!r} would go", hint="prune less")
        for value, places in self.walk.places.items():
            _shrink(value, {axis: kept(labels) for axis, labels in places.items()})
        for change in self.walk.edits:
            change(kept)
        for node in self.model.graph:
            for output in node.outputs:
                if not output.is_graph_output():
                    output.shape = None
        RemoveUnusedNodesPass()(self.model)

    def _axes(self) -> list[tuple[str, Labels]]:
        places = [(str(value.name), labels) for value, axes in self.walk.places.items() for labels in axes.values()]
        return places + [("a piece of a Split or Slice", labels) for labels in self.walk.regions]


def _shrink(value: ir.Value, stays: dict[int, Array]) -> None:
    assert value.const_value is not None
    if all(mask.all() for mask in stays.values()):
        return
    array = value.const_value.numpy()
    for axis, mask in stays.items():
        array = np.compress(mask, array, axis=axis)
    value.const_value = ir.tensor(np.ascontiguousarray(array), name=value.name)
    value.shape = ir.Shape(array.shape)


def _groups(walk: Walk) -> list[Group]:
    """Sorts units by the layers that make them, the pieces they lie in, and whether they may go."""
    makers = [layer for layer in walk.layers if layer.makes and layer.outputs is not None]
    members: dict[int, Counter[int]] = {}
    for index, labels in enumerate([*(layer.outputs for layer in makers), *walk.regions]):
        assert labels is not None
        for root in walk.units.roots(labels).tolist():
            members.setdefault(root, Counter())[index] += 1
    reasons, heads, averaged = walk.units.reasons(), walk.units.marked(walk.heads), walk.units.marked(walk.averaged)
    alike: dict[tuple[object, ...], list[int]] = {}
    for root, counts in members.items():
        if min(counts) < len(makers):
            key = (tuple(sorted(counts.items())), root in reasons, root in heads, root in averaged)
            alike.setdefault(key, []).append(root)
    named: Counter[str] = Counter()
    return [_group(makers, members[units[0]], units, reasons, heads, averaged, named) for units in alike.values()]


def _group(
    makers: list[Layer],
    counts: Counter[int],
    units: list[int],
    reasons: dict[int, str],
    heads: set[int],
    averaged: set[int],
    named: Counter[str],
) -> Group:
    layers = [makers[index] for index in sorted(counts) if index < len(makers)]
    first = layers[0].name
    named[first] += 1
    products = all(layer.node.op_type in ("MatMul", "Gemm") for layer in layers)
    return Group(
        name=first if named[first] == 1 else f"{first}#{named[first]}",
        layers=tuple(dict.fromkeys(layer.name for layer in layers)),
        units=tuple(units),
        width=counts[min(counts)],
        kind="heads" if products and units[0] in heads else "neurons" if products else "channels",
        reason=reasons.get(units[0]),
        averaged=units[0] in averaged,
    )


def width(layer: Layer) -> int:
    """Output channels of a layer as its weights are now."""
    shape = constant_shape(layer.weight)
    if layer.node.op_type == "Conv":
        return shape[0]
    if layer.node.op_type == "ConvTranspose":
        return shape[1] * int(layer.node.attributes.get_int("group", 1))
    if layer.node.op_type == "Gemm":
        return shape[0] if layer.node.attributes.get_int("transB", 0) else shape[1]
    if layer.node.op_type in GATES:
        return shape[1] // GATES[layer.node.op_type]
    return shape[-1] if layer.node.op_type == "Gather" or layer.node.inputs[1] is layer.weight else shape[0]
