"""The ways in which one layer becomes several smaller ones: what each rank costs and keeps, and the operators that it gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dovetail.compress import factors
from dovetail.compress.factors import Root, Spectrum
from dovetail.compress.graph.edit import constant, new_constant, new_node, replace
from dovetail.compress.moments import as_rows
from dovetail.core.protocols import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One layer at one rank.

    Attributes:
        kind: ``svd``, ``channel``, ``spatial`` or ``tucker``.
        ranks: one, or for ``tucker`` those of the output and of the input channels.
        kept: share of the energy kept, for ``tucker`` at least.
        macs: multiply-adds per place of the layer's output.
    """

    kind: str
    ranks: tuple[int, ...]
    kept: float
    macs: float

    def __str__(self) -> str:
        return f"{self.kind} {'×'.join(map(str, self.ranks))}"


class Split(ABC):
    """A way to split one layer."""

    kind: str

    def __init__(self, node: ir.Node, weight: Array, moments: Array | None) -> None:
        """Takes a layer with weights as stored and, where known, ``[features, features]`` second moments of what it reads."""
        self.node, self.weight, self.moments = node, weight.astype(np.float64), moments

    @property
    def macs(self) -> float:
        """Multiply-adds of the layer as it is, per place of its output."""
        return float(self.weight.size)

    @abstractmethod
    def choices(self, lanes: int) -> list[Choice]:
        """All ranks that are multiples of ``lanes``."""

    @abstractmethod
    def pieces(self, ranks: Sequence[int]) -> list[ir.Node]:
        """Operators in the layer's place, with their weights registered in its graph."""

    def _weight(self, array: Array, part: str) -> ir.Value:
        dtype = np.asarray(constant(self.node.inputs[1])).dtype
        return new_constant(self.node, array.astype(dtype), f"{self.node.name}.{part}")

    def _conv(self, source: ir.Value | None, array: Array, part: str, *, bias: bool = False, **attributes: Any) -> ir.Node:
        """A convolution; only the last piece of a layer has its bias."""
        inputs = [source, self._weight(array, part), *(self.node.inputs[2:] if bias else ())]
        like = self.node.outputs[0] if bias else None
        node = new_node("Conv", inputs, {"kernel_shape": list(array.shape[2:]), **attributes}, like=like)
        node.name = f"{self.node.name}.{part}"
        return node


class Svd(Split):
    """MatMul, Gemm and 1×1 convolutions: two of their kind."""

    kind = "svd"

    @cached_property
    def spectrum(self) -> Spectrum:
        """Of the weights as ``[outputs, features]``."""
        rows = as_rows(self.node, self.weight)
        assert rows is not None
        return Spectrum.of(rows[0], Root.of(self.moments))

    def choices(self, lanes: int) -> list[Choice]:
        """The inner width."""
        outputs, features = self.spectrum.left.shape[0], self.spectrum.right.shape[1]
        inner = outputs + features
        return [self._choice(r, float(r * inner)) for r in range(lanes, self.spectrum.full + 1, lanes)]

    def _choice(self, rank: int, macs: float) -> Choice:
        return Choice(kind=self.kind, ranks=(rank,), kept=float(self.spectrum.energy[rank]), macs=macs)

    def pieces(self, ranks: Sequence[int]) -> list[ir.Node]:
        """Into the inner width, and out of it with bias and scales."""
        left, right = self.spectrum.at(ranks[0])
        node = self.node
        if node.op_type == "Conv":
            ones = (1,) * (self.weight.ndim - 2)
            first = self._conv(node.inputs[0], right.reshape(*right.shape, *ones), "reduce", **_kept(node, "strides", "pads"))
            return [first, self._conv(first.outputs[0], left.reshape(*left.shape, *ones), "expand", bias=True)]
        if node.op_type == "MatMul":
            first = new_node("MatMul", [node.inputs[0], self._weight(right.T, "reduce")])
            last = new_node("MatMul", [first.outputs[0], self._weight(left.T, "expand")], like=node.outputs[0])
        else:
            first = new_node("Gemm", [node.inputs[0], self._weight(right, "reduce")], {"transB": 1})
            operands = [first.outputs[0], self._weight(left, "expand"), *node.inputs[2:]]
            last = new_node("Gemm", operands, {"transB": 1, **_kept(node, "alpha", "beta")}, like=node.outputs[0])
        first.name, last.name = f"{node.name}.reduce", f"{node.name}.expand"
        return [first, last]


class Channel(Svd):
    """A k×k convolution to few channels, then a 1×1 one to all (Denton et al., 2014; Zhang et al., 2016)."""

    kind = "channel"

    def choices(self, lanes: int) -> list[Choice]:
        """The channels between."""
        inner = self.weight.shape[0] + int(np.prod(self.weight.shape[1:]))
        return [self._choice(r, float(r * inner)) for r in range(lanes, self.spectrum.full + 1, lanes)]

    def pieces(self, ranks: Sequence[int]) -> list[ir.Node]:
        """The layer with fewer outputs, then 1×1."""
        left, right = self.spectrum.at(ranks[0])
        shape = self.weight.shape
        geometry = _kept(self.node, "strides", "pads", "dilations", "auto_pad")
        first = self._conv(self.node.inputs[0], right.reshape(-1, *shape[1:]), "reduce", **geometry)
        ones = (1,) * (self.weight.ndim - 2)
        return [first, self._conv(first.outputs[0], left.reshape(*left.shape, *ones), "expand", bias=True)]


class Spatial(Split):
    """A k×1 convolution, then a 1×k one (Jaderberg, Vedaldi, Zisserman, "Speeding up CNNs with Low Rank Expansions", 2014)."""

    kind = "spatial"

    @cached_property
    def spectrum(self) -> Spectrum:
        """Of the weights as ``[out · columns, in · rows]``."""
        _, inputs, rows, columns = self.weight.shape
        moments = self.moments
        if moments is not None:
            whole = moments.reshape(inputs, rows, columns, inputs, rows, columns)
            moments = np.einsum("iawjbw->iajb", whole).reshape(inputs * rows, inputs * rows) / columns
        return Spectrum.of(factors.spatial_matrix(self.weight), Root.of(moments))

    def choices(self, lanes: int) -> list[Choice]:
        """The channels between."""
        out, inputs, rows, columns = self.weight.shape
        across = self.node.attributes.get_ints("strides", [1, 1])[1]
        inner = inputs * rows * across + out * columns
        energy = self.spectrum.energy
        return [
            Choice(kind=self.kind, ranks=(r,), kept=float(energy[r]), macs=float(r * inner))
            for r in range(lanes, self.spectrum.full + 1, lanes)
        ]

    def pieces(self, ranks: Sequence[int]) -> list[ir.Node]:
        """Down the columns, then along the rows."""
        first_kernel, second_kernel = factors.spatial_kernels(*self.spectrum.at(ranks[0]), self.weight.shape)
        first = self._conv(self.node.inputs[0], first_kernel, "columns", **self._axis(0))
        return [first, self._conv(first.outputs[0], second_kernel, "rows", bias=True, **self._axis(1))]

    def _axis(self, axis: int) -> dict[str, Any]:
        """Stride, padding and dilation of one axis alone."""
        get = self.node.attributes.get_ints
        strides, dilations, pads = [1, 1], [1, 1], [0, 0, 0, 0]
        strides[axis] = get("strides", [1, 1])[axis]
        dilations[axis] = get("dilations", [1, 1])[axis]
        given = get("pads", [0, 0, 0, 0])
        pads[axis], pads[axis + 2] = given[axis], given[axis + 2]
        auto = self.node.attributes.get_string("auto_pad", "NOTSET")
        padding: dict[str, Any] = {"pads": pads} if auto == "NOTSET" else {"auto_pad": auto}
        return {"strides": strides, "dilations": dilations, **padding}


class Tucker(Split):
    """1×1 to few channels, k×k among few, 1×1 to all (Kim et al., ICLR 2016, arXiv:1511.06530)."""

    kind = "tucker"

    @cached_property
    def root(self) -> Root | None:
        """Of the input channels' second moment, the mean over the kernel's places."""
        if self.moments is None:
            return None
        inputs = self.weight.shape[1]
        whole = self.moments.reshape(inputs, -1, inputs, self.moments.shape[0] // inputs)
        return Root.of(np.einsum("iaja->ij", whole) / whole.shape[1])

    def choices(self, lanes: int) -> list[Choice]:
        """Both inner widths; the energy is that of the higher-order SVD's bound, which iteration improves."""
        out, inputs = self.weight.shape[:2]
        kernel, before = int(np.prod(self.weight.shape[2:])), _between(self.node)
        of_out, of_in = factors.tucker_energies(self.weight, self.root)
        return [
            Choice(
                kind=self.kind,
                ranks=(a, b),
                kept=max(0.0, float(of_out[a] + of_in[b] - 1)),
                macs=float(inputs * b * before + a * b * kernel + a * out),
            )
            for a in range(lanes, min(out, len(of_out) - 1) + 1, lanes)
            for b in range(lanes, min(inputs, len(of_in) - 1) + 1, lanes)
        ]

    def pieces(self, ranks: Sequence[int]) -> list[ir.Node]:
        """Reduce, core, expand."""
        found = factors.tucker(self.weight, (ranks[0], ranks[1]), self.root)
        ones = (1,) * (self.weight.ndim - 2)
        first = self._conv(self.node.inputs[0], found.inputs.T.reshape(ranks[1], -1, *ones), "reduce")
        geometry = _kept(self.node, "strides", "pads", "dilations", "auto_pad")
        core = self._conv(first.outputs[0], found.core, "core", **geometry)
        return [first, core, self._conv(core.outputs[0], found.out.reshape(*found.out.shape, *ones), "expand", bias=True)]


def splits(node: ir.Node, convolution: str, moments: Array | None) -> list[Split]:
    """The ways to split a layer; none where it has no constant weights of its own, or groups.

    Args:
        node: any operator.
        convolution: ``auto``, ``tucker``, ``spatial``, ``channel`` or ``keep``.
        moments: ``[features, features]`` of what it reads, ``None`` where unknown.
    """
    weight = constant(node.inputs[1]) if node.domain == "" and len(node.inputs) > 1 else None
    if weight is None or weight.dtype.kind != "f" or not np.isfinite(weight).all():
        return []
    if node.op_type != "Conv":
        return [] if as_rows(node, weight) is None else [Svd(node, weight, moments)]
    if convolution == "keep" or node.attributes.get_int("group", 1) != 1:
        return []
    if int(np.prod(weight.shape[2:])) == 1:
        return [Svd(node, weight, moments)]
    kinds: dict[str, type[Split]] = {"channel": Channel, "tucker": Tucker}
    if weight.ndim == 4 and min(weight.shape[2:]) > 1:
        kinds["spatial"] = Spatial
    return [kind(node, weight, moments) for name, kind in kinds.items() if convolution in ("auto", name)]


def apply(graph_model: ir.Model, chosen: Mapping[str, tuple[Split, Choice]]) -> None:
    """Replaces layers, given by name, in a graph that may be a copy of the one that the splits were made for."""
    nodes = {node.name: node for node in graph_model.graph}
    for name, (split, choice) in chosen.items():
        own = copy(split)
        own.node = nodes[name]
        replace(own.node, *own.pieces(choice.ranks))
    RemoveUnusedNodesPass()(graph_model)


def _between(node: ir.Node) -> float:
    """Places of a convolution's input per place of its output: what a layer in front of the strides has to compute."""
    return float(np.prod(node.attributes.get_ints("strides", [1])))


def _kept(node: ir.Node, *names: str) -> dict[str, Any]:
    """Attributes to hand on as they are."""
    return {name: node.attributes[name].value for name in names if name in node.attributes}
