"""Operators that find positions or build from them: the greatest elements, one-hot rows, running sums, triangles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.types import WIDE, bind, carried, cast, operand
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Tensor, View, identity

_COMPARED = frozenset({"float32", "int8", "uint8", "int32"})
_HOT = frozenset({"float32", "int8", "uint8", "int32", "int64", "bool"})


def extreme(code: str) -> Callable[[Emitter, Node], None]:
    """Lowering of ArgMax and ArgMin; the last of equals is the first of the reversed."""

    def lower(em: Emitter, node: Node) -> None:
        x = _comparable(em, node)
        axis = node.get("axis", 0) % x.rank
        place, keep, m = x.place(axis), bool(node.get("keepdims", 1)), Maths(em, node.output)
        last = bool(node.get("select_last_index", 0))
        tensor = _reversed(m, x.tensor, place) if last else x.tensor
        shape = [size for p, size in enumerate(tensor.shape) if p != place]
        found = em.tensor(f"{node.output}/{code.lower()}", shape, "int64")
        where = em.integers([place], f"{node.output}/axis")
        em.emit(code, [tensor, where], [found], code.title().replace("_", "") + "Options", outputType="int64")
        if last:
            found = m.sub(x.shape[axis] - 1, found)
        order = x.order if keep else tuple(a - (a > axis) for a in x.order if a != axis)
        if keep:
            found = em.reshape(found, [1 if p == place else size for p, size in enumerate(x.tensor.shape)])
        bind(em, node.output, found, order)

    return lower


def _comparable(em: Emitter, node: Node) -> View:
    """The operand; integers of one scale have the order of their reals."""
    x = em.view(node.inputs[0])
    if x.quant is not None and x.quant.per_tensor and x.dtype in _COMPARED:
        return x
    return carried(em, node, [em.real(x)], _COMPARED)[0]


def _reversed(m: Maths, x: Tensor, place: int) -> Tensor:
    out = m.em.tensor(f"{m.name}/reversed", x.shape, x.dtype, x.quant)
    m.em.emit("REVERSE_V2", [x, m.em.integers([place], f"{m.name}/axis")], [out], "ReverseV2Options")
    return out


def top_k(em: Emitter, node: Node) -> None:
    """TopK along the last stored axis, the first of equals before the others.

    Raises:
        ModelError: a count computed at run time, or the smallest of 64-bit integers.
    """
    x = carried(em, node, [em.real(em.view(node.inputs[0]))], WIDE)[0]
    k = int(em.array(node, 1, "count").reshape(-1)[0])
    axis, smallest = node.get("axis", -1) % x.rank, not node.get("largest", 1)
    if smallest and x.dtype != "float32":
        raise ModelError(f"TopK {node.output!r} looks for the smallest of {x.dtype}, for which LiteRT has no kernel")
    order = (*(a for a in x.order if a != axis), axis)
    m, tensor = Maths(em, node.output), em.ordered(x, order)
    if smallest:
        tensor = m.apply("NEG", tensor)
    shape = (*tensor.shape[:-1], k)
    values = em.tensor(f"{node.output}/values", shape, tensor.dtype)
    indices = em.tensor(f"{node.output}/indices", shape, "int32")
    em.emit("TOPK_V2", [tensor, em.constant(np.array(k, np.int32), f"{node.output}/count")], [values, indices], "TopKV2Options")
    if node.outputs[0]:
        bind(em, node.outputs[0], m.apply("NEG", values) if smallest else values, order)
    if len(node.outputs) > 1 and node.outputs[1]:
        bind(em, node.outputs[1], indices, order)


def one_hot(em: Emitter, node: Node) -> None:
    """OneHot; indices from the end are counted from the start first."""
    depth = int(em.array(node, 1, "depth").reshape(-1)[0])
    values = em.array(node, 2, "values")
    index = operand(em, node, allowed=WIDE)
    m, x = Maths(em, node.output), em.plain(index)
    x = m.cast(m.select(m.compare("LESS", x, 0), m.add(x, depth), x), "int32")
    rank = len(x.shape) + 1
    axis = node.get("axis", -1) % rank
    dtype = values.dtype.name if values.dtype.name in _HOT else "int64" if values.dtype.kind in "iu" else "float32"
    off, on = (em.constant(np.array(v, dtype), f"{node.output}/value") for v in values.reshape(-1))
    shape = em.source.shape(node.output)
    out = em.tensor(f"{node.output}/hot", shape, dtype)
    count = em.constant(np.array(depth, np.int32), f"{node.output}/depth")
    em.emit("ONE_HOT", [x, count, on, off], [out], "OneHotOptions", axis=-1 if axis == rank - 1 else axis)
    bind(em, node.output, out, identity(rank))


def cumulative_sum(em: Emitter, node: Node) -> None:
    """CumSum along a constant axis."""
    x = operand(em, node, allowed=WIDE)
    axis = int(em.array(node, 1, "axis").reshape(-1)[0])
    out = em.tensor(f"{node.output}/sum", x.tensor.shape, x.dtype)
    place = em.constant(np.array(x.place(axis), np.int32), f"{node.output}/axis")
    exclusive, reverse = bool(node.get("exclusive", 0)), bool(node.get("reverse", 0))
    em.emit("CUMSUM", [x.tensor, place], [out], "CumsumOptions", exclusive=exclusive, reverse=reverse)
    bind(em, node.output, out, x.order)


def triangle(em: Emitter, node: Node) -> None:
    """Trilu: the elements on one side of a diagonal, zeros on the other."""
    x = em.real(em.view(node.inputs[0]))
    k = int(em.array(node, 1, "diagonal").reshape(-1)[0]) if node.has(1) else 0
    rows, columns = x.shape[-2:]
    mask = np.tri(rows, columns, k, dtype=bool) if not node.get("upper", 1) else ~np.tri(rows, columns, k - 1, dtype=bool)
    m = Maths(em, node.output)
    wide = em.expanded(View(m.constant(mask), (0, 1)), x.rank)
    em.bind(node.output, View(m.select(em.ordered(wide, x.order), x.tensor, 0), x.order))


def reverse_sequence(em: Emitter, node: Node) -> None:
    """ReverseSequence: the leading part of each sequence backwards."""
    x = carried(em, node, [em.real(em.view(node.inputs[0]))], WIDE)[0]
    lengths = cast(em, em.plain(em.view(node.inputs[1])), "int32")
    time, batch = node.get("time_axis", 0), node.get("batch_axis", 1)
    out = em.tensor(f"{node.output}/reversed", x.tensor.shape, x.dtype)
    em.emit(
        "REVERSE_SEQUENCE", [x.tensor, lengths], [out], "ReverseSequenceOptions", seqDim=x.place(time), batchDim=x.place(batch)
    )
    bind(em, node.output, out, x.order)


TABLE = {
    "ArgMax": extreme("ARG_MAX"),
    "ArgMin": extreme("ARG_MIN"),
    "TopK": top_k,
    "OneHot": one_hot,
    "CumSum": cumulative_sum,
    "Trilu": triangle,
    "ReverseSequence": reverse_sequence,
}
