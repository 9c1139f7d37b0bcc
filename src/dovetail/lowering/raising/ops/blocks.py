"""Operators that exchange space for channels or for the batch, block by block."""

from __future__ import annotations

import math

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.lowering.litert_file import LiteRtOperator
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.ops.common import NCHW, require_rank


def depth_to_space(graph: Graph, op: LiteRtOperator) -> None:
    """DEPTH_TO_SPACE."""
    require_rank(op, op.input(0), 4)
    name = graph.node("DepthToSpace", [graph.real(op.input(0), NCHW)], blocksize=int(op.get("blockSize", 0)), mode="DCR")
    graph.bind(op, op.output, name, NCHW)


def space_to_depth(graph: Graph, op: LiteRtOperator) -> None:
    """SPACE_TO_DEPTH."""
    require_rank(op, op.input(0), 4)
    name = graph.node("SpaceToDepth", [graph.real(op.input(0), NCHW)], blocksize=int(op.get("blockSize", 0)))
    graph.bind(op, op.output, name, NCHW)


def space_to_batch(graph: Graph, op: LiteRtOperator) -> None:
    """SPACE_TO_BATCH_ND: padding, then the places inside a block become images of their own."""
    x = op.input(0)
    block, margins = _block(graph, op), graph.constant(op, 2, "padding").reshape(-1, 2)
    n, space = len(block), graph.fixed(op, x)[1:]
    if len(margins) != n:
        raise ModelError(f"{op.code} {op.output.name!r} pads {len(margins)} axes of {n}")
    padded = [size + int(sum(margin)) for size, margin in zip(space[:n], margins, strict=True)]
    if any(size % b for size, b in zip(padded, block, strict=True)):
        raise ModelError(f"{op.code} {op.output.name!r} has blocks of {block} in {padded}")
    rest = list(space[n:])
    pads = np.zeros((2, x.rank), np.int64)
    pads[:, 1 : n + 1] = margins.T
    name = graph.node("Pad", [graph.real(x), graph.integers(pads.reshape(-1)), graph.number(0.0, _kind(op))])
    parts = [part for size, b in zip(padded, block, strict=True) for part in (size // b, b)]
    name = graph.node("Reshape", [name, graph.integers([x.shape[0], *parts, *rest], "shape")])
    axes = [*range(2, 2 * n + 1, 2), 0, *range(1, 2 * n + 1, 2), *range(2 * n + 1, 2 * n + 1 + len(rest))]
    name = graph.node("Transpose", [name], perm=axes)
    shape = [x.shape[0] * math.prod(block), *parts[::2], *rest]
    graph.bind(op, op.output, graph.node("Reshape", [name, graph.integers(shape, "shape")]))


def batch_to_space(graph: Graph, op: LiteRtOperator) -> None:
    """BATCH_TO_SPACE_ND: images become the places inside a block, then margins are cut off."""
    x = op.input(0)
    block, margins = _block(graph, op), graph.constant(op, 2, "margins").reshape(-1, 2)
    n, sizes = len(block), graph.fixed(op, x)
    batch, left = divmod(sizes[0], math.prod(block))
    if left or len(margins) != n:
        raise ModelError(f"{op.code} {op.output.name!r} has blocks of {block} in {sizes[0]} images")
    rest = list(sizes[n + 1 :])
    name = graph.node("Reshape", [graph.real(x), graph.integers([*block, batch, *sizes[1:]], "shape")])
    axes = [n, *(axis for i in range(n) for axis in (n + 1 + i, i)), *range(2 * n + 1, 2 * n + 1 + len(rest))]
    name = graph.node("Transpose", [name], perm=axes)
    space = [size * b for size, b in zip(sizes[1 : n + 1], block, strict=True)]
    name = graph.node("Reshape", [name, graph.integers([batch, *space, *rest], "shape")])
    begin = [int(margin[0]) for margin in margins]
    end = [size - int(margin[1]) for size, margin in zip(space, margins, strict=True)]
    axes = list(range(1, n + 1))
    graph.bind(op, op.output, graph.node("Slice", [name, *(graph.integers(b) for b in (begin, end, axes))]))


def _block(graph: Graph, op: LiteRtOperator) -> list[int]:
    block = [int(b) for b in graph.constant(op, 1, "block").reshape(-1)]
    if len(block) + 1 > op.input(0).rank or min(block, default=0) < 1:
        raise ModelError(f"{op.code} {op.output.name!r} has blocks of {block}")
    return block


def _kind(op: LiteRtOperator) -> str:
    return "float32" if op.input(0).quant is not None else op.input(0).dtype


TABLE = {
    "DEPTH_TO_SPACE": depth_to_space,
    "SPACE_TO_DEPTH": space_to_depth,
    "SPACE_TO_BATCH_ND": space_to_batch,
    "BATCH_TO_SPACE_ND": batch_to_space,
}
