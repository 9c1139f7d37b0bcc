"""Quantise/dequantise pairs become the types of tensors: same scales, same zero points, no arithmetic of their own.

Unsigned 8-bit values are stored as signed ones, with the zero point shifted by 128 as well: the reals stay what they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.rewrite.terms import never_negative
from dovetail.lowering.source import Node, Source
from dovetail.lowering.tensors import Quant, Tensor, View, identity

SHIFT = {"uint8": ("int8", 128), "uint16": ("int16", 32768)}
"""Unsigned type → the signed one that stores it, and how far values move."""
_MOVES = frozenset({
    "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "MaxPool", "DepthToSpace",
})  # fmt: skip
"""Operators that choose among numbers and move them: before them numbers are rounded to the same integers as behind them."""
_TYPES = frozenset({"int8", "uint8", "int16", "uint16", "int32"})


def parameters(source: Source, node: Node) -> Quant:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear.

    Raises:
        ModelError: they are computed, inconsistent, in blocks, or of a type that the runtime lacks.
    """
    scale = source.constant(node, 1)
    if scale is None:
        raise ModelError(f"{node.op} {node.output!r} computes its scale at run time")
    if node.get("block_size"):
        raise ModelError(f"{node.op} {node.output!r} quantises in blocks, which the runtime cannot take")
    zero = source.constant(node, 2)
    if node.has(2) and zero is None:
        raise ModelError(f"{node.op} {node.output!r} computes its zero point at run time")
    dtype = _stored_type(source, node, zero)
    zeros = np.zeros(scale.shape, np.int64) if zero is None else zero.astype(np.int64)
    if zeros.size != scale.size or not np.isfinite(scale).all() or (scale <= 0).any():
        rule = "they must be as many, and scales positive and finite"
        raise ModelError(f"{node.op} {node.output!r} has {scale.size} scales and {zeros.size} zero points; {rule}")
    signed, shift = SHIFT.get(dtype, (dtype, 0))
    axis = _axis(source, node, scale)
    return Quant(scale=scale.astype(np.float32).reshape(-1), zero_point=zeros.reshape(-1) - shift, dtype=signed, axis=axis)


def _stored_type(source: Source, node: Node, zero: Array | None) -> str:
    dtype = source.dtype(node.inputs[0]) if node.op == "DequantizeLinear" else source.dtype(node.output)
    if dtype not in _TYPES or (zero is not None and zero.dtype.name != dtype):
        raise ModelError(f"{node.op} {node.output!r} stores {dtype}; the runtime takes int8, uint8, int16 and int32")
    return dtype


def _axis(source: Source, node: Node, scale: Array) -> int:
    rank = len(source.shape(node.inputs[0]))
    axis = int(node.get("axis", 1))
    if scale.size == 1:
        return 0
    if not -rank <= axis < rank or source.shape(node.inputs[0])[axis] != scale.size:
        shape = source.shape(node.inputs[0])
        raise ModelError(f"{node.op} {node.output!r} has {scale.size} scales for axis {axis} of {list(shape)}")
    return axis % rank


def targets(source: Source) -> dict[str, Quant]:
    """Value → the quantisation it is to be computed in, where every reader quantises it, maybe behind what only moves it.

    Where readers want different scales the finest is taken, and the others are made from it, if its range covers theirs; else
    none, since it would cut off what they let through.
    """
    found = {}
    consumers = source.consumers()
    for name in consumers:
        wanted = _wanted(source, consumers, name)
        finest = None if wanted is None or name in source.constants else _finest(source, name, wanted)
        if finest is not None:
            found[name] = finest
    return found


def _wanted(source: Source, consumers: Mapping[str, Sequence[Node]], name: str) -> list[Quant] | None:
    """What the readers of a value quantise it to; ``None`` where one reads reals."""
    if name in source.outputs:
        return None
    found: list[Quant] = []
    for node in consumers.get(name, ()):
        if node.inputs[0] != name or name in node.inputs[1:]:
            return None
        if node.op == "QuantizeLinear":
            found.append(parameters(source, node))
            continue
        behind = [_wanted(source, consumers, moved) for moved in node.outputs if moved] if node.op in _MOVES else [None]
        for quants in behind:
            if quants is None:
                return None
            found += quants
    return found


def _finest(source: Source, name: str, quants: Sequence[Quant]) -> Quant | None:
    """The finest of some quantisations of a value, if it reaches as far as every other, to half a step of that."""
    if not quants or not all(quant.per_tensor for quant in quants):
        return None
    finest = min(quants, key=lambda quant: float(quant.scale[0]))
    low, high = finest.range
    for quant in quants:
        (least, greatest), half = quant.range, float(quant.scale[0]) / 2
        if high < greatest - half or (low > least + half and not (low <= 0 and never_negative(source, name))):
            return None
    return finest


# -- lowering of the pairs -----------------------------------------------------------------------------------------------


def quantize_linear(em: Emitter, node: Node) -> None:
    """The value itself where it is stored so already; else it is converted."""
    view, quant = em.view(node.inputs[0]), parameters(em.source, node)
    if node.inputs[0] in em.shuffled:
        em.shuffled[node.output] = em.shuffled[node.inputs[0]]
    if quant.per_tensor:
        if view.quant is not None and not quant.same(view.quant) and view.tensor.data is None:
            em.note(f"{node.inputs[0]}: rescaled from {view.quant} to {quant}")
        em.bind(node.output, em.quantised(view, quant))
        return
    data = em.real(view).tensor.data
    if data is None:
        raise ModelError(f"QuantizeLinear {node.output!r} gives a computed value several scales; the runtime takes one")
    logical = _logical(View(em.real(view).tensor, view.order))
    em.bind(node.output, View(em.constant(quant.quantise(logical), node.output, quant), identity(view.rank)))


def dequantize_linear(em: Emitter, node: Node) -> None:
    """The integers themselves, which from here on mean reals."""
    quant = parameters(em.source, node)
    name = node.inputs[0]
    if name in em.shuffled:
        em.shuffled[node.output] = em.shuffled[name]
    if name in em.source.constants:
        data = em.source.constants[name]
        shift = SHIFT.get(data.dtype.name, ("", 0))[1]
        stored = (data.astype(np.int64) - shift).astype(quant.dtype)
        em.bind(node.output, View(em.constant(stored, node.output, quant), identity(data.ndim)))
        return
    view = em.view(name)
    if view.quant is None:
        view = _declared(em, view, em.source.dtype(name), quant)
    if not quant.same(view.quant):
        raise ModelError(f"{node.output!r} is dequantised with {quant}, but was quantised with {view.quant}")
    em.bind(node.output, view)


def _declared(em: Emitter, view: View, dtype: str, quant: Quant) -> View:
    """Raw integers, moved about since they came in, whose scale becomes known only now."""
    shift = SHIFT.get(dtype, (dtype, 0))[1]
    view.tensor.quant = Quant(scale=quant.scale, zero_point=quant.zero_point + shift, dtype=dtype)
    return em.signed(view, quant) if shift else view


def _logical(view: View) -> Array:
    assert view.tensor.data is not None
    return view.tensor.data.transpose([view.order.index(axis) for axis in range(view.rank)])


def input_tensor(em: Emitter, name: str) -> Tensor:
    """The tensor of a graph input, which keeps its type; integers that are dequantised get the scale written to them."""
    dtype = em.source.dtype(name)
    readers = em.source.consumers().get(name, [])
    quants = [parameters(em.source, node) for node in readers if node.op == "DequantizeLinear" and node.inputs[0] == name]
    if not quants or len(quants) != len(readers) or not all(q.same(quants[0]) for q in quants):
        return em.tensor(name, em.source.shape(name), dtype)
    shift = SHIFT.get(dtype, (dtype, 0))[1]
    stored = Quant(scale=quants[0].scale, zero_point=quants[0].zero_point + shift, dtype=dtype)
    return em.tensor(name, em.source.shape(name), dtype, stored)


def output_tensor(em: Emitter, name: str) -> Tensor:
    """The tensor of a graph output, in its own type and order; integers are moved before they become the wider reals."""
    view = em.view(name)
    dtype = em.source.dtype(name)
    if view.quant is not None and dtype not in _TYPES:
        view = em.real(View(em.plain(view), identity(view.rank)))
    elif view.quant is not None and dtype in SHIFT:
        quant = Quant(scale=view.quant.scale, zero_point=view.quant.zero_point + SHIFT[dtype][1], dtype=dtype)
        view = em.quantised(view, quant)
    return em.plain(view)
