"""Reshape and Flatten: axes merge (channels × pixels to features) and split (features to heads × rest)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dovetail.compress.graph import edit
from dovetail.compress.prune.units import Labels
from dovetail.compress.prune.walk import Axes, Kept, Walk, counted, describe, integers, set_integers, sizes

Dim = int | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Axes of the input that hold the same elements, in the same order, as axes of the output.

    Attributes:
        before: axes of the input.
        after: axes of the output.
        exact: the sizes of all these axes are known.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    exact: bool


def reshape(walk: Walk, node: ir.Node) -> None:
    """Follows units through every block of axes, and gives the shape constant its new entries."""
    data, out = node.inputs[0], node.outputs[0]
    entries = _entries(node)
    axes = walk.axes(data)
    if all(labels is None for labels in axes):
        return
    if entries is None or (0 in entries and node.attributes.get_int("allowzero", 0)):
        return walk.stop(node, f"{describe(node)} has a shape that is computed")
    result = _through(walk, node, axes, blocks(_dims(data), _dims(out), entries))
    walk.set(out, result)
    for axis, (labels, entry) in enumerate(zip(result, entries, strict=True)):
        copied = axes[axis] if entry == 0 else None
        if copied is not None and copied is not labels:
            walk.keep(copied, f"{describe(node)} copies how many there are")
            walk.keep(labels, f"{describe(node)} copies the size of another axis")
        elif labels is not None and entry is None and node.op_type == "Reshape":
            walk.keep(labels, f"{describe(node)} computes how many there are")
    if node.op_type == "Reshape":
        walk.on_removal(lambda kept: _write(node, entries, result, kept))


def _through(walk: Walk, node: ir.Node, axes: Axes, parts: Sequence[Block]) -> list[Labels | None]:
    known = sizes(node.outputs[0])
    assert known is not None
    result: list[Labels | None] = [None] * len(known)
    for part in parts:
        labelled = [axis for axis in part.before if axes[axis] is not None]
        if not labelled:
            continue
        if len(part.before) == len(part.after) == 1:
            result[part.after[0]] = axes[part.before[0]]
        elif len(labelled) > 1 or not part.exact:
            for axis in labelled:
                walk.keep(axes[axis], f"{describe(node)} mixes them with axes of unknown size")
        else:
            flat = _merged(node, axes, part, labelled[0])
            axis, labels = _split(walk, flat, [known[a] or 0 for a in part.after])
            result[part.after[axis]] = labels
    return result


def _merged(node: ir.Node, axes: Axes, part: Block, labelled: int) -> Labels:
    """Units of all elements of a block, flattened: each unit once for every combination of the other axes."""
    before = sizes(node.inputs[0])
    labels = axes[labelled]
    assert before is not None and labels is not None
    view = [len(labels) if axis == labelled else 1 for axis in part.before]
    whole = [before[axis] or 0 for axis in part.before]
    return np.ascontiguousarray(np.broadcast_to(labels.reshape(view), whole)).reshape(-1)


def _split(walk: Walk, flat: Labels, shape: Sequence[int]) -> tuple[int, Labels]:
    """The axis of ``shape`` along which units differ, and its units.

    Where they differ along several, units are joined along all but one: the first that is longer than 1, but the second of
    three when the first counts query, key and value.
    """
    grid = flat.reshape(shape)
    roots = walk.units.roots(grid)
    for axis in range(len(shape)):
        if shape[axis] > 1 and _only(roots, axis):
            return axis, np.ascontiguousarray(np.moveaxis(grid, axis, 0).reshape(shape[axis], -1)[:, 0])
    wide = [axis for axis, size in enumerate(shape) if size > 1]
    axis = wide[1] if len(wide) > 2 and shape[wide[0]] == 3 else wide[0]
    labels = walk.units.tie(np.ascontiguousarray(np.moveaxis(grid, axis, 0).reshape(shape[axis], -1).T))
    walk.heads.extend(labels.tolist())
    return axis, labels


def _only(roots: Labels, axis: int) -> bool:
    """Whether units differ along this axis alone."""
    first = np.moveaxis(roots, axis, 0).reshape(roots.shape[axis], -1)
    return bool((first == first[:, :1]).all())


def blocks(before: Sequence[Dim], after: Sequence[Dim], entries: Sequence[int | None]) -> list[Block]:
    """Aligns axes from the left, then from the right, then by equal products of sizes; the rest is one inexact block.

    Args:
        before: sizes of the input; a string is a symbolic size, ``None`` an unknown one.
        after: sizes of the output.
        entries: the requested shape: 0 copies the axis at the same place.
    """
    i = 0
    while i < min(len(before), len(after)) and (entries[i] == 0 or _same(before[i], after[i])):
        i += 1
    head = [Block(before=(k,), after=(k,), exact=True) for k in range(i)]
    p, q, tail = len(before), len(after), []
    while p > i and q > i:
        found = _last_block(before[i:p], after[i:q])
        if found is None:
            break
        tail.append(Block(before=tuple(range(p - found[0], p)), after=tuple(range(q - found[1], q)), exact=True))
        p, q = p - found[0], q - found[1]
    rest = []
    if p > i or q > i:
        alone = p - i == q - i == 1
        rest = [Block(before=tuple(range(i, p)), after=tuple(range(i, q)), exact=alone)]
    return [*head, *rest, *reversed(tail)]


def _last_block(before: Sequence[Dim], after: Sequence[Dim]) -> tuple[int, int] | None:
    """Numbers of last axes on either side with equal products; symbolic axes match their own kind alone."""
    if _same(before[-1], after[-1]):
        return 1, 1
    p = q = 0
    left = right = 1
    while p == 0 or q == 0 or left != right:
        if p == 0 or (q > 0 and left < right):
            p += 1
            size = before[-p] if p <= len(before) else None
            if not isinstance(size, int) or size == 0:
                return None
            left *= size
        else:
            q += 1
            size = after[-q] if q <= len(after) else None
            if not isinstance(size, int) or size == 0:
                return None
            right *= size
    return p, q


def _same(a: Dim, b: Dim) -> bool:
    return a is not None and a == b


def _dims(value: ir.Value | None) -> list[Dim]:
    assert value is not None and value.shape is not None
    return [size if isinstance(size, int) else size.value for size in value.shape]


def _entries(node: ir.Node) -> list[int | None] | None:
    """The requested shape; ``None`` for an entry that is computed, and where even their number is unknown.

    Flatten is the reshape to its two sizes.
    """
    if node.op_type == "Flatten":
        return list(sizes(node.outputs[0]) or ())
    known = integers(node.inputs[1])
    if known is not None:
        return list(known)
    joined = edit.made_by(node.inputs[1], "Concat")
    if joined is None:
        return None
    found: list[int | None] = []
    for value in joined.inputs:
        numbers, shape = integers(value), sizes(value)
        if numbers is not None:
            found.extend(numbers)
        elif shape == (1,):
            found.append(None)
        else:
            return None
    out = sizes(node.outputs[0])
    return found if out is not None and len(out) == len(found) else None


def _write(node: ir.Node, entries: Sequence[int | None], result: Sequence[Labels | None], kept: Kept) -> None:
    new = [
        entry if labels is None or entry in (0, -1, None) else counted(kept, labels)
        for entry, labels in zip(entries, result, strict=True)
    ]
    numbers = [entry for entry in new if entry is not None]
    if new == list(entries):
        return
    if len(numbers) == len(new):
        return set_integers(node, 1, numbers)
    joined = edit.made_by(node.inputs[1], "Concat")
    assert joined is not None and node.graph is not None
    computed = iter([value for value in joined.inputs if integers(value) is None])
    parts = [
        next(computed) if entry is None else edit.new_constant(node, np.array([entry], np.int64), f"{node.name}_pruned_{index}")
        for index, entry in enumerate(new)
    ]
    fresh = ir.node("Concat", parts, {"axis": 0}, name=f"{node.name}_pruned_shape")
    node.graph.insert_before(node, fresh)
    node.replace_input_with(1, fresh.outputs[0])


TABLE: dict[str, Callable[[Walk, ir.Node], None]] = {"Flatten": reshape, "Reshape": reshape}
