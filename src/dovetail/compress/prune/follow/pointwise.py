"""Operators that leave channels where they are: element by element, pooling, normalisation, reduction."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from dovetail.compress.graph import edit
from dovetail.compress.prune.follow.broadcast import broadcast
from dovetail.compress.prune.walk import Walk, describe, integers, is_constant, rank, set_integers, sizes

ELEMENTWISE = """
Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Celu Clip Cos Cosh
Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual
Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub
Sum Swish Tan Tanh ThresholdedRelu Where Xor
""".split()

ADDITIVE = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")
"""Reductions in which a channel of zeros does not count."""
AVERAGING = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp")


def elementwise(walk: Walk, node: ir.Node) -> None:
    """One position of the output from one position of each operand."""
    broadcast(walk, node, node.inputs)


def dropout(walk: Walk, node: ir.Node) -> None:
    """Does nothing at inference."""
    if any(mask.uses() or mask.is_graph_output() for mask in node.outputs[1:]):
        return walk.stop(node)
    walk.set(node.outputs[0], walk.axes(node.inputs[0]))


def pool(walk: Walk, node: ir.Node) -> None:
    """Windows over the spatial axes, channel by channel."""
    if any(extra.uses() or extra.is_graph_output() for extra in node.outputs[1:]):
        return walk.stop(node, f"{describe(node)} gives indices that count channels")
    axes = walk.axes(node.inputs[0])
    for labels in axes[2:]:
        walk.keep(labels, f"{describe(node)} slides over them")
    walk.set(node.outputs[0], (*axes[:2], *[None] * (len(axes) - 2)))


def channel_norm(walk: Walk, node: ir.Node) -> None:
    """Batch and instance normalisation: one scale, offset, mean and variance a channel."""
    axes = walk.axes(node.inputs[0])
    if any(extra.uses() or extra.is_graph_output() for extra in node.outputs[1:]):
        return walk.stop(node, f"{describe(node)} is in training mode")
    labels = axes[1] if len(axes) > 1 else None
    for spatial in axes[2:]:
        walk.keep(spatial, f"{describe(node)} averages over them")
    for index, value in enumerate(node.inputs[1:]):
        if value is not None and not is_constant(value):
            walk.keep(labels, f"{describe(node)} has parameters that are computed")
            walk.fix(value, f"{describe(node)} has them as parameters")
        elif value is not None and labels is not None:
            walk.claim(value, 0, labels, "scale" if index == 0 and node.op_type == "BatchNormalization" else "other")
    walk.set(node.outputs[0], axes)


def layer_norm(walk: Walk, node: ir.Node) -> None:
    """Statistics over the last axes: fewer channels change them for all, so their units are marked as averaged."""
    data = node.inputs[0]
    axes, first = walk.axes(data), node.attributes.get_int("axis", -1) % rank(data)
    if any(extra.uses() or extra.is_graph_output() for extra in node.outputs[1:]):
        return walk.stop(node)
    for labels in axes[first:]:
        if labels is not None:
            walk.averaged.extend(labels.tolist())
    broadcast(walk, node, node.inputs)


def along_axis(walk: Walk, node: ir.Node) -> None:
    """Softmax and its kin: all positions of one axis decide about each other."""
    axes = walk.axes(node.inputs[0])
    walk.keep(axes[node.attributes.get_int("axis", -1)], f"{describe(node)} runs over them")
    walk.set(node.outputs[0], axes)


def lp_normalization(walk: Walk, node: ir.Node) -> None:
    """Division by a norm, in which a channel of zeros does not count."""
    walk.set(node.outputs[0], walk.axes(node.inputs[0]))


def reduction(walk: Walk, node: ir.Node) -> None:
    """Sums and means; units end here where the axis is summed, and stay where a channel of zeros would count."""
    axes = walk.axes(node.inputs[0])
    reduced = edit.axes_of(node, len(axes)) if axes else None
    if not reduced:
        return walk.stop(node, f"{describe(node)} reduces axes that are not named")
    if node.op_type not in ADDITIVE:
        for axis in reduced:
            walk.keep(axes[axis], f"{describe(node)} runs over them")
    if node.attributes.get_int("keepdims", 1):
        walk.set(node.outputs[0], [None if axis in reduced else labels for axis, labels in enumerate(axes)])
    else:
        walk.set(node.outputs[0], [labels for axis, labels in enumerate(axes) if axis not in reduced])


def resize(walk: Walk, node: ir.Node) -> None:
    """Interpolation of spatial axes."""
    data, out = node.inputs[0], node.outputs[0]
    axes, before, after = walk.axes(data), sizes(data), sizes(out)
    named = node.attributes.get_ints("axes", range(len(axes)))
    order = [axis % len(axes) for axis in named]
    target = node.inputs[3] if len(node.inputs) > 3 else None
    numbers = integers(target)
    assert before is not None and after is not None
    for axis, labels in enumerate(axes):
        if labels is None:
            continue
        if before[axis] is None or before[axis] != after[axis] or (target is not None and numbers is None):
            walk.keep(labels, f"{describe(node)} resizes them")
    walk.set(out, [labels if before[i] == after[i] else None for i, labels in enumerate(axes)])
    if target is None or numbers is None:
        return
    walk.on_removal(
        lambda kept: set_integers(
            node, 3, [n if (u := axes[a]) is None else int(kept(u).sum()) for a, n in zip(order, numbers, strict=True)]
        )
    )


TABLE: dict[str, Callable[[Walk, ir.Node], None]] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    "Dropout": dropout,
    **dict.fromkeys(("AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), pool),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), channel_norm),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), layer_norm),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), along_axis),
    "LpNormalization": lp_normalization,
    **dict.fromkeys((*ADDITIVE, *AVERAGING), reduction),
    "Resize": resize,
}
