"""Parameter-free residual shortcuts as convolutions.

The "option A" shortcut of He et al. (2016, arXiv:1512.03385, section 3.3) takes every second pixel and pads the new channels
with zeros. Exported, it is a chain of Slice and Pad, for which runtimes have neither integer nor blocked-layout kernels:
tensors are converted before and after. The same map is a 1×1 convolution whose weights are zeros and ones; each sum has one
term, so the result is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dovetail.compress.graph.edit import constant, dims, integers, made_by, new_constant, new_node, producer, replace
from dovetail.compress.graph.pooling import zero_padding

END_AT_LEAST = 1 << 31
"""An end this large or larger means the end of any axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcut:
    """``pad(x[:, :, ::s, ::t, …])``.

    Attributes:
        source: ``x``, shape ``[N, channels, …]``.
        steps: step per spatial axis.
        before: zero channels put in front.
        after: zero channels put behind.
    """

    source: ir.Value
    channels: int
    steps: tuple[int, ...]
    before: int
    after: int


def shortcut_to_conv(node: ir.Node) -> bool:
    """Strided Slice and zero Pad of channels → 1×1 Conv with a 0/1 weight."""
    found = match_shortcut(node)
    if found is None:
        return False
    total = found.before + found.channels + found.after
    weight = np.zeros((total, found.channels), np.float32)
    weight[found.before : found.before + found.channels] = np.eye(found.channels, dtype=np.float32)
    ones = [1] * len(found.steps)
    operand = new_constant(node, weight.reshape(total, found.channels, *ones), f"{node.outputs[0].name}_selection")
    attributes = {"kernel_shape": ones, "strides": list(found.steps)}
    replace(node, new_node("Conv", [found.source, operand], attributes, like=node.outputs[0]))
    return True


def match_shortcut(node: ir.Node) -> Shortcut | None:
    """Reads a Pad of channels, and the strided Slices before it, as a shortcut; ``None`` where it is something else."""
    if node.domain != "" or node.op_type != "Pad" or node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    amounts, source = zero_padding(node), node.inputs[0]
    if amounts is None or source is None or not 3 <= len(amounts) <= 5:
        return None
    if not any(amounts[1]) or any(begin or end for i, (begin, end) in enumerate(amounts) if i != 1):
        return None
    shape = dims(source)
    channels = None if shape is None else shape[1]
    steps = [1] * (len(amounts) - 2)
    while (taken := _strided(source, len(amounts))) is not None:
        source, factors = taken
        steps = [a * b for a, b in zip(steps, factors, strict=True)]
    if channels is None or max(steps) == 1:
        return None
    before, after = amounts[1]
    return Shortcut(source=source, channels=channels, steps=tuple(steps), before=before, after=after)


def _strided(value: ir.Value, value_rank: int) -> tuple[ir.Value, list[int]] | None:
    """The source and steps of one operator that takes every n-th pixel: a Slice, or pooling with a 1×1 window."""
    pool = producer(value, "MaxPool", "AveragePool")
    if pool is not None and pool.inputs[0] is not None:
        plain = not any(integers(pool, "pads", ())) and set(integers(pool, "kernel_shape", ())) == {1}
        plain = plain and pool.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        return (pool.inputs[0], integers(pool, "strides", (1,) * (value_rank - 2))) if plain else None
    node = made_by(value, "Slice")
    if node is None or node.inputs[0] is None or len(node.inputs) < 5:
        return None
    arrays = [constant(v) for v in node.inputs[1:5]]
    if any(a is None for a in arrays):
        return None
    starts, ends, axes, steps = ([int(i) for i in a.reshape(-1)] for a in arrays if a is not None)
    shape = dims(node.inputs[0]) or (None,) * value_rank
    factors = [1] * value_rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[axis]
        whole = end >= END_AT_LEAST - 1 or (size is not None and end >= size)
        if start != 0 or step < 1 or not whole:
            return None
        factors[axis] = step
    return (node.inputs[0], factors[2:]) if factors[:2] == [1, 1] else None
