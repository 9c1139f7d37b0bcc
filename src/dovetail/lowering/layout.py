"""Reshapes of stored values without moving data: which storage order the result of a reshape has."""

from __future__ import annotations

from collections.abc import Sequence

from dovetail.lowering.tensors import Order


def groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """Splits two shapes of equal size into the shortest runs of axes with equal products, axes of size 1 left out.

    Returns:
        Pairs of (axes of ``old``, axes of ``new``); ``None`` where a shape holds a zero.
    """
    if 0 in old or 0 in new:
        return None
    left = [axis for axis, size in enumerate(old) if size != 1]
    right = [axis for axis, size in enumerate(new) if size != 1]
    found = []
    i = j = 0
    while i < len(left) and j < len(right):
        a, b = [left[i]], [right[j]]
        p, q = old[left[i]], new[right[j]]
        while p != q:
            if p < q:
                i += 1
                a.append(left[i])
                p *= old[left[i]]
            else:
                j += 1
                b.append(right[j])
                q *= new[right[j]]
        found.append((a, b))
        i, j = i + 1, j + 1
    return found


def reshaped(old: Sequence[int], new: Sequence[int], order: Order) -> Order | None:
    """Storage order of a reshaped value whose data stay where they are; ``None`` when they would have to move.

    Args:
        old: logical shape before.
        new: logical shape after.
        order: storage order before.
    """
    parts = groups(old, new)
    if parts is None:
        return None
    wide = [axis for axis in order if old[axis] != 1]
    result: list[int] = []
    while wide:
        part = next((p for p in parts if p[0][0] == wide[0]), None)
        if part is None or wide[: len(part[0])] != part[0]:
            return None
        result += part[1]
        wide = wide[len(part[0]) :]
    return _with_ones(result, new)


def _with_ones(wide: list[int], shape: Sequence[int]) -> Order:
    """Puts axes of size 1, whose place costs nothing, where a plain storage order would have them."""
    result = list(wide)
    for axis in range(len(shape)):
        if shape[axis] == 1:
            before = [result.index(a) for a in range(axis) if a in result]
            result.insert(max(before, default=-1) + 1, axis)
    return tuple(result)


def movable(shape: Sequence[int], order: Order, wanted: Order) -> bool:
    """Whether two storage orders differ in the places of axes of size 1 only, so that a reshape leads from one to the other."""
    return [a for a in order if shape[a] != 1] == [a for a in wanted if shape[a] != 1]
