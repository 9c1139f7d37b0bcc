"""Exact rewrites around pooling, padding and rearranging of pixels."""

from __future__ import annotations

import onnx_ir as ir

from dovetail.compress.graph.edit import axes_of, constant, dims, integers, made_by, new_node, producer, replace
from dovetail.core.protocols import Array

PIXEL_SHUFFLES: dict[tuple[int, ...], str] = {(0, 1, 4, 2, 5, 3): "CRD", (0, 3, 4, 1, 5, 2): "DCR"}
"""Transposition of the six-dimensional view → mode of DepthToSpace (ONNX operator definition)."""


def mean_to_global_pool(node: ir.Node) -> bool:
    """ReduceMean over both spatial axes (all three of volumes) → GlobalAveragePool, then Flatten where the axes are dropped.

    Integer kernels exist for GlobalAveragePool but not for ReduceMean. Tensors of rank 3 are left alone: there the last axis is
    as often the features of a token.
    """
    if node.domain != "" or node.op_type != "ReduceMean":
        return False
    shape = dims(node.inputs[0])
    if shape is None or not 4 <= len(shape) <= 5 or axes_of(node, len(shape)) != list(range(2, len(shape))):
        return False
    source = node.inputs[0]
    if source is None or source.shape is None or source.dtype != ir.DataType.FLOAT or _is_quantised(source):
        return False
    pooled_shape = [*source.shape[:2], *(1,) * (len(shape) - 2)]
    pool = new_node("GlobalAveragePool", [source], like=node.outputs[0], shape=pooled_shape)
    if node.attributes.get_int("keepdims", 1):
        replace(node, pool)
    else:
        replace(node, pool, new_node("Flatten", [pool.outputs[0]], {"axis": 1}, like=node.outputs[0]))
    return True


def average_to_global_pool(node: ir.Node) -> bool:
    """AveragePool whose window is the whole picture → GlobalAveragePool."""
    if node.domain != "" or node.op_type != "AveragePool":
        return False
    shape = dims(node.inputs[0])
    if shape is None or integers(node, "kernel_shape", ()) != list(shape[2:]) or not _plain_window(node):
        return False
    if any(d != 1 for d in integers(node, "dilations", ())) or any(integers(node, "pads", ())) or _is_quantised(node.inputs[0]):
        return False
    replace(node, new_node("GlobalAveragePool", node.inputs, like=node.outputs[0]))
    return True


def pad_to_average_pool(node: ir.Node) -> bool:
    """Zero Pad, then AveragePool without padding → AveragePool that pads and counts the zeros."""
    if node.domain != "" or node.op_type != "AveragePool" or not _plain_window(node):
        return False
    if any(integers(node, "pads", ())) and not node.attributes.get_int("count_include_pad", 0):
        return False
    pad = producer(node.inputs[0], "Pad")
    amounts = None if pad is None else zero_padding(pad)
    if pad is None or amounts is None or any(begin or end for begin, end in amounts[:2]):
        return False
    spatial = len(amounts) - 2
    own = integers(node, "pads", (0,) * (2 * spatial))
    begins = [own[i] + amounts[i + 2][0] for i in range(spatial)]
    ends = [own[i + spatial] + amounts[i + 2][1] for i in range(spatial)]
    kernel = integers(node, "kernel_shape", ())
    if any(p >= k for p, k in zip([*begins, *ends], kernel * 2, strict=True)):
        return False  # runtimes refuse padding that fills a whole window
    attributes = {**node.attributes, "pads": [*begins, *ends], "count_include_pad": 1}
    replace(node, new_node("AveragePool", [pad.inputs[0]], attributes, like=node.outputs[0]))
    return True


def pixel_shuffle(node: ir.Node) -> bool:
    """Reshape → Transpose → Reshape that interleaves channels into pixels → DepthToSpace."""
    if node.domain != "" or node.op_type != "Reshape":
        return False
    transpose = producer(node.inputs[0], "Transpose")
    first = None if transpose is None else producer(transpose.inputs[0], "Reshape")
    if transpose is None or first is None:
        return False
    mode = PIXEL_SHUFFLES.get(tuple(integers(transpose, "perm", ())))
    source, view, result = dims(first.inputs[0]), _target(first), dims(node.outputs[0])
    if mode is None or source is None or len(source) != 4 or view is None or len(view) != 6:
        return False
    block = view[2]
    channels, rows, columns = (view[1], view[4], view[5]) if mode == "CRD" else (view[3], view[4], view[5])
    if min(block, channels, rows, columns) < 1 or view[3 if mode == "CRD" else 1] != block:
        return False
    if source[1:] != (channels * block * block, rows, columns):
        return False
    if result is None or result[1:] != (channels, rows * block, columns * block):
        return False
    attributes = {"blocksize": block, "mode": mode}
    replace(node, new_node("DepthToSpace", [first.inputs[0]], attributes, like=node.outputs[0]))
    return True


def zero_padding(pad: ir.Node) -> list[tuple[int, int]] | None:
    """(before, after) per axis of a Pad that adds constant zeros, ``None`` for any other."""
    shape, amounts = dims(pad.inputs[0]), constant(pad.inputs[1]) if len(pad.inputs) > 1 else None
    if pad.attributes.get_string("mode", "constant") != "constant" or amounts is None or shape is None:
        return None
    if not _is_zero(pad, 2):
        return None
    axes = list(range(len(shape)))
    if len(pad.inputs) > 3 and pad.inputs[3] is not None:
        given = constant(pad.inputs[3])
        if given is None:
            return None
        axes = [int(a) % len(shape) for a in given.reshape(-1)]
    result = [(0, 0)] * len(shape)
    for i, axis in enumerate(axes):
        result[axis] = (int(amounts[i]), int(amounts[i + len(axes)]))
    return None if any(min(pair) < 0 for pair in result) else result


def _is_quantised(value: ir.Value | None) -> bool:
    """Integer kernels of the two poolings round differently, so in a quantised graph they are not interchangeable."""
    return made_by(value, "DequantizeLinear") is not None


def _is_zero(node: ir.Node, position: int) -> bool:
    if len(node.inputs) <= position or node.inputs[position] is None:
        return True
    array: Array | None = constant(node.inputs[position])
    return array is not None and not array.any()


def _plain_window(node: ir.Node) -> bool:
    explicit = node.attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    return explicit and not node.attributes.get_int("ceil_mode", 0)


def _target(reshape: ir.Node) -> tuple[int, ...] | None:
    """Constant target of a Reshape; its first entry may stay 0 or -1 (the batch), later ones are as written."""
    array = constant(reshape.inputs[1])
    return None if array is None else tuple(int(d) for d in array.reshape(-1))
