"""Sparse constants of a LiteRT file, written out in full.

The format keeps a tree with one level for each axis in an order of traversal, blocks last. A level is dense, with every index
in it, or compressed: segments say which indices each node of the level above has (S. Chou et al., Format abstraction for sparse
tensor algebra compilers, OOPSLA 2018, with blocks added).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.litert_tables import Table, damaged

_VECTORS = {1: "int32", 2: "uint16", 3: "uint8"}
"""Kind of an index vector → its elements."""
_COMPRESSED = 1
_MAX_ZEROS = 1000
"""Elements that one stored element may stand for: what is sparser is damaged, and would take any amount of memory."""


@dataclass(frozen=True, slots=True)
class _Level:
    """One level of the tree; ``segments`` and ``indices`` only where it is compressed."""

    size: int
    segments: Array | None
    indices: Array | None


def dense(table: Table, stored: Array, dtype: str, shape: tuple[int, ...], name: str) -> Array:
    """The constant with its zeros.

    Args:
        table: ``SparsityParameters`` of the schema.
        stored: bytes of the elements that are not zero.
        dtype: of the elements.
        shape: of the constant.
        name: of the tensor.

    Raises:
        ModelError: the parts do not fit together.
    """
    if dtype == "int4":
        raise ModelError(f"tensor {name!r} is sparse with four-bit elements, which is not imported")
    order, block_map = _integers(table, 0), _integers(table, 1)
    levels = [_level(part) for part in table.tables(2)]
    rank = len(shape)
    axes = set(range(rank))
    if sorted(order) != list(range(rank + len(block_map))) or len(levels) != len(order) or not set(block_map) <= axes:
        raise damaged(f"the sparse tensor {name!r} has an order of axes that is none")
    if math.prod(shape) * np.dtype(dtype).itemsize > _MAX_ZEROS * stored.size:
        raise damaged(f"the sparse tensor {name!r} of shape {list(shape)} has {stored.size} bytes")
    try:
        coordinates = _coordinates(levels, 2 * max(math.prod(shape), 1))
        result = np.zeros(shape, dtype)
        values = stored.view(dtype)
        if len(values) != len(coordinates[0] if coordinates else [0]):
            raise damaged(f"the sparse tensor {name!r} has as many places as {len(coordinates[0])}, and {len(values)} elements")
        result[_places(coordinates, levels, order, block_map, rank)] = values
    except (IndexError, ValueError) as exc:
        raise damaged(f"the sparse tensor {name!r} does not fit its shape {list(shape)}") from exc
    return result


def _integers(table: Table, number: int) -> list[int]:
    found = table.array(number, "int32")
    return [] if found is None else found.tolist()


def _level(table: Table) -> _Level:
    if table.number(0, "b") != _COMPRESSED:
        return _Level(table.number(1, "i"), None, None)
    segments, indices = (_vector(table, kind) for kind in (2, 4))
    if segments.size < 2 or (np.diff(segments) < 0).any() or segments[0] < 0 or segments[-1] > indices.size:
        raise damaged("segments of a sparse tensor do not ascend")
    return _Level(0, segments, indices)


def _vector(table: Table, kind: int) -> Array:
    inner, dtype = table.table(kind + 1), _VECTORS.get(table.number(kind, "B"))
    found = None if inner is None or dtype is None else inner.array(0, dtype)
    if found is None:
        raise damaged("a sparse tensor lacks its indices")
    return found.astype(np.int64)


def _coordinates(levels: list[_Level], limit: int) -> list[Array]:
    """The index of every stored element on every level."""
    node, found = np.zeros(1, np.int64), list[Array]()
    for level in levels:
        if level.segments is None or level.indices is None:
            counts = np.full(len(node), max(level.size, 0), np.int64)
        else:
            counts = level.segments[node + 1] - level.segments[node]
        if counts.sum() > limit:
            raise ValueError("more places than the shape has")
        parent = np.repeat(np.arange(len(node)), counts)
        within = np.arange(len(parent)) - np.repeat(np.cumsum(counts) - counts, counts)
        if level.segments is None or level.indices is None:
            index, node = within, node[parent] * level.size + within
        else:
            node = level.segments[node][parent] + within
            index = level.indices[node]
        found = [coordinate[parent] for coordinate in found] + [index]
    return found


def _places(
    coordinates: list[Array], levels: list[_Level], order: list[int], block_map: list[int], rank: int
) -> tuple[Array, ...]:
    """Indices into the dense tensor: those of blocks count inside the ones of their axis."""
    places: list[Array] = [np.zeros(1, np.int64)] * rank
    for index, axis in zip(coordinates[:rank], order[:rank], strict=True):
        places[axis] = index
    for index, level, block in zip(coordinates[rank:], levels[rank:], order[rank:], strict=True):
        axis = block_map[block - rank]
        places[axis] = places[axis] * level.size + index
    if any((place < 0).any() for place in places):
        raise ValueError("a negative index")
    return tuple(places)
