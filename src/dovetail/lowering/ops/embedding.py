"""Look-ups in constant tables that stay in the bytes in which they are stored."""

from __future__ import annotations

import numpy as np

from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.rewrite import EMBEDDING
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Tensor, View, identity


def embedding(em: Emitter, node: Node) -> None:
    """Rows of a table of half-precision numbers, or of integers with a scale for each row or column.

    The rows are taken first and made floats then. That is exact: ``(q − zero) · scale`` is computed as the model does it.
    """
    table, m = em.source.constants[node.inputs[0]], Maths(em, node.output)
    index = m.cast(em.plain(em.view(node.inputs[1])), "int32")
    index = m.select(m.compare("LESS", index, 0), m.add(index, len(table)), index)
    if not node.has(2):
        rows = m.gather(m.constant(table.astype(np.float16)), index, 0)
        real = em.result(node.output)
        em.emit("DEQUANTIZE", [rows], [real], "DequantizeOptions")
        return
    real = m.cast(m.gather(m.constant(table), index, 0), "float32")
    if node.has(3) and em.source.constants[node.inputs[3]].any():
        real = m.sub(real, _parameter(m, node, 3, table.ndim, index))
    real = m.mul(real, _parameter(m, node, 2, table.ndim, index))
    em.bind(node.output, View(real, identity(len(real.shape))))


def _parameter(m: Maths, node: Node, which: int, rank: int, index: Tensor) -> Tensor:
    """Scales or zero points that fit the rows taken: those of the same rows, or those of the columns."""
    axis = node.get("axis", 1) % rank
    shape = [-1 if a == axis else 1 for a in range(rank)]
    value = m.constant(m.em.source.constants[node.inputs[which]].astype(np.float32).reshape(shape))
    return m.gather(value, index, 0) if axis == 0 else m.em.reshape(value, value.shape[1:])


TABLE = {EMBEDDING: embedding}
