"""Parts of tensors: ranges along axes, and elements looked up by their index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.lowering.litert_file import LiteRtOperator
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.ops.common import int64
from dovetail.lowering.raising.ops.reduction import without
from dovetail.lowering.raising.values import checked_axis

_LAST, _BEFORE_FIRST = np.iinfo(np.int64).max, np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class _Range:
    """What is taken along one axis, as ONNX's Slice counts."""

    axis: int
    begin: int
    end: int
    step: int = 1


def slice_(graph: Graph, op: LiteRtOperator) -> None:
    """SLICE: from a begin, as many as the size says, or all of them."""
    x = op.input(0)
    begins, sizes = (graph.constant(op, i, what).reshape(-1).tolist() for i, what in ((1, "begin"), (2, "size")))
    if not len(begins) == len(sizes) == x.rank:
        raise ModelError(f"SLICE {op.output.name!r} has {len(begins)} begins for {x.rank} axes")
    ranges = [
        _Range(axis, begin, _LAST if size < 0 else begin + size)
        for axis, (begin, size) in enumerate(zip(begins, sizes, strict=True))
    ]
    _take(graph, op, ranges, dropped=set())


def strided_slice(graph: Graph, op: LiteRtOperator) -> None:
    """STRIDED_SLICE: ranges as numpy writes them; bits say which bounds are open and which axes appear or vanish."""
    x = op.input(0)
    ranges, new, dropped = _numpy_ranges(graph, op)
    if new:
        order = tuple(range(x.rank))
        name = _squeezed(graph, _sliced(graph, graph.real(x), ranges, order), dropped, order)
        graph.bind(op, op.output, graph.node("Unsqueeze", [name, graph.integers(new)]))
        return
    _take(graph, op, ranges, dropped)


def _numpy_ranges(graph: Graph, op: LiteRtOperator) -> tuple[list[_Range], list[int], set[int]]:
    """Ranges along axes of the operand, axes that appear in the result, axes that vanish."""
    begins, ends, steps = (graph.constant(op, i, "bounds").reshape(-1).tolist() for i in (1, 2, 3))
    masks = {key: int(op.get(key, 0)) for key in ("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask")}

    def marked(key: str, index: int) -> bool:
        return bool(masks[key] >> index & 1)

    ranges, new, dropped = list[_Range](), list[int](), set[int]()
    axis = place = 0
    spared = sum(not marked("newAxisMask", i) and not marked("ellipsisMask", i) for i in range(len(begins)))
    for i, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        if marked("ellipsisMask", i):
            whole = op.input(0).rank - spared
            axis, place = axis + whole, place + whole
        elif marked("newAxisMask", i):
            new.append(place)
            place += 1
        elif marked("shrinkAxisMask", i):
            ranges.append(_Range(axis, begin, begin + 1 if begin != -1 else _LAST))
            dropped.add(axis)
            axis += 1
        else:
            begin_open, end_open = marked("beginMask", i), marked("endMask", i)
            end = begin + end if op.get("offset", False) else end
            first, last = (0, _LAST) if step > 0 else (_LAST, _BEFORE_FIRST)
            ranges.append(_Range(axis, first if begin_open else begin, last if end_open else end, step))
            axis, place = axis + 1, place + 1
    if axis > op.input(0).rank or 0 in steps:
        raise ModelError(f"STRIDED_SLICE {op.output.name!r} takes {axis} axes of {op.input(0).rank} in steps of {steps}")
    return ranges, new, dropped


def _take(graph: Graph, op: LiteRtOperator, ranges: list[_Range], dropped: set[int]) -> None:
    x = op.input(0)
    order = graph.order(x)
    name = _squeezed(graph, _sliced(graph, graph.real(x, order), ranges, order), dropped, order)
    graph.bind(op, op.output, name, without(order, dropped))


def _sliced(graph: Graph, name: str, ranges: list[_Range], order: tuple[int, ...]) -> str:
    taken = [r for r in ranges if (r.begin, r.end, r.step) != (0, _LAST, 1)]
    if not taken:
        return graph.node("Identity", [name])
    bounds = ([r.begin for r in taken], [r.end for r in taken], [order.index(r.axis) for r in taken], [r.step for r in taken])
    return graph.node("Slice", [name, *(graph.integers(b) for b in bounds)])


def _squeezed(graph: Graph, name: str, dropped: set[int], order: tuple[int, ...]) -> str:
    return graph.node("Squeeze", [name, graph.integers(sorted(order.index(a) for a in dropped))]) if dropped else name


def gather(graph: Graph, op: LiteRtOperator) -> None:
    """GATHER along one axis, or within each element of leading axes that both operands share."""
    x, indices = op.input(0), op.input(1)
    batch = int(op.get("batchDims", 0))
    axis = checked_axis(op, int(op.get("axis", 0)), x.rank)
    batch = batch + indices.rank if batch < 0 else batch
    if batch:
        _gather_each(graph, op, axis, batch)
        return
    order = graph.order(x) if indices.rank == 1 else tuple(range(x.rank))
    name = graph.node("Gather", [graph.real(x, order), graph.stored(indices)], axis=order.index(axis))
    graph.bind(op, op.output, name, order if indices.rank == 1 else None)


def _gather_each(graph: Graph, op: LiteRtOperator, axis: int, batch: int) -> None:
    x, indices = op.input(0), op.input(1)
    if axis != batch:
        raise ModelError(f"GATHER {op.output.name!r} shares {batch} axes and looks up axis {axis}, which is not imported")
    places = graph.node("Unsqueeze", [int64(graph, indices), graph.integers([indices.rank])])
    graph.bind(op, op.output, graph.node("GatherND", [graph.real(x), places], batch_dims=batch))


def gather_nd(graph: Graph, op: LiteRtOperator) -> None:
    """GATHER_ND."""
    graph.bind(op, op.output, graph.node("GatherND", [graph.real(op.input(0)), int64(graph, op.input(1))]))


def embedding_lookup(graph: Graph, op: LiteRtOperator) -> None:
    """EMBEDDING_LOOKUP: rows of the second operand."""
    graph.bind(op, op.output, graph.node("Gather", [graph.real(op.input(1)), graph.stored(op.input(0))], axis=0))


def one_hot(graph: Graph, op: LiteRtOperator) -> None:
    """ONE_HOT."""
    indices, values = op.input(0), (op.input(3), op.input(2))
    pair = []
    for tensor in values:
        name = graph.stored(tensor)
        pair.append(graph.node("Reshape", [name, graph.integers([1])]))
    depth = graph.integers(graph.constant(op, 1, "depth").reshape(()))
    both = graph.node("Concat", pair, axis=0)
    graph.bind(op, op.output, graph.node("OneHot", [int64(graph, indices), depth, both], axis=int(op.get("axis", -1))))


TABLE = {
    "SLICE": slice_,
    "STRIDED_SLICE": strided_slice,
    "GATHER": gather,
    "GATHER_ND": gather_nd,
    "EMBEDDING_LOOKUP": embedding_lookup,
    "ONE_HOT": one_hot,
}
