"""Normalisations in the operators that XNNPACK has: exact and cheapest is to take the mean off before numbers are squared."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.emitter import Emitter, places
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.types import operand
from dovetail.lowering.rewrite import AXES
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Tensor, View, channels_last

_TRACE = 1e-9
"""MeanVarianceNormalization adds it to the deviation."""


def layer_norm(em: Emitter, node: Node) -> None:
    """LayerNormalization and RMSNormalization: SUB, SQUARE, MEAN, RSQRT, MUL, and scale and shift where they are something."""
    x = operand(em, node)
    axes = node.get(AXES) or range(node.get("axis", -1) % x.rank, x.rank)
    m = Maths(em, node.output)
    where = places(x, axes)
    mean = m.reduce("MEAN", x.tensor, where) if node.op == "LayerNormalization" else None
    centred = x.tensor if mean is None else m.sub(x.tensor, mean)
    inverse = _inverse_deviation(m, centred, where, node.get("epsilon", 1e-5))
    result = m.mul(centred, inverse)
    for index, combine, nothing in ((1, m.mul, 1.0), (2, m.add, 0.0)):
        if node.has(index) and not _is_all(em, node.inputs[index], nothing):
            value = em.expanded(em.real(em.view(node.inputs[index])), x.rank)
            result = combine(result, em.ordered(value, x.order))
    for name, tensor in zip(node.outputs, (result, mean, inverse), strict=False):
        if name and tensor is not None:
            em.bind(name, View(tensor, x.order))


def _inverse_deviation(m: Maths, centred: Tensor, where: Sequence[int], epsilon: float) -> Tensor:
    variance = m.reduce("MEAN", m.apply("SQUARE", centred), where)
    return m.apply("RSQRT", m.add(variance, epsilon))


def _is_all(em: Emitter, name: str, number: float) -> bool:
    value = em.source.constants.get(name)
    return value is not None and bool((value == number).all())


def batch_norm(em: Emitter, node: Node) -> None:
    """BatchNormalization, which has been written out as a product and a sum where it is one.

    Raises:
        ModelError: statistics of the batch, or computed parameters.
    """
    if node.get("training_mode", 0):
        raise ModelError(f"BatchNormalization {node.output!r} takes statistics of its batch, as in training")
    raise ModelError(f"BatchNormalization {node.output!r} computes its parameters at run time")


def _by_channel(m: Maths, x: View, value: Array) -> Tensor:
    """One number for each channel, axis 1, in the storage order of a value."""
    shape = [-1 if axis == 1 else 1 for axis in x.order]
    return m.constant(value.astype(np.float32).reshape(shape))


def instance_norm(em: Emitter, node: Node) -> None:
    """InstanceNormalization: each channel of each sample by its own statistics."""
    x = operand(em, node)
    gamma, beta = (em.array(node, index, "parameters") for index in (1, 2))
    m = Maths(em, node.output)
    where = places(x, range(2, x.rank))
    centred = m.sub(x.tensor, m.reduce("MEAN", x.tensor, where))
    scale = m.mul(_inverse_deviation(m, centred, where, node.get("epsilon", 1e-5)), _by_channel(m, x, gamma))
    em.bind(node.output, View(m.add(m.mul(centred, scale), _by_channel(m, x, beta)), x.order))


def group_norm(em: Emitter, node: Node) -> None:
    """GroupNormalization: each group of channels of each sample by its own statistics.

    The storage ``[samples, places, groups, channels of a group]`` is that of channels last, so nothing moves.
    """
    x = operand(em, node)
    groups, channels = node.get("num_groups"), x.shape[1]
    last = channels_last(x.rank)
    stored = x.order if x.order in (last, tuple(range(x.rank))) else last
    tensor = em.ordered(x, stored)
    samples, size, area = x.shape[0], channels // groups, math.prod(x.shape[2:])
    parted = (samples, area, groups, size) if stored == last else (samples, groups, size, area)
    where = (1, 3) if stored == last else (2, 3)
    m = Maths(em, node.output)
    flat = em.reshape(tensor, parted)
    centred = m.sub(flat, m.reduce("MEAN", flat, where))
    normal = m.mul(centred, _inverse_deviation(m, centred, where, node.get("epsilon", 1e-5)))
    view = View(em.reshape(normal, tensor.shape), stored)
    gamma, beta = (_spread(em.array(node, index, "parameters"), channels) for index in (1, 2))
    result = m.add(m.mul(view.tensor, _by_channel(m, view, gamma)), _by_channel(m, view, beta))
    em.bind(node.output, View(result, stored))


def _spread(value: Array, channels: int) -> Array:
    """Parameters of each channel; those of opset 18 are one for each group."""
    return np.repeat(value, channels // value.size)


def mean_variance_norm(em: Emitter, node: Node) -> None:
    """MeanVarianceNormalization, over samples and places by default."""
    x = operand(em, node)
    m = Maths(em, node.output)
    where = places(x, [axis % x.rank for axis in node.get("axes") or (0, 2, 3)])
    centred = m.sub(x.tensor, m.reduce("MEAN", x.tensor, where))
    deviation = m.apply("SQRT", m.reduce("MEAN", m.apply("SQUARE", centred), where))
    em.bind(node.output, View(m.div(centred, m.add(deviation, _TRACE)), x.order))


def lp_norm(em: Emitter, node: Node) -> None:
    """LpNormalization: a quotient by the sum of magnitudes or the root of the sum of squares."""
    x = operand(em, node)
    m = Maths(em, node.output)
    where = [x.place(node.get("axis", -1))]
    if node.get("p", 2) == 1:
        length = m.reduce("SUM", m.apply("ABS", x.tensor), where)
    else:
        length = m.apply("SQRT", m.reduce("SUM", m.apply("SQUARE", x.tensor), where))
    # Zeros stay zeros, as the standard wants them.
    em.bind(node.output, View(m.div(x.tensor, m.maximum(length, float(np.finfo(np.float32).tiny))), x.order))


def gelu(em: Emitter, node: Node) -> None:
    """Gelu, exact or approximated by a hyperbolic tangent."""
    x = operand(em, node)
    approximate = node.get("approximate", "none") == "tanh"
    em.emit("GELU", [x.tensor], [em.result(node.output, x.order)], "GeluOptions", approximate=approximate)


TABLE = {
    "LayerNormalization": layer_norm,
    "RMSNormalization": layer_norm,
    "SimplifiedLayerNormalization": layer_norm,
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    "MeanVarianceNormalization": mean_variance_norm,
    "LpNormalization": lp_norm,
    "Gelu": gelu,
}
