"""Per-channel affine operators (``y = scale · x + shift``) moved into the weights of a neighbouring linear operator.

Batch normalisation in inference form and Mul, Div, Add, Sub by constants are all of this form, so one algebra serves them:

    W(x)·a + b = (a∘W)(x) + b          (after)
    W(a·x + b) = (W∘a)(x) + W(b)       (before; with zero padding only where ``b`` is zero)

Arithmetic is done in float64 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dovetail.compress.graph.edit import (
    constant,
    constant_operand,
    dims,
    made_by,
    new_constant,
    new_node,
    producer,
    rank,
    replace,
)
from dovetail.core.protocols import Array

ELEMENTWISE = ("Mul", "Div", "Add", "Sub")
LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_FLOATS = (np.float32, np.float64, np.float16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """``y = scale · source + shift`` along one axis.

    Attributes:
        source: what goes in.
        scale: ``float64[1]`` or ``float64[channels]``.
        shift: the same.
        axis: the channels' axis, ``None`` when both are single numbers.
        nodes: operators that it stands for.
    """

    source: ir.Value
    scale: Array
    shift: Array
    axis: int | None
    nodes: int = 1

    def after(self, inner: Affine) -> Affine | None:
        """The composition ``self ∘ inner``, ``None`` when their axes differ."""
        axes = {self.axis, inner.axis} - {None}
        if len(axes) > 1:
            return None
        return Affine(
            source=inner.source,
            scale=self.scale * inner.scale,
            shift=self.scale * inner.shift + self.shift,
            axis=axes.pop() if axes else None,
            nodes=self.nodes + inner.nodes,
        )


def fold_after(node: ir.Node) -> bool:
    """Linear operator, then affine ones: the affine ones vanish into its weights and bias."""
    affine = _longest_chain(node)
    if affine is None or any(_continues(node, use) for use, _ in node.outputs[0].uses()):
        return False  # a longer chain folds in one go at its end
    linear = producer(affine.source, *LINEAR)
    if linear is None or not _on_output_channels(linear, affine):
        return False
    new = _scaled_output(linear, affine)
    if new is None:
        return False
    replace(node, *new)
    return True


def fold_before(node: ir.Node) -> bool:
    """Affine operators, then a linear one: they vanish into its weights and bias, as far as padding allows."""
    if node.domain != "" or node.op_type not in ("Conv", "Gemm", "MatMul"):
        return False
    weight = constant(node.inputs[1])
    source = node.inputs[0]
    if weight is None or source is None or weight.dtype not in _FLOATS or (node.op_type == "MatMul" and weight.ndim != 2):
        return False
    last = producer(source, "BatchNormalization", *ELEMENTWISE)
    affine = None if last is None else _longest_chain(last)
    if affine is None or _is_gate(affine.source) or not _on_input_channels(node, weight, affine):
        return False
    new = _scaled_input(node, weight, affine)
    if new is None:
        return False
    replace(node, *new)
    return True


def as_affine(node: ir.Node, value_rank: int | None) -> Affine | None:
    """Reads one operator as an affine map of its variable operand."""
    if node.domain != "":
        return None
    if node.op_type == "BatchNormalization":
        return _batch_norm(node)
    if node.op_type not in ELEMENTWISE or (parts := constant_operand(node)) is None:
        return None
    source, array, position = parts
    vector = _channel_vector(array, value_rank)
    if vector is None or (node.op_type == "Div" and (position == 0 or not np.all(vector[0]))):
        return None
    values, axis = vector
    zero, one = np.zeros_like(values), np.ones_like(values)
    scale, shift = {
        "Mul": (values, zero),
        "Div": (one / np.where(values == 0, 1, values), zero),
        "Add": (one, values),
        "Sub": (one, -values) if position == 1 else (-one, values),
    }[node.op_type]
    return Affine(source=source, scale=scale, shift=shift, axis=axis)


def _batch_norm(node: ir.Node) -> Affine | None:
    """ONNX operator BatchNormalization: ``(x - mean) / sqrt(var + epsilon) · gamma + beta``, channels on axis 1."""
    arrays = [constant(v) for v in node.inputs[1:5]]
    if node.attributes.get_int("training_mode", 0) or any(a is None for a in arrays) or node.inputs[0] is None:
        return None
    gamma, beta, mean, var = (np.asarray(a, np.float64) for a in arrays)
    scale = gamma / np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))
    return Affine(source=node.inputs[0], scale=scale, shift=beta - mean * scale, axis=1)


def _channel_vector(array: Array, value_rank: int | None) -> tuple[Array, int | None] | None:
    """A constant operand as (vector, axis): one number, or numbers along exactly one axis of a value of that rank."""
    if array.dtype not in _FLOATS or not np.isfinite(array).all():
        return None
    if array.size == 1 and array.ndim <= (value_rank or 0):
        return array.reshape(1).astype(np.float64), None
    long = [i for i, size in enumerate(array.shape) if size != 1]
    if value_rank is None or len(long) != 1 or array.ndim > value_rank:
        return None
    return array.reshape(-1).astype(np.float64), value_rank - array.ndim + long[0]


def _longest_chain(node: ir.Node) -> Affine | None:
    """All affine operators that end in ``node`` and feed nothing else, as one map."""
    value_rank = _rank_of_chain(node)
    affine = as_affine(node, value_rank)
    while affine is not None:
        inner_node = producer(affine.source, "BatchNormalization", *ELEMENTWISE)
        inner = None if inner_node is None else as_affine(inner_node, value_rank)
        composed = None if inner is None else affine.after(inner)
        if composed is None:
            break
        affine = composed
    return affine


def _rank_of_chain(node: ir.Node) -> int | None:
    """Rank of a node's output: inferred, or that of the linear operator next to it."""
    known = rank(node.outputs[0])
    if known is not None:
        return known
    neighbours = [v.producer() for v in node.inputs if v is not None] + [use for use, _ in node.outputs[0].uses()]
    for neighbour in neighbours:
        if neighbour is None or neighbour.domain != "" or neighbour.op_type not in ("Conv", "ConvTranspose", "Gemm"):
            continue
        weight = constant(neighbour.inputs[1])
        if weight is not None:
            return weight.ndim
    return None


def _continues(node: ir.Node, use: ir.Node) -> bool:
    """Whether the only reader of a node is affine too, so that a longer chain exists."""
    if use.domain != "" or use.op_type not in ("BatchNormalization", *ELEMENTWISE) or len(node.outputs[0].uses()) != 1:
        return False
    mine, its = as_affine(node, _rank_of_chain(node)), as_affine(use, _rank_of_chain(use))
    return mine is not None and its is not None and its.source is node.outputs[0] and its.after(mine) is not None


def _is_gate(value: ir.Value) -> bool:
    """A product of two activations: the tail of GELU, SiLU or hard-swish, which runtimes match as a whole."""
    node = made_by(value, "Mul")
    return node is not None and constant_operand(node) is None


def _output_channels(linear: ir.Node, weight: Array) -> int:
    if linear.op_type == "Conv":
        return int(weight.shape[0])
    if linear.op_type == "ConvTranspose":
        return int(weight.shape[1] * linear.attributes.get_int("group", 1))
    if linear.op_type == "Gemm":
        return int(weight.shape[0 if linear.attributes.get_int("transB", 0) else 1])
    return int(weight.shape[-1])


def _on_output_channels(linear: ir.Node, affine: Affine) -> bool:
    weight = constant(linear.inputs[1])
    if weight is None or weight.dtype not in _FLOATS or (linear.op_type == "MatMul" and weight.ndim != 2):
        return False
    if not (np.isfinite(affine.scale).all() and np.isfinite(affine.shift).all()):
        return False
    if affine.axis is None:
        return True
    if linear.op_type == "MatMul":
        value_rank = rank(linear.outputs[0])
        return value_rank is not None and affine.axis == value_rank - 1 and affine.scale.size == weight.shape[1]
    return affine.axis == 1 and affine.scale.size == _output_channels(linear, weight)


def _scaled_output(linear: ir.Node, affine: Affine) -> list[ir.Node] | None:
    weight = constant(linear.inputs[1])
    assert weight is not None
    channels = _output_channels(linear, weight)
    scale, shift = np.broadcast_to(affine.scale, channels), np.broadcast_to(affine.shift, channels)
    bias = _bias(linear, channels)
    if bias is None or (linear.op_type == "MatMul" and np.all(scale == 1)):
        return None
    scaled = _scale_out(linear, weight.astype(np.float64), scale).astype(weight.dtype)
    return _rebuilt(linear, scaled, (bias * scale + shift).astype(weight.dtype))


def _scale_out(linear: ir.Node, weight: Array, scale: Array) -> Array:
    spatial = (1,) * (weight.ndim - 2)
    if linear.op_type == "Conv":
        return weight * scale.reshape(-1, 1, *spatial)
    if linear.op_type == "ConvTranspose":
        group = linear.attributes.get_int("group", 1)
        grouped = weight.reshape(group, -1, *weight.shape[1:]) * scale.reshape(group, 1, -1, *spatial)
        return grouped.reshape(weight.shape)
    return weight * (scale[:, None] if linear.attributes.get_int("transB", 0) else scale[None, :])


def _bias(linear: ir.Node, channels: int) -> Array | None:
    """The bias as it enters the sum, ``float64[channels]``; ``None`` when it is not constant per channel."""
    if len(linear.inputs) < 3 or linear.inputs[2] is None:
        return np.zeros(channels)
    array = constant(linear.inputs[2])
    if array is None or any(size != 1 for size in array.shape[:-1]):
        return None
    bias: Array = np.broadcast_to(array.reshape(-1).astype(np.float64), channels) * linear.attributes.get_float("beta", 1.0)
    return bias


def _on_input_channels(node: ir.Node, weight: Array, affine: Affine) -> bool:
    if not (np.isfinite(affine.scale).all() and np.isfinite(affine.shift).all()) or node.attributes.get_int("transA", 0):
        return False
    if affine.axis is None:
        return True
    shape = dims(affine.source)
    axis = (len(shape) - 1 if node.op_type == "MatMul" else 1) if shape is not None else None
    if shape is None or affine.axis != axis or affine.scale.size != _input_channels(node, weight):
        return False
    return shape[affine.axis] == affine.scale.size  # one channel could be spread over several by the constants


def _input_channels(node: ir.Node, weight: Array) -> int:
    if node.op_type == "Conv":
        return int(weight.shape[1] * node.attributes.get_int("group", 1))
    return int(weight.shape[1 if node.op_type == "Gemm" and node.attributes.get_int("transB", 0) else 0])


def _scaled_input(node: ir.Node, weight: Array, affine: Affine) -> list[ir.Node] | None:
    inputs = _input_channels(node, weight)
    scale, shift = np.broadcast_to(affine.scale, inputs), np.broadcast_to(affine.shift, inputs)
    channels = _output_channels(node, weight)
    bias = _bias(node, channels)
    if bias is None:
        return None
    before: list[ir.Node] = []
    if np.any(shift) and _pads(node):
        if affine.nodes < 2 or not np.all(scale):
            return None
        before, shift = [_shift_node(node, affine.source, shift / scale, weight)], np.zeros(inputs)
    wide = weight.astype(np.float64)
    constant_part = _apply_to_channels(node, wide, shift) * node.attributes.get_float("alpha", 1.0)
    scaled = _scale_in(node, wide, scale).astype(weight.dtype)
    source = before[0].outputs[0] if before else affine.source
    return [*before, *_rebuilt(node, scaled, (bias + constant_part).astype(weight.dtype), source=source)]


def _pads(node: ir.Node) -> bool:
    if node.op_type != "Conv":
        return False
    return node.attributes.get_string("auto_pad", "NOTSET").startswith("SAME") or any(node.attributes.get_ints("pads", ()))


def _shift_node(node: ir.Node, source: ir.Value, shift: Array, weight: Array) -> ir.Node:
    array = shift.astype(weight.dtype).reshape(1, -1, *(1,) * (weight.ndim - 2))
    return new_node("Add", [source, new_constant(node, array, f"{node.outputs[0].name}_shift")], like=node.inputs[0])


def _by_group(node: ir.Node, weight: Array, per_input: Array) -> Array:
    """Values per input channel laid out against a Conv weight ``[out, in/group, …]``: ``[out, in/group, 1, …]``."""
    group = node.attributes.get_int("group", 1)
    rows = np.repeat(per_input.reshape(group, -1), weight.shape[0] // group, axis=0)
    return rows.reshape(*rows.shape, *(1,) * (weight.ndim - 2))


def _scale_in(node: ir.Node, weight: Array, scale: Array) -> Array:
    if node.op_type == "Conv":
        return weight * _by_group(node, weight, scale)
    return weight * (scale[None, :] if node.attributes.get_int("transB", 0) else scale[:, None])


def _apply_to_channels(node: ir.Node, weight: Array, vector: Array) -> Array:
    """The linear map applied to an input that is constant per channel, ``float64[output channels]``."""
    if node.op_type == "Conv":
        product: Array = (weight * _by_group(node, weight, vector)).reshape(weight.shape[0], -1).sum(axis=1)
        return product
    return weight @ vector if node.attributes.get_int("transB", 0) else vector @ weight


def _rebuilt(linear: ir.Node, weight: Array, bias: Array, source: ir.Value | None = None) -> list[ir.Node]:
    """The linear operator with other constants; MatMul has no bias, so one that is not zero becomes an Add."""
    name = linear.outputs[0].name
    attributes = {k: v for k, v in linear.attributes.items() if k != "beta"}
    operands = [source or linear.inputs[0], new_constant(linear, weight, f"{name}_weight")]
    if linear.op_type != "MatMul" and np.any(bias):
        operands.append(new_constant(linear, bias, f"{name}_bias"))
    node = new_node(linear.op_type, operands, attributes, like=linear.outputs[0])
    if linear.op_type != "MatMul" or not np.any(bias):
        return [node]
    return [node, new_node("Add", [node.outputs[0], new_constant(linear, bias, f"{name}_bias")], like=linear.outputs[0])]
