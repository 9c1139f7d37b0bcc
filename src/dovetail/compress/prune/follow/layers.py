"""Operators with weights: where units come from, and where they end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from dovetail.compress.graph import edit
from dovetail.compress.prune.follow.broadcast import broadcast
from dovetail.compress.prune.units import Labels
from dovetail.compress.prune.walk import Layer, Walk, constant_shape, counted, describe, is_constant, rank, set_integers
from dovetail.core.protocols import Array


def conv(walk: Walk, node: ir.Node) -> None:
    """``[M, C / group, …]`` weights over ``[N, C, …]``."""
    weight = node.inputs[1]
    if weight is None or not is_constant(weight):
        return walk.stop(node, f"{describe(node)} has weights that are computed")
    group, shape = _group(node), constant_shape(weight)
    inputs = _channels(walk, node)
    if group > 1 and shape[1] == 1:
        return _depthwise(walk, node, weight, inputs, shape[0] // group)
    if inputs is not None:
        walk.claim(weight, 1, walk.units.tie(inputs.reshape(group, -1)), "weight")
    outputs = walk.fresh(weight, 0, times=group)
    _finish(walk, node, weight, outputs, inputs)


def conv_transpose(walk: Walk, node: ir.Node) -> None:
    """``[C, M / group, …]`` weights over ``[N, C, …]``."""
    weight = node.inputs[1]
    if weight is None or not is_constant(weight):
        return walk.stop(node, f"{describe(node)} has weights that are computed")
    group, shape = _group(node), constant_shape(weight)
    inputs = _channels(walk, node)
    if group > 1 and shape == (group, 1, *shape[2:]):
        return _depthwise(walk, node, weight, inputs, 1)
    if inputs is not None:
        walk.units.tie(inputs.reshape(group, -1))
        walk.claim(weight, 0, inputs, "weight")
    each = walk.fresh(weight, 1)
    _finish(walk, node, weight, None if each is None else np.tile(each, group), inputs)


def gemm(walk: Walk, node: ir.Node) -> None:
    """``[M, K] · [K, N] + C``."""
    weight = node.inputs[1]
    if weight is None or not is_constant(weight) or node.attributes.get_int("transA", 0):
        return walk.stop(node)
    n = 0 if node.attributes.get_int("transB", 0) else 1
    rows, inputs = walk.axes(node.inputs[0])
    if inputs is not None:
        walk.claim(weight, 1 - n, inputs, "weight")
    outputs = walk.fresh(weight, n)
    walk.set(node.outputs[0], (rows, outputs))
    walk.layers.append(Layer(node=node, weight=weight, outputs=outputs, inputs=inputs))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        broadcast(walk, node, (node.outputs[0], node.inputs[2]))


def matmul(walk: Walk, node: ir.Node) -> None:
    """Products of the last two axes; one side, or neither, has constant weights."""
    left, right = node.inputs
    assert left is not None and right is not None
    if is_constant(right) and len(constant_shape(right)) == 2:
        _weighted(walk, node, left, right, right_is_weight=True)
    elif is_constant(left) and len(constant_shape(left)) == 2 and rank(right) != 1:
        _weighted(walk, node, right, left, right_is_weight=False)
    elif is_constant(left) or is_constant(right) or min(rank(left), rank(right)) < 2:
        walk.stop(node)
    else:
        _product(walk, node, left, right)


def gather(walk: Walk, node: ir.Node) -> None:
    """A look-up in a table makes units of the table's other axes; constant indices choose among units."""
    data, indices = node.inputs[0], node.inputs[1]
    assert data is not None and indices is not None
    axis = node.attributes.get_int("axis", 0) % max(rank(data), 1)
    chosen = edit.constant(indices)
    if is_constant(data) and chosen is None:
        tails = [walk.fresh(data, i) if i != axis else None for i in range(len(constant_shape(data)))]
        middle = walk.axes(indices)
        walk.set(node.outputs[0], (*tails[:axis], *middle, *tails[axis + 1 :]))
        for labels in tails:
            if labels is not None:
                walk.layers.append(Layer(node=node, weight=data, outputs=labels, inputs=None))
        return
    axes = walk.axes(data)
    labels = axes[axis] if axes else None
    if labels is not None and (chosen is None or chosen.ndim != 1):
        walk.keep(labels, f"{describe(node)} takes single channels")
        labels = None
    if labels is None:
        walk.fix(indices, f"{describe(node)} looks them up")
        middle = (None,) * rank(indices)
    else:
        assert chosen is not None
        middle = (labels[chosen],)
        walk.on_removal(lambda kept: _choose_again(node, chosen, kept(labels)))
    walk.set(node.outputs[0], (*axes[:axis], *middle, *axes[axis + 1 :]))


def _choose_again(node: ir.Node, chosen: Array, stays: Array) -> None:
    places = np.cumsum(stays) - 1
    normal = chosen % len(stays)
    set_integers(node, 1, places[normal[stays[normal]]].tolist(), chosen)


def _depthwise(walk: Walk, node: ir.Node, weight: ir.Value, inputs: Labels | None, multiplier: int) -> None:
    if inputs is None:
        return _finish(walk, node, weight, None, None, makes=False)
    outputs = np.repeat(inputs, multiplier)
    walk.claim(weight, 0, outputs, "weight")
    _finish(walk, node, weight, outputs, inputs, makes=False)
    walk.on_removal(lambda kept: node.attributes.add(ir.AttrInt64("group", counted(kept, inputs))))


def _finish(
    walk: Walk, node: ir.Node, weight: ir.Value, outputs: Labels | None, inputs: Labels | None, makes: bool = True
) -> None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and not is_constant(bias):
        walk.keep(outputs, f"{describe(node)} has a bias that is computed")
        walk.fix(bias, f"{describe(node)} adds them as a bias")
    elif bias is not None and outputs is not None:
        walk.claim(bias, 0, outputs)
    batch = walk.axes(node.inputs[0])[0]
    walk.set(node.outputs[0], (batch, outputs, *[None] * (rank(node.outputs[0]) - 2)))
    walk.layers.append(Layer(node=node, weight=weight, outputs=outputs, inputs=inputs, makes=makes))


def _group(node: ir.Node) -> int:
    return int(node.attributes.get_int("group", 1))


def _channels(walk: Walk, node: ir.Node) -> Labels | None:
    """Units of the channel axis; units on spatial axes cannot go through a window."""
    axes = walk.axes(node.inputs[0])
    for labels in axes[2:]:
        walk.keep(labels, f"{describe(node)} slides over them")
    return axes[1]


def _weighted(walk: Walk, node: ir.Node, data: ir.Value, weight: ir.Value, *, right_is_weight: bool) -> None:
    axes, w_in, w_out = walk.axes(data), 0 if right_is_weight else 1, 1 if right_is_weight else 0
    inputs = axes[-1] if right_is_weight else axes[-2]
    if inputs is not None:
        walk.claim(weight, w_in, inputs, "weight")
    outputs = walk.fresh(weight, w_out)
    walk.set(node.outputs[0], (*axes[:-1], outputs) if right_is_weight else (*axes[:-2], outputs, axes[-1]))
    walk.layers.append(Layer(node=node, weight=weight, outputs=outputs, inputs=inputs))


def _product(walk: Walk, node: ir.Node, left: ir.Value, right: ir.Value) -> None:
    a, b = walk.axes(left), walk.axes(right)
    inner = (a[-1], b[-2])
    if inner[0] is not None and inner[1] is not None:
        walk.units.join(inner[0], inner[1])
    else:
        for labels in inner:
            walk.keep(labels, f"{describe(node)} multiplies them with an axis whose size is fixed")
    broadcast(walk, node, (left, right), skip=(-1, -2))
    batch = walk.axes(node.outputs[0])[:-2]
    walk.set(node.outputs[0], (*batch, a[-2], b[-1]))


TABLE: dict[str, Callable[[Walk, ir.Node], None]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gather": gather,
    "Gemm": gemm,
    "MatMul": matmul,
}
