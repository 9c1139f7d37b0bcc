"""Pad: with a number, by mirroring, by the edge, or around; and cropping by negative amounts."""

from __future__ import annotations

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.types import bind, carried
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Tensor, View

_TYPES = frozenset({"float32", "int8", "uint8", "int16", "int32", "int64", "bool"})
_MODES = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
"""ONNX mode → numpy's, which says where each element comes from."""
_RANKS = 5
"""What kernels of constant padding take."""


def pad(em: Emitter, node: Node) -> None:
    """Pad in each mode of the standard.

    Raises:
        ModelError: amounts or a number that are computed at run time.
    """
    x = em.view(node.inputs[0])
    if x.quant is None or not x.quant.per_tensor:
        (x,) = carried(em, node, [em.real(x)], _TYPES)
    margins = _margins(em, node, x.rank)
    mode = node.get("mode", "constant")
    x = _cropped(em, node, x, np.minimum(margins, 0))
    margins = np.maximum(margins, 0)
    if not margins.any():
        _bind(em, node, x.tensor, x)
    elif mode == "constant":
        _constant(em, node, x, margins)
    elif mode in _MODES:
        _copied(em, node, x, margins, mode)
    else:
        raise ModelError(f"Pad {node.output!r} has mode {mode!r}, which is not lowered")


def _margins(em: Emitter, node: Node, rank: int) -> Array:
    """Amounts in front of and behind each logical axis."""
    amounts = em.array(node, 1, "amounts").reshape(2, -1)
    chosen = em.array(node, 3, "axes").reshape(-1) if node.has(3) else np.arange(amounts.shape[1])
    margins = np.zeros((rank, 2), np.int32)
    for column, axis in enumerate(chosen):
        margins[int(axis) % rank] = amounts[:, column]
    return margins


def _cropped(em: Emitter, node: Node, x: View, margins: Array) -> View:
    if not margins.any():
        return x
    ranges = [range(-int(begin), size + int(end)) for (begin, end), size in zip(margins, x.shape, strict=True)]
    if any(len(r) == 0 for r in ranges):
        raise ModelError(f"Pad {node.output!r} crops all there is")
    stored = [ranges[axis] for axis in x.order]
    out = em.tensor(f"{node.output}/cropped", [len(r) for r in stored], x.dtype, x.quant)
    begin = em.integers([r.start for r in stored], f"{node.output}/begin")
    size = em.integers(out.shape, f"{node.output}/size")
    em.emit("SLICE", [x.tensor, begin, size], [out], "SliceOptions")
    return View(out, x.order)


def _bind(em: Emitter, node: Node, tensor: Tensor, x: View) -> None:
    if x.quant is None:
        bind(em, node.output, tensor, x.order)
    else:
        em.bind(node.output, View(tensor, x.order))


def _constant(em: Emitter, node: Node, x: View, margins: Array) -> None:
    value = em.array(node, 2, "number").reshape(()) if node.has(2) else np.zeros((), np.float32)
    filler = None if value == 0 else _filler(em, node, x, value)
    if filler is not None and filler.quant is None and x.quant is not None:
        x = em.real(x)
    stored = margins[list(x.order)]
    short, stored = _merged(em, x.tensor, stored)
    out = em.tensor(node.output, [s + int(m.sum()) for s, m in zip(short.shape, stored, strict=True)], x.dtype, x.quant)
    table = em.constant(stored.astype(np.int32), f"{node.output}/padding")
    if filler is None:
        em.emit("PAD", [short, table], [out], "PadOptions")
    else:
        em.emit("PADV2", [short, table, filler], [out], "PadV2Options")
    shape = em.source.shape(node.output)
    _bind(em, node, em.reshape(out, [shape[axis] for axis in x.order]), x)


def _filler(em: Emitter, node: Node, x: View, value: Array) -> Tensor:
    """The number, as an integer where those of the operand reach it."""
    quant, number = x.quant, value.reshape(1)
    if quant is None:
        return em.constant(number.astype(x.dtype), f"{node.output}/filler")
    stored = quant.quantise(number.astype(np.float32))
    if abs(float(quant.dequantise(stored)[0]) - float(number[0])) <= float(quant.scale[0]) / 2:
        return em.constant(stored, f"{node.output}/filler", quant)
    return em.constant(number.astype(np.float32), f"{node.output}/filler")


def _merged(em: Emitter, tensor: Tensor, margins: Array) -> tuple[Tensor, Array]:
    """The tensor with neighbouring axes that are not padded made one, where there are too many axes."""
    if len(tensor.shape) <= _RANKS:
        return tensor, margins
    shape: list[int] = []
    kept: list[Array] = []
    for size, margin in zip(tensor.shape, margins, strict=True):
        if kept and not margin.any() and not kept[-1].any():
            shape[-1] *= size
        else:
            shape.append(size)
            kept.append(margin)
    if len(shape) > _RANKS:
        raise ModelError(f"{tensor.name!r} is padded along {len(shape)} separate axes; the runtime takes {_RANKS}")
    return em.reshape(tensor, shape), np.array(kept)


def _copied(em: Emitter, node: Node, x: View, margins: Array, mode: str) -> None:
    """Padding with elements of the operand: mirrored in one operator, otherwise gathered axis by axis."""
    stored = margins[list(x.order)]
    fits = all(m.max() < size for m, size in zip(stored, x.tensor.shape, strict=True))
    if mode == "reflect" and fits and x.rank <= _RANKS:
        shape = [s + int(m.sum()) for s, m in zip(x.tensor.shape, stored, strict=True)]
        out = em.tensor(node.output, shape, x.dtype, x.quant)
        table = em.constant(stored.astype(np.int32), f"{node.output}/padding")
        em.emit("MIRROR_PAD", [x.tensor, table], [out], "MirrorPadOptions", mode=0)
        _bind(em, node, out, x)
        return
    m, current = Maths(em, node.output), x.tensor
    for place, (begin, end) in enumerate(stored):
        if begin or end:
            index = np.pad(np.arange(current.shape[place]), (int(begin), int(end)), mode=_MODES[mode])  # type: ignore[call-overload]
            current = m.gather(current, m.constant(index.astype(np.int32)), place)
    _bind(em, node, current, x)


TABLE = {"Pad": pad}
