"""Operators that move values without computing: they keep integers, and most change only how storage is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.lowering import layout
from dovetail.lowering.emitter import Emitter, transposed
from dovetail.lowering.ops.elementwise import aligned
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.types import bind, carried
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import NHWC, Tensor, View, identity

_THROUGH = frozenset({"QuantizeLinear", "DequantizeLinear"})
_BLOCKS = frozenset({"float32", "int8", "uint8", "int32", "int64"})
_TILED = frozenset({"int8", "uint8"})
"""Quantised integers that the kernel of TILE takes."""
_JOINED = _BLOCKS | {"int16", "uint32", "bool"}


def reshape(em: Emitter, node: Node) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: storage stays where it is, or moves once where it must."""
    x, shape = em.view(node.inputs[0]), em.source.shape(node.output)
    if np.prod(x.shape) != np.prod(shape):
        what = f"{node.op} {node.output!r} makes {list(shape)} of {list(x.shape)}"
        raise ModelError(f"{what}, which has another number of elements")
    if x.quant is not None and not x.quant.per_tensor:
        x = _reshapeable(em, x, shape)
    order = layout.reshaped(x.shape, shape, x.order)
    if order is not None:
        em.bind(node.output, View(em.reshape(x.tensor, [shape[axis] for axis in order]), order))
        return
    if _only_weighs(em, node.output) and len(shape) == 2 and shape[0] == x.shape[0] and x.order[0] == 0:
        lies = np.arange(int(np.prod(shape[1:]))).reshape(x.shape[1:])
        em.shuffled[node.output] = lies.transpose([axis - 1 for axis in x.order[1:]]).reshape(-1)
        em.bind(node.output, View(em.reshape(x.tensor, shape), (0, 1)))
        return
    em.bind(node.output, View(em.reshape(em.plain(x), shape), identity(len(shape))))


def _reshapeable(em: Emitter, x: View, shape: Sequence[int]) -> View:
    """A constant with several scales: their axis after the reshape is written to it; where there is none it is made real."""
    tensor, quant = em.plain(x), em.plain(x).quant
    if tensor.data is None or quant is None:
        return em.real(x)
    before = int(np.prod(tensor.shape[: quant.axis]))
    for axis, size in enumerate(shape):
        if size == quant.scale.size and int(np.prod(shape[:axis])) == before:
            return View(em.constant(tensor.data.reshape(shape), tensor.name, quant.at(axis)), identity(len(shape)))
    return em.real(x)


def _whole(em: Emitter, name: str) -> View:
    """A value of which parts can be taken: one scale at most."""
    x = em.view(name)
    return em.real(x) if x.quant is not None and not x.quant.per_tensor else x


def _only_weighs(em: Emitter, name: str) -> bool:
    """Whether only matrix products with constant weights read a value, possibly quantised."""
    if name in em.source.outputs:
        return False
    for node in em.source.consumers().get(name, []):
        if node.op in _THROUGH and node.inputs[0] == name:
            if not _only_weighs(em, node.output):
                return False
        elif node.op not in ("Gemm", "MatMul") or node.inputs[0] != name or name in node.inputs[1:] or node.get("transA", 0):
            return False
        elif node.inputs[1] not in em.source.constants and not _is_weight(em, node.inputs[1]):
            return False
    return True


def _is_weight(em: Emitter, name: str) -> bool:
    producer = em.source.producers().get(name)
    return producer is not None and producer.op == "DequantizeLinear" and producer.inputs[0] in em.source.constants


def transpose(em: Emitter, node: Node) -> None:
    """Transpose: storage stays, its axes get other names."""
    x = em.view(node.inputs[0])
    permutation = node.get("perm") or tuple(reversed(range(x.rank)))
    em.bind(node.output, View(x.tensor, transposed(x.order, permutation)))


def concat(em: Emitter, node: Node) -> None:
    """Concat; integers are brought to the scale of the result first, and stay where they all have one scale anyway."""
    views = [em.view(name) for name in node.inputs]
    first = views[0].quant
    alike = first is not None and all(first.same(view.quant) for view in views)
    quant = em.targets.get(node.output) or (first if alike else None)
    if quant is not None and all(v.quant is not None and v.quant.per_tensor for v in views):
        for name, view in zip(node.inputs, views, strict=True):
            if not quant.same(view.quant):
                em.note(f"{name}: rescaled from {view.quant} to {quant}, since Concat takes one scale")
        views = [em.quantised(view, quant) for view in views]
    else:
        views, quant = carried(em, node, [em.real(view) for view in views], _JOINED), None
    tensors, order = aligned(em, views)
    place = order.index(node.get("axis") % len(order))
    dtype, shape = tensors[0].dtype, em.source.shape(node.output)
    out = em.tensor(node.output, [shape[axis] for axis in order], dtype, quant)
    em.emit("CONCATENATION", tensors, [out], "ConcatenationOptions", axis=place, fusedActivationFunction="NONE")
    bind(em, node.output, out, order) if quant is None else em.bind(node.output, View(out, order))


def slice_(em: Emitter, node: Node) -> None:
    """Slice with constant bounds, steps backwards too."""
    x = _whole(em, node.inputs[0])
    starts = em.array(node, 1, "starts").reshape(-1)
    ends = em.array(node, 2, "ends").reshape(-1)
    axes = em.array(node, 3, "axes").reshape(-1) if node.has(3) else np.arange(len(starts))
    steps = em.array(node, 4, "steps").reshape(-1) if node.has(4) else np.ones(len(starts), np.int64)
    ranges = [range(size) for size in x.shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        ranges[int(axis)] = ranges[int(axis)][int(start) : int(end) : int(step)]
    _take_ranges(em, node.output, x, ranges)


def _take_ranges(em: Emitter, name: str, x: View, ranges: Sequence[range]) -> None:
    """The elements at a regular grid."""
    stored = [ranges[axis] for axis in x.order]
    if all(r == range(size) for r, size in zip(stored, x.tensor.shape, strict=True)):
        em.bind(name, x)
        return
    if any(len(r) == 0 for r in stored):
        raise ModelError(f"{name!r} is empty")
    out = em.result(name, x.order, x.quant)
    begin = em.integers([r.start for r in stored], f"{name}/begin")
    if all(r.step == 1 for r in stored):
        size = em.integers([len(r) for r in stored], f"{name}/size")
        em.emit("SLICE", [x.tensor, begin, size], [out], "SliceOptions")
        return
    end = em.integers([r.stop for r in stored], f"{name}/end")
    steps = em.integers([r.step for r in stored], f"{name}/steps")
    open_ended = sum(1 << place for place, r in enumerate(stored) if r.step < 0 and r.stop < 0)
    em.emit(
        "STRIDED_SLICE", [x.tensor, begin, end, steps], [out], "StridedSliceOptions",
        beginMask=0, endMask=open_ended, ellipsisMask=0, newAxisMask=0, shrinkAxisMask=0,
    )  # fmt: skip


def split(em: Emitter, node: Node) -> None:
    """Split into slices; parts that nobody reads are not made."""
    x = _whole(em, node.inputs[0])
    axis = node.get("axis", 0) % x.rank
    used = em.source.uses()
    start = 0
    for name, size in zip(node.outputs, _sizes(em, node, x.shape[axis]), strict=True):
        ranges = [range(s) for s in x.shape]
        ranges[axis] = range(start, start + size)
        start += size
        if name and used.get(name):
            _take_ranges(em, name, x, ranges)


def _sizes(em: Emitter, node: Node, size: int) -> list[int]:
    """Of the parts that Split makes; the last of equal ones may be smaller."""
    if node.has(1):
        return [int(part) for part in em.array(node, 1, "sizes").reshape(-1)]
    count = len(node.outputs)
    part = -(-size // count)
    return [part] * (count - 1) + [size - part * (count - 1)]


def same(em: Emitter, node: Node) -> None:
    """Identity, and Dropout outside training, whose mask keeps everything.

    Raises:
        ModelError: Dropout in training.
    """
    if node.op == "Dropout" and node.has(2) and em.array(node, 2, "training mode").any():
        ratio = em.array(node, 1, "ratio") if node.has(1) else np.array(0.5)
        if ratio.any():
            raise ModelError(f"Dropout {node.output!r} is in training mode")
    x = em.view(node.inputs[0])
    em.bind(node.output, x)
    if len(node.outputs) > 1 and node.outputs[1]:
        mask = em.constant(np.ones(x.shape, np.bool_), node.outputs[1])
        em.bind(node.outputs[1], View(mask, identity(x.rank)))


def expand(em: Emitter, node: Node) -> None:
    """Expand: axes of size 1 are repeated."""
    shape = em.source.shape(node.output)
    x = em.expanded(_whole(em, node.inputs[0]), len(shape))
    _repeat(em, node, x, [new // old for new, old in zip(shape, x.shape, strict=True)])


def tile(em: Emitter, node: Node) -> None:
    """Tile by constant counts."""
    _repeat(em, node, _whole(em, node.inputs[0]), [int(n) for n in em.array(node, 1, "counts").reshape(-1)])


def _repeat(em: Emitter, node: Node, x: View, counts: Sequence[int]) -> None:
    if all(n == 1 for n in counts):
        em.bind(node.output, x)
        return
    if x.quant is not None and x.dtype not in _TILED:
        x = em.real(x)
    multiples = em.integers([counts[axis] for axis in x.order], f"{node.output}/multiples")
    em.emit("TILE", [x.tensor, multiples], [em.result(node.output, x.order, x.quant)], "TileOptions")


def depth_to_space(em: Emitter, node: Node) -> None:
    """DepthToSpace; the order of channels that the runtime lacks is put into place by a gather."""
    x = _moved(em, node)
    block, channels = node.get("blocksize"), x.shape[1]
    tensor = em.ordered(x, NHWC)
    if node.get("mode", "DCR") == "CRD" and channels != block * block:
        index = np.arange(channels).reshape(-1, block * block).T.reshape(-1)
        m = Maths(em, node.output)
        tensor = m.gather(tensor, m.constant(index.astype(np.int32)), 3)
    _change_blocks(em, node, tensor, "DEPTH_TO_SPACE", "DepthToSpaceOptions", block)


def space_to_depth(em: Emitter, node: Node) -> None:
    """SpaceToDepth; the order of channels that the runtime lacks is made by a gather."""
    x = _moved(em, node)
    block, channels = node.get("blocksize"), x.shape[1]
    _change_blocks(em, node, em.ordered(x, NHWC), "SPACE_TO_DEPTH", "SpaceToDepthOptions", block)
    if node.get("mode", "DCR") == "CRD" and channels > 1:
        made, m = em.view(node.output), Maths(em, node.output)
        index = np.arange(channels * block * block).reshape(-1, channels).T.reshape(-1)
        em.bind(node.output, View(m.gather(made.tensor, m.constant(index.astype(np.int32)), 3), NHWC))


def _moved(em: Emitter, node: Node) -> View:
    """The operand, in a type that kernels of blocks take."""
    x = em.view(node.inputs[0])
    if x.quant is not None and (x.dtype not in _BLOCKS or not x.quant.per_tensor):
        x = em.real(x)
    return x if x.quant is not None else carried(em, node, [x], _BLOCKS)[0]


def _change_blocks(em: Emitter, node: Node, tensor: Tensor, code: str, table: str, block: int) -> None:
    if tensor.quant is None and tensor.dtype != em.source.dtype(node.output):
        shape = em.source.shape(node.output)
        out = em.tensor(f"{node.output}/blocks", [shape[axis] for axis in NHWC], tensor.dtype)
        em.emit(code, [tensor], [out], table, blockSize=block)
        bind(em, node.output, out, NHWC)
        return
    em.emit(code, [tensor], [em.result(node.output, NHWC, tensor.quant)], table, blockSize=block)


TABLE = {
    "Identity": same,
    "Dropout": same,
    "Reshape": reshape,
    "Flatten": reshape,
    "Squeeze": reshape,
    "Unsqueeze": reshape,
    "Transpose": transpose,
    "Concat": concat,
    "Slice": slice_,
    "Split": split,
    "Expand": expand,
    "Tile": tile,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}
