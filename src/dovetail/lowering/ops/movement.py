"""Operators that move values without computing: they keep integers, and most change only how storage is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.lowering import layout
from dovetail.lowering.emitter import Emitter, transposed
from dovetail.lowering.ops.elementwise import aligned
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import NHWC, View, identity

_THROUGH = frozenset({"QuantizeLinear", "DequantizeLinear"})


def reshape(em: Emitter, node: Node) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: storage stays where it is, or moves once where it must."""
    x, shape = em.view(node.inputs[0]), em.source.shape(node.output)
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
        elif not em.known(node.inputs[1]) and not _is_weight(em, node.inputs[1]):
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
    """Concat; integers are brought to one scale first, that of the result where it is known."""
    views = [em.view(name) for name in node.inputs]
    target = em.targets.get(node.output)
    if all(v.quant is not None and v.quant.per_tensor for v in views):
        quant = target or views[0].quant
        assert quant is not None
        for name, view in zip(node.inputs, views, strict=True):
            if not quant.same(view.quant):
                em.note(f"{name}: rescaled from {view.quant} to {quant}, since Concat takes one scale")
        views = [em.quantised(view, quant) for view in views]
    else:
        views, quant = [em.real(view) for view in views], None
    tensors, order = aligned(em, views)
    out = em.result(node.output, order, quant)
    place = order.index(node.get("axis") % len(order))
    em.emit("CONCATENATION", tensors, [out], "ConcatenationOptions", axis=place, fusedActivationFunction="NONE")


def pad(em: Emitter, node: Node) -> None:
    """Pad with a constant.

    Raises:
        ModelError: another mode, negative amounts, or amounts that are computed.
    """
    if node.get("mode", "constant") != "constant":
        raise ModelError(f"Pad {node.output!r} has mode {node.get('mode')!r}; only constant padding is lowered")
    x = em.view(node.inputs[0])
    amounts = em.array(node, 1, "amounts").reshape(2, -1)
    chosen = em.array(node, 3, "axes").reshape(-1) if node.has(3) else np.arange(amounts.shape[1])
    margins = np.zeros((x.rank, 2), np.int32)
    for column, axis in enumerate(chosen):
        margins[int(axis) % x.rank] = amounts[:, column]
    if (margins < 0).any():
        raise ModelError(f"Pad {node.output!r} crops by negative amounts, which is not lowered")
    value = em.source.constant(node, 2)
    number = 0.0 if value is None else float(value.reshape(()))
    if x.quant is not None and number != 0.0:
        x = em.real(x)
    out = em.result(node.output, x.order, x.quant)
    table = em.constant(margins[list(x.order)], f"{node.output}/padding")
    if number == 0.0:
        em.emit("PAD", [x.tensor, table], [out], "PadOptions")
    else:
        filler = em.constant(np.array([number], x.dtype), f"{node.output}/filler")
        em.emit("PADV2", [x.tensor, table, filler], [out], "PadV2Options")


def slice_(em: Emitter, node: Node) -> None:
    """Slice with constant bounds, steps backwards too."""
    x = em.view(node.inputs[0])
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
    out = em.result(name, x.order, x.quant)
    if 0 in out.shape:
        raise ModelError(f"{name!r} is empty")
    if all(r.step == 1 for r in stored):
        begin = em.integers([r.start for r in stored], f"{name}/begin")
        size = em.integers([len(r) for r in stored], f"{name}/size")
        em.emit("SLICE", [x.tensor, begin, size], [out], "SliceOptions")
        return
    begin = em.integers([r.start for r in stored], f"{name}/begin")
    end = em.integers([r.stop for r in stored], f"{name}/end")
    steps = em.integers([r.step for r in stored], f"{name}/steps")
    open_ended = sum(1 << place for place, r in enumerate(stored) if r.step < 0 and r.stop < 0)
    em.emit(
        "STRIDED_SLICE", [x.tensor, begin, end, steps], [out], "StridedSliceOptions",
        beginMask=0, endMask=open_ended, ellipsisMask=0, newAxisMask=0, shrinkAxisMask=0,
    )  # fmt: skip


def split(em: Emitter, node: Node) -> None:
    """Split into slices; parts that nobody reads are not made."""
    x = em.view(node.inputs[0])
    axis = node.get("axis", 0) % x.rank
    used = em.source.uses()
    start = 0
    for name in node.outputs:
        if not name:
            raise ModelError(f"Split {node.output!r} leaves out a part")
        size = em.source.shape(name)[axis]
        ranges = [range(s) for s in x.shape]
        ranges[axis] = range(start, start + size)
        start += size
        if used.get(name):
            _take_ranges(em, name, x, ranges)


def depth_to_space(em: Emitter, node: Node) -> None:
    """DepthToSpace; the order of channels that the runtime lacks is put into place by a gather."""
    x = em.view(node.inputs[0])
    block, channels = node.get("blocksize"), x.shape[1]
    tensor = em.ordered(x, NHWC)
    if node.get("mode", "DCR") == "CRD" and channels != block * block:
        index = np.arange(channels).reshape(-1, block * block).T.reshape(-1)
        moved = em.tensor(f"{node.output}/channels", tensor.shape, tensor.dtype, tensor.quant)
        em.emit("GATHER", [tensor, em.integers(index.tolist(), f"{node.output}/index")], [moved], "GatherOptions", axis=3, batchDims=0)
        tensor = moved
    out = em.result(node.output, NHWC, x.quant)
    em.emit("DEPTH_TO_SPACE", [tensor], [out], "DepthToSpaceOptions", blockSize=block)


TABLE = {
    "Reshape": reshape,
    "Flatten": reshape,
    "Squeeze": reshape,
    "Unsqueeze": reshape,
    "Transpose": transpose,
    "Concat": concat,
    "Pad": pad,
    "Slice": slice_,
    "Split": split,
    "DepthToSpace": depth_to_space,
}
