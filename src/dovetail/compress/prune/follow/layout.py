"""Operators that move, join, cut and widen axes without looking at values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from dovetail.compress.graph import edit
from dovetail.compress.prune.follow.broadcast import broadcast
from dovetail.compress.prune.units import Labels
from dovetail.compress.prune.walk import Axes, Kept, Walk, counted, describe, integers, set_integers, sizes


def transpose(walk: Walk, node: ir.Node) -> None:
    """Axes in another order."""
    axes = walk.axes(node.inputs[0])
    order = node.attributes.get_ints("perm", range(len(axes) - 1, -1, -1))
    walk.set(node.outputs[0], [axes[i] for i in order])


def squeeze(walk: Walk, node: ir.Node) -> None:
    """Axes of one position go; none of them holds units."""
    data = node.inputs[0]
    axes, known = walk.axes(data), sizes(data)
    assert known is not None
    gone = _axes_input(node, len(axes))
    if gone is None:
        gone = [i for i, size in enumerate(known) if size == 1] if None not in known else None
    if gone is None or any(axes[i] is not None for i in gone):
        return walk.stop(node)
    walk.set(node.outputs[0], [labels for i, labels in enumerate(axes) if i not in gone])


def unsqueeze(walk: Walk, node: ir.Node) -> None:
    """Axes of one position come."""
    axes = list(walk.axes(node.inputs[0]))
    out = sizes(node.outputs[0])
    assert out is not None
    come = _axes_input(node, len(out))
    if come is None:
        return walk.stop(node)
    walk.set(node.outputs[0], [None if i in come else axes.pop(0) for i in range(len(out))])


def concat(walk: Walk, node: ir.Node) -> None:
    """One after the other along one axis; on the others, position by position."""
    out = sizes(node.outputs[0])
    assert out is not None
    axis = node.attributes.get_int("axis") % len(out)
    parts = [_part(walk, node, value, axis) for value in node.inputs if value is not None]
    labelled = any(part is not None and part[1] for part in parts)
    if labelled and any(part is None for part in parts):
        for part in parts:
            walk.keep(None if part is None else part[0], f"{describe(node)} joins them with something of unknown size")
        labelled = False
    broadcast(walk, node, node.inputs, skip=(axis - len(out),))
    axes = list(walk.axes(node.outputs[0]))
    axes[axis] = np.concatenate([part[0] for part in parts if part is not None]) if labelled else None
    walk.set(node.outputs[0], axes)


def _part(walk: Walk, node: ir.Node, value: ir.Value, axis: int) -> tuple[Labels, bool] | None:
    """Units of one part and whether any of them may go; a part of fixed size gets units that stay."""
    labels, known = walk.axes(value)[axis], sizes(value)
    if labels is not None:
        return labels, True
    size = None if known is None else known[axis]
    if size is None:
        return None
    fixed = walk.units.new(size)
    if size:
        walk.keep(fixed, f"{describe(node)} takes {value.name!r} whole")
    return fixed, False


def split(walk: Walk, node: ir.Node) -> None:
    """Pieces of one axis."""
    axes = walk.axes(node.inputs[0])
    axis = node.attributes.get_int("axis", 0) % len(axes)
    labels = axes[axis]
    parts = [_size(output, axis) for output in node.outputs]
    if labels is not None and (None in parts or sum(p for p in parts if p is not None) != len(labels)):
        return walk.stop(node, f"{describe(node)} has pieces of unknown size")
    start = 0
    pieces: list[Labels | None] = []
    for output, part in zip(node.outputs, parts, strict=True):
        piece = None if labels is None or part is None else labels[start : start + part]
        start += part or 0
        pieces.append(piece)
        if piece is not None:
            walk.regions.append(piece)
        walk.set(output, [*axes[:axis], piece, *axes[axis + 1 :]])
        if piece is not None and len(piece) == 1:
            walk.keep(piece, f"{describe(node)} would give an empty piece")
    if labels is None:
        return

    def change(kept: Kept) -> None:
        node.attributes.pop("num_outputs", None)
        set_integers(node, 1, [counted(kept, piece) for piece in pieces if piece is not None])

    walk.on_removal(change)


def _size(value: ir.Value, axis: int) -> int | None:
    known = sizes(value)
    return None if known is None else known[axis]


def slice_(walk: Walk, node: ir.Node) -> None:
    """A range of some axes; units outside it end here."""
    data = node.inputs[0]
    axes, known = list(walk.axes(data)), sizes(data)
    assert known is not None
    starts, ends = integers(node.inputs[1]), integers(node.inputs[2])
    named = _input(node, 3, None if starts is None else list(range(len(starts))))
    steps = _input(node, 4, None if starts is None else [1] * len(starts))
    if starts is None or ends is None or named is None or steps is None:
        return walk.stop(node, f"{describe(node)} has bounds that are computed")
    cuts: dict[int, tuple[Labels, slice]] = {}
    for entry, (start, end, axis, step) in enumerate(zip(starts, ends, named, steps, strict=True)):
        axis %= len(axes)
        labels = axes[axis]
        if labels is None:
            continue
        span = slice(*slice(start, end).indices(len(labels)))
        if step != 1 or span.stop - span.start < 2:
            walk.keep(labels, f"{describe(node)} takes single channels")
            axes[axis] = None
            continue
        cuts[entry] = (labels, span)
        axes[axis] = labels[span]
        walk.regions.append(labels[span])
    walk.set(node.outputs[0], axes)
    if not cuts:
        return

    def change(kept: Kept) -> None:
        first, last = list(starts), list(ends)
        for entry, (labels, span) in cuts.items():
            first[entry] = counted(kept, labels[: span.start])
            last[entry] = first[entry] + counted(kept, labels[span])
        set_integers(node, 1, first, edit.constant(node.inputs[1]))
        set_integers(node, 2, last, edit.constant(node.inputs[2]))

    walk.on_removal(change)


def pad(walk: Walk, node: ir.Node) -> None:
    """Padded positions are units of their own: what they are added to decides which of them go (option-A shortcuts).

    He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2, describe shortcuts of that kind.
    """
    data = node.inputs[0]
    axes, amounts = walk.axes(data), integers(node.inputs[1])
    named = _input(node, 3, list(range(len(axes))))
    if amounts is None or named is None:
        return walk.stop(node, f"{describe(node)} has amounts that are computed")
    mode = node.attributes.get_string("mode", "constant")
    result, count = list(axes), len(named)
    rims: dict[int, tuple[Labels, Labels]] = {}
    for entry, axis in enumerate(named):
        labels = axes[axis]
        left, right = amounts[entry], amounts[entry + count]
        if labels is None or left == right == 0:
            continue
        if mode != "constant" or min(left, right) < 0:
            walk.keep(labels, f"{describe(node)} repeats or crops them")
            result[axis] = None
            continue
        rims[entry] = (walk.units.new(left), walk.units.new(right))
        result[axis] = np.concatenate([rims[entry][0], labels, rims[entry][1]])
    walk.set(node.outputs[0], result)

    def change(kept: Kept) -> None:
        new = list(amounts)
        for entry, (before, after) in rims.items():
            new[entry], new[entry + count] = counted(kept, before), counted(kept, after)
        set_integers(node, 1, new)

    if rims:
        walk.on_removal(change)


def expand(walk: Walk, node: ir.Node) -> None:
    """Repeats axes of one position."""
    data, out = node.inputs[0], node.outputs[0]
    axes, target = walk.axes(data), integers(node.inputs[1])
    if all(labels is None for labels in axes):
        return
    if target is None:
        return walk.stop(node, f"{describe(node)} has a shape that is computed")
    offset = max(len(target) - len(axes), 0)
    walk.set(out, [*[None] * offset, *axes])

    def change(kept: Kept) -> None:
        new = list(target)
        for axis, labels in enumerate(axes):
            entry = axis + len(target) - len(axes)
            if labels is not None and entry >= 0 and new[entry] != 1:
                new[entry] = counted(kept, labels)
        set_integers(node, 1, new)

    walk.on_removal(change)


def shape(walk: Walk, node: ir.Node) -> None:
    """Reading sizes is harmless where only those of axes without units are used."""
    axes = walk.axes(node.inputs[0])
    first = node.attributes.get_int("start", 0)
    read = axes[slice(first, node.attributes.get_int("end", len(axes)))]
    for use in node.outputs[0].uses():
        entries = _entries(use.node, len(read)) if use.idx == 0 else None
        for position, labels in enumerate(read):
            if entries is None or position in entries:
                walk.keep(labels, f"{describe(node)} reads how many there are")
    if node.outputs[0].is_graph_output():
        walk.stop(node)


def _entries(node: ir.Node, count: int) -> set[int] | None:
    """Entries of a shape that a Gather or Slice picks, ``None`` when unknown."""
    if node.op_type == "Gather" and (picked := integers(node.inputs[1])) is not None:
        return {i % count for i in picked} if count else set()
    if node.op_type == "Slice":
        bounds = [integers(value) for value in node.inputs[1:]]
        if all(b is not None and len(b) == 1 for b in bounds):
            numbers = [b[0] for b in bounds if b is not None]
            return set(range(count)[slice(numbers[0], numbers[1], numbers[3] if len(numbers) > 3 else None)])
    return None


def depth_to_space(walk: Walk, node: ir.Node) -> None:
    """The channels that become the pixels of one output channel belong together."""
    axes, block = _channels_alone(walk, node), node.attributes.get_int("blocksize")
    labels = axes[1]
    if labels is not None:
        crd = node.attributes.get_string("mode", "DCR") == "CRD"
        labels = walk.units.tie(labels.reshape(-1, block * block).T if crd else labels.reshape(block * block, -1))
    walk.set(node.outputs[0], (axes[0], labels, None, None))


def space_to_depth(walk: Walk, node: ir.Node) -> None:
    """Each channel becomes one channel per pixel of a block."""
    axes, block = _channels_alone(walk, node), node.attributes.get_int("blocksize")
    walk.set(node.outputs[0], (axes[0], None if axes[1] is None else np.tile(axes[1], block * block), None, None))


def _channels_alone(walk: Walk, node: ir.Node) -> Axes:
    """Units of the input; those on its spatial axes stay."""
    axes = walk.axes(node.inputs[0])
    for labels in axes[2:]:
        walk.keep(labels, f"{describe(node)} moves them between pixels and channels")
    return axes


def _input(node: ir.Node, index: int, default: list[int] | None) -> list[int] | None:
    """An optional input of integers: its default when it is absent, ``None`` when it is computed."""
    if index >= len(node.inputs) or node.inputs[index] is None:
        return default
    return integers(node.inputs[index])


def _axes_input(node: ir.Node, rank: int) -> list[int] | None:
    given = _input(node, 1, None)
    return None if given is None else [axis % rank for axis in given]


def silent(walk: Walk, node: ir.Node) -> None:
    """Has no axis that could hold units."""
    del walk, node


TABLE: dict[str, Callable[[Walk, ir.Node], None]] = {
    "Concat": concat,
    "ConstantOfShape": silent,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Pad": pad,
    "Range": silent,
    "Shape": shape,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
