"""Gathering and scattering by index. Indices that are constant are computed in advance, whatever their form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.types import bind, carried
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Tensor, View, identity

_GATHERED = frozenset({"float32", "int8", "uint8", "int16", "int32", "int64", "bool"})
_SCATTERED = frozenset({"float32", "int32", "int64", "int8", "uint8"})
_LARGEST = 2**31 - 1


def gather(em: Emitter, node: Node) -> None:
    """Gather along one axis; neighbours are cut out."""
    x = _data(em, node)
    axis = node.get("axis", 0) % x.rank
    index = em.source.constant(node, 1)
    m, place = Maths(em, node.output), x.place(axis)
    if index is not None:
        index = np.where(index < 0, index + x.shape[axis], index)
        taken = _cut(m, x, index, place)
        if taken is None:
            taken = m.gather(x.tensor, m.constant(index.astype(np.int32)), place)
    else:
        taken = m.gather(x.tensor, _from_start(m, _indices(em, node, 1), x.shape[axis]), place)
    rank = len(em.source.shape(node.inputs[1]))
    before = [a if a < axis else a + rank - 1 for a in x.order[:place]]
    after = [a if a < axis else a + rank - 1 for a in x.order[place + 1 :]]
    _bind(em, node.output, taken, (*before, *range(axis, axis + rank), *after))


def _data(em: Emitter, node: Node, index: int = 0, allowed: frozenset[str] = _GATHERED) -> View:
    """An operand that is moved: integers of one scale stay."""
    view = em.view(node.inputs[index])
    if view.quant is not None and view.quant.per_tensor and view.dtype in allowed:
        return view
    return carried(em, node, [em.real(view)], allowed)[0]


def _bind(em: Emitter, name: str, tensor: Tensor, order: tuple[int, ...]) -> None:
    if tensor.quant is None:
        bind(em, name, tensor, order)
    else:
        em.bind(name, View(tensor, order))


def _cut(m: Maths, x: View, index: Array, place: int) -> Tensor | None:
    """Ascending neighbours as a slice; ``None`` where there is a gap."""
    flat = index.reshape(-1)
    if flat.size == 0 or not np.array_equal(flat, flat[0] + np.arange(flat.size)):
        return None
    shape = (*x.tensor.shape[:place], *index.shape, *x.tensor.shape[place + 1 :])
    if flat.size == x.tensor.shape[place]:
        return m.em.reshape(x.tensor, shape)
    begin = [int(flat[0]) if p == place else 0 for p in range(x.rank)]
    size = [flat.size if p == place else s for p, s in enumerate(x.tensor.shape)]
    out = m.em.tensor(f"{m.name}/cut", size, x.tensor.dtype, x.quant)
    parts = [m.em.integers(begin, f"{m.name}/begin"), m.em.integers(size, f"{m.name}/size")]
    m.em.emit("SLICE", [x.tensor, *parts], [out], "SliceOptions")
    return m.em.reshape(out, shape)


def _indices(em: Emitter, node: Node, index: int) -> Tensor:
    """Computed indices in their logical order, as the 32 bits that kernels take."""
    return Maths(em, node.output).cast(em.plain(em.view(node.inputs[index])), "int32")


def _from_start(m: Maths, index: Tensor, size: int) -> Tensor:
    """Indices counted from the start; the runtime refuses those that the standard counts from the end."""
    return m.select(m.compare("LESS", index, 0), m.add(index, size), index)


# -- many indices at once: all axes become one ---------------------------------------------------------------------------


def _strides(shape: Sequence[int]) -> Array:
    """How far apart neighbours along each axis lie."""
    return np.cumprod([1, *shape[:0:-1]])[::-1].astype(np.int64) if shape else np.zeros(0, np.int64)


def _require_small(node: Node, shape: Sequence[int]) -> None:
    if np.prod(shape, dtype=float) > _LARGEST:
        raise ModelError(f"{node.op} {node.output!r} indexes more than 2³¹ elements")


def _along(em: Emitter, node: Node, shape: Sequence[int], axis: int) -> Tensor | Array:
    """Places in the flattened operand, where indices replace the position along one axis; an array where they are constant."""
    _require_small(node, shape)
    strides, constant = _strides(shape), em.source.constant(node, 1)
    counts = em.source.shape(node.inputs[1])
    grid = np.indices(counts, sparse=True)
    others = (g * s for a, (g, s) in enumerate(zip(grid, strides, strict=True)) if a != axis)
    base = sum(others, np.zeros((1,) * len(shape), np.int64))
    base = np.broadcast_to(base, counts)
    if constant is not None:
        return np.asarray(base + np.where(constant < 0, constant + shape[axis], constant) * strides[axis])
    m = Maths(em, node.output)
    index = _from_start(m, _indices(em, node, 1), shape[axis])
    scaled = index if strides[axis] == 1 else m.mul(index, int(strides[axis]))
    return m.add(scaled, m.constant(base.astype(np.int32))) if base.any() else scaled


def _tuples(em: Emitter, node: Node, shape: Sequence[int], batch: int) -> tuple[Tensor | Array, int]:
    """Places of slices in the operand with its leading axes flattened, from tuples of indices; and how many axes those are."""
    _require_small(node, shape)
    counts, constant = em.source.shape(node.inputs[1]), em.source.constant(node, 1)
    depth = batch + counts[-1]
    strides = _strides(shape[:depth])
    grid = np.indices(counts[:batch], sparse=True)
    base = sum((g * s for g, s in zip(grid, strides, strict=False)), np.zeros((1,) * batch, np.int64))
    base = np.broadcast_to(base.reshape(*base.shape, *(1,) * (len(counts) - 1 - batch)), counts[:-1])
    sizes, steps = np.array(shape[batch:depth]), strides[batch:]
    if constant is not None:
        return np.asarray(base + (np.where(constant < 0, constant + sizes, constant) * steps).sum(axis=-1)), depth
    m = Maths(em, node.output)
    index = _indices(em, node, 1)
    like = (1,) * (len(counts) - 1) + (-1,)
    lengths = m.constant(sizes.astype(np.int32).reshape(like))
    index = m.select(m.compare("LESS", index, 0), m.add(index, lengths), index)
    index = m.mul(index, m.constant(steps.astype(np.int32).reshape(like)))
    flat = m.reduce("SUM", index, [len(counts) - 1], keep=False)
    return (m.add(flat, m.constant(base.astype(np.int32))) if base.any() else flat), depth


def _tensor(m: Maths, places: Tensor | Array) -> Tensor:
    return places if isinstance(places, Tensor) else m.constant(places.astype(np.int32))


def gather_elements(em: Emitter, node: Node) -> None:
    """GatherElements: one index for each element of the result."""
    x, m = _data(em, node), Maths(em, node.output)
    places = _tensor(m, _along(em, node, x.shape, node.get("axis", 0) % x.rank))
    flat = em.reshape(em.plain(x), (int(np.prod(x.shape)),))
    _bind(em, node.output, m.gather(flat, places, 0), identity(x.rank))


def gather_nd(em: Emitter, node: Node) -> None:
    """GatherND: tuples of indices name slices."""
    x, m = _data(em, node), Maths(em, node.output)
    places, depth = _tuples(em, node, x.shape, node.get("batch_dims", 0))
    flat = em.reshape(em.plain(x), (int(np.prod(x.shape[:depth])), *x.shape[depth:]))
    taken = m.gather(flat, _tensor(m, places), 0)
    _bind(em, node.output, taken, identity(len(taken.shape)))


# -- scattering ----------------------------------------------------------------------------------------------------------


def scatter_elements(em: Emitter, node: Node) -> None:
    """ScatterElements: one index for each element of the updates."""
    _scatter(em, node, 0)


def scatter_nd(em: Emitter, node: Node) -> None:
    """ScatterND: tuples of indices name slices."""
    _scatter(em, node, None)


def _scatter(em: Emitter, node: Node, along: int | None) -> None:
    """Constant indices: every element is gathered from the operand or the updates. Computed ones: sums of what meets.

    Raises:
        ModelError: a reduction other than a sum.
    """
    reduction = node.get("reduction", "none")
    if reduction not in ("none", "add"):
        raise ModelError(f"{node.op} {node.output!r} combines by {reduction!r}, which is not lowered")
    allowed = _GATHERED if reduction == "none" else _SCATTERED - {"int8", "uint8"}
    x, updates = carried(em, node, [em.real(em.view(node.inputs[i])) for i in (0, 2)], allowed)
    depth = x.rank
    if along is None:
        places, depth = _tuples(em, node, x.shape, 0)
    else:
        places = _along(em, node, x.shape, node.get("axis", 0) % x.rank)
    rows, inner = int(np.prod(x.shape[:depth])), x.shape[depth:]
    flat = em.reshape(em.plain(x), (rows, *inner))
    count = int(np.prod(updates.shape)) // int(np.prod(inner))
    new = em.reshape(em.plain(updates), (count, *inner))
    m = Maths(em, node.output)
    if isinstance(places, Tensor) or reduction == "add":
        made = _scattered(m, flat, new, em.reshape(_tensor(m, places), (count, 1)), reduction)
    else:
        made = _rearranged(m, flat, new, places.reshape(-1))
    bind(em, node.output, em.reshape(made, x.shape), identity(x.rank))


def _rearranged(m: Maths, flat: Tensor, new: Tensor, places: Array) -> Tensor:
    """Rows of the operand and of the updates, in their final order; the last update of a row counts."""
    source = np.arange(flat.shape[0])
    source[places] = flat.shape[0] + np.arange(len(places))
    both = m.em.tensor(f"{m.name}/both", (flat.shape[0] + new.shape[0], *flat.shape[1:]), flat.dtype)
    m.em.emit("CONCATENATION", [flat, new], [both], "ConcatenationOptions", axis=0, fusedActivationFunction="NONE")
    return m.gather(both, m.constant(source.astype(np.int32)), 0)


def _scattered(m: Maths, flat: Tensor, new: Tensor, places: Tensor, reduction: str) -> Tensor:
    def spread(values: Tensor) -> Tensor:
        out = m.em.tensor(f"{m.name}/spread", flat.shape, values.dtype)
        m.em.emit("SCATTER_ND", [places, values, m.em.integers(flat.shape, f"{m.name}/shape")], [out], "ScatterNdOptions")
        return out

    if reduction == "add":
        return m.add(flat, spread(new))
    if flat.dtype not in _SCATTERED:
        raise ModelError(f"{m.name!r} scatters {flat.dtype}, for which LiteRT has no kernel")
    touched = spread(m.constant(np.ones(new.shape, np.int32)))
    return m.select(m.compare("GREATER", touched, 0), spread(new), flat)


TABLE = {
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
}
