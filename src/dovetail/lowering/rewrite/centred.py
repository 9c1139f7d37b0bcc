"""Integers of 16 bits whose zero stands off the middle become such as LiteRT takes: signed, with zero at 0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.rewrite.build import new_value
from dovetail.lowering.rewrite.fusing import FUSING
from dovetail.lowering.rewrite.match import Graph
from dovetail.lowering.rewrite.terms import activation, bounds
from dovetail.lowering.source import Node, Source

MIDDLE = {"int16": 0, "uint16": 32768}
"""Type of 16 bits → the integer in its middle."""
_GREATEST = 32767
_PAIR = frozenset({"QuantizeLinear", "DequantizeLinear"})
_MOVES = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})
"""What may stand between a QuantizeLinear and its DequantizeLinear."""
_CHOOSES = _MOVES | {"Slice", "Split", "Gather", "MaxPool", "GlobalMaxPool", "Expand", "Tile", "Identity", "DepthToSpace"}
"""Operators whose results are among the numbers of their first operand."""
_JOINING = frozenset({"Add", "Sub", "Mul", "Max", "Min", "Concat", "Where"})
"""Operators that compute in integers on a constant beside a computed value."""
_FIXED = {"Sigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
Range = tuple[float, float]
_ANY: Range = (-np.inf, np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """16 bits as the model has them."""

    scale: float
    zero: int
    dtype: str

    @property
    def range(self) -> Range:
        """The least and the greatest real."""
        limits = np.iinfo(self.dtype)
        return (limits.min - self.zero) * self.scale, (limits.max - self.zero) * self.scale

    @property
    def centred(self) -> float:
        """The scale that reaches as far with zero in the middle."""
        return max(map(abs, self.range)) / _GREATEST


def centre(source: Source) -> None:
    """Gives such pairs of quantisation a scale that reaches as far on both sides.

    What the old range cut off stays cut off by a bound, since quantisers leave a Relu out where the range starts at zero. Steps
    grow up to twofold. Constants that no integers meet become the reals that they stand for.

    Raises:
        ModelError: the integers are an input or output of the model, or it computes on them as they are.
    """
    graph, nodes, widest = Graph(source), [], 0.0
    for node in source.nodes:
        grid = _off_centre(source, node)
        if grid is None:
            nodes.append(node)
            continue
        constant = node.op == "DequantizeLinear" and node.inputs[0] in source.constants
        if constant and not _meets_integers(source, graph, node.output):
            real = _real(source.constants[node.inputs[0]], grid)
            source.constants[node.output] = real.astype(np.float32)
            continue
        if not constant:
            _require_private(source, graph, node, grid)
        widest = max(widest, grid.centred / grid.scale)
        nodes += _centred(source, graph, node, grid)
    source.nodes = nodes
    if widest:
        source.notes.append(
            "integers of 16 bits whose zero is off the middle became symmetric, since LiteRT takes no others:"
            f" steps grew up to {widest:.2g}-fold"
        )


def _off_centre(source: Source, node: Node) -> _Grid | None:
    """The quantisation that a node has, where it is one to be replaced."""
    if node.op not in _PAIR:
        return None
    value = node.output if node.op == "QuantizeLinear" else node.inputs[0]
    scale, zero = source.constant(node, 1), source.constant(node, 2)
    dtype = source.dtype(value)
    if dtype not in MIDDLE or scale is None or (node.has(2) and zero is None):
        return None
    if scale.size != 1 or (zero is not None and zero.size != 1):
        return None  # weights; of other values several scales are refused later
    grid = _Grid(scale=float(scale.reshape(())), zero=0 if zero is None else int(zero.reshape(())), dtype=dtype)
    border = value in (*source.inputs, *source.outputs) and value not in source.constants
    if dtype == "uint16" and border:
        raise ModelError(f"{value!r} is of uint16 at the border, which LiteRT does not quantise")
    if grid.zero == MIDDLE[dtype]:
        return None
    if border:
        raise ModelError(f"{value!r} is of {dtype} at the border with the zero point {grid.zero}; LiteRT takes {MIDDLE[dtype]}")
    return grid


def _require_private(source: Source, graph: Graph, node: Node, grid: _Grid) -> None:
    """Checks that integers go from one kind of pair to the same kind, through nothing that computes on them."""
    value = node.output if node.op == "QuantizeLinear" else node.inputs[0]
    ends = _readers(source, value) if node.op == "QuantizeLinear" else _makers(graph, value)
    if any(end is None or end.op not in _PAIR or _off_centre(source, end) != grid for end in ends):
        raise ModelError(
            f"{value!r} has 16 bits and the zero point {grid.zero}, and is read as plain integers or under another scale;"
            f" LiteRT takes {MIDDLE[grid.dtype]}"
        )


def _readers(source: Source, name: str) -> Iterator[Node | None]:
    """Who reads integers, behind what moves them; ``None`` for the model's output."""
    if name in source.outputs:
        yield None
    for node in source.consumers().get(name, []):
        if node.op in _MOVES and node.inputs[0] == name:
            yield from _readers(source, node.output)
        else:
            yield node


def _makers(graph: Graph, name: str) -> Iterator[Node | None]:
    """Who makes integers, before what moves them; ``None`` for the model's input."""
    while (node := graph.producer(name, *_MOVES)) is not None:
        name = node.inputs[0]
    yield graph.producer(name, "QuantizeLinear")


def _meets_integers(source: Source, graph: Graph, name: str) -> bool:
    """Whether some operator computes in integers on a constant: its other operands are integers, and so is its result."""
    return any(
        reader.op in _JOINING
        and all(graph.producer(operand, "DequantizeLinear", *_CHOOSES) for operand in reader.inputs[reader.op == "Where" :])
        and _quantised(source, reader.output)
        for reader in source.consumers().get(name, [])
    )


def _quantised(source: Source, name: str) -> bool:
    """Whether all readers of a value quantise it, maybe behind a bound."""

    def rounds(node: Node) -> bool:
        bound = activation(source, node) is not None
        return node.op == "QuantizeLinear" or (bound and _quantised(source, node.output))

    readers = source.consumers().get(name, [])
    return bool(readers) and name not in source.outputs and all(map(rounds, readers))


# -- the new pair --------------------------------------------------------------------------------------------------------


def _centred(source: Source, graph: Graph, node: Node, grid: _Grid) -> list[Node]:
    scale = source.add_constant(f"{node.output}/scale", np.array(grid.centred, np.float32))
    zero = source.add_constant(f"{node.output}/zero_point", np.array(MIDDLE[grid.dtype], grid.dtype))
    new = replace(node, inputs=(node.inputs[0], scale, zero))
    if node.op == "DequantizeLinear":
        return [_constant(source, new, grid)] if node.inputs[0] in source.constants else [new]
    low, high = grid.range
    least, greatest = _reach(graph, node.inputs[0])
    half = grid.scale / 2
    if (least >= low - half) if -low <= high else (greatest <= high + half):
        return [new]
    shape = source.shape(node.inputs[0])
    fuses = low == 0 and graph.private(node.inputs[0], *FUSING) is not None
    if fuses:
        positive = new_value(source, f"{node.output}/positive", shape, "float32")
        return [Node(op="Relu", inputs=new.inputs[:1], outputs=(positive,)), replace(new, inputs=(positive, scale, zero))]
    return _bounded(source, new, (low, np.inf) if -low <= high else (-np.inf, high))


def _real(stored: Array, grid: _Grid) -> Array:
    """What stored integers stand for, as ``float64``."""
    real: Array = (stored.astype(np.float64) - grid.zero) * grid.scale
    return real


def _constant(source: Source, node: Node, grid: _Grid) -> Node:
    """The DequantizeLinear of a constant, which is rounded anew."""
    real = _real(source.constants[node.inputs[0]], grid)
    stored = (np.rint(real / grid.centred) + MIDDLE[grid.dtype]).astype(grid.dtype)
    return replace(node, inputs=(source.add_constant(f"{node.inputs[0]}/centred", stored), *node.inputs[1:]))


def _bounded(source: Source, node: Node, limits: Range) -> list[Node]:
    """A QuantizeLinear whose integers are bounded behind it, so that its operand may be computed in integers too."""
    shape, name = source.shape(node.inputs[0]), node.output
    wide = new_value(source, f"{name}/wide", shape, source.dtype(name))
    real, bounded = (new_value(source, f"{name}/{what}", shape, "float32") for what in ("real", "bounded"))
    names = ["" if not np.isfinite(v) else source.add_constant(f"{name}/limit", np.array(v, np.float32)) for v in limits]
    return [
        replace(node, outputs=(wide,)),
        Node(op="DequantizeLinear", inputs=(wide, *node.inputs[1:]), outputs=(real,)),
        Node(op="Clip", inputs=(real, *names), outputs=(bounded,)),
        replace(node, inputs=(bounded, *node.inputs[1:])),
    ]


def _reach(graph: Graph, name: str) -> Range:
    """An interval in which a value lies."""
    node = graph.producer(name, *_PAIR, *_CHOOSES, *_FIXED, "Relu", "Clip", "Concat")
    if node is None:
        return _ANY
    if node.op in _FIXED:
        return _FIXED[node.op]
    if node.op in ("Relu", "Clip"):
        return bounds(graph.source, node) or _ANY
    if node.op == "DequantizeLinear":
        grid = _off_centre(graph.source, node)
        return _ANY if grid is None else grid.range
    if node.op == "QuantizeLinear":
        return _ANY
    ranges = [_reach(graph, operand) for operand in (node.inputs if node.op == "Concat" else node.inputs[:1])]
    return min(low for low, _ in ranges), max(high for _, high in ranges)
