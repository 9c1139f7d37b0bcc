"""Convolutions: channels last, weights ``[outputs, height, width, inputs]``, bias and bounds fused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.elementwise import centred
from dovetail.lowering.ops.types import REAL, bind, carried
from dovetail.lowering.ops.weights import stored, unpacked_in_advance
from dovetail.lowering.ops.windows import Windows, windows
from dovetail.lowering.rewrite import ACTIVATION
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import NHWC, Quant, Tensor, View, channels_last

_LARGEST_OF_32, _LARGEST_OF_64 = 2**30, 2**33
"""Biases are kept below these. The first leaves room for the sums of products beside them; beyond the second a sum would be
worth so little of a step that the factor between the two, which kernels hold in 32 bits, is taken for zero."""


def conv(em: Emitter, node: Node) -> None:
    """Conv of one to three spatial axes; of one or two also grouped or depthwise.

    Raises:
        ModelError: computed weights, or groups with three spatial axes.
    """
    weights = filters(em, node)
    spatial = weights.rank - 2
    if spatial == 3:
        _conv_3d(em, node, weights)
        return
    if spatial not in (1, 2):
        raise ModelError(f"Conv {node.output!r} has {spatial} spatial axes; the runtime takes 1 to 3")
    (x,), quant = em.operands(node, 0)
    quant = integers(x, weights, quant)
    if quant is None:
        (x,) = carried(em, node, [em.real(x)], REAL)
    sizes, w = images(x.shape), as_image(em_logical(weights))
    node_2d, image = image_input(em, node, x)
    found = windows(node_2d, sizes, w.shape[2:], images(em.source.shape(node.output)))
    padding, image = padded(em, image, found, sizes)
    out = image_result(em, node, quant)
    emit(em, node_2d, image, w, weights, padding, found, out)
    finish_image(em, node, out)


def emit(em: Emitter, node: Node, image: Tensor, w: Array, weights: View, padding: str, found: Windows, out: Tensor) -> None:
    """Emits a convolution of padded images.

    Args:
        em: the graph.
        node: with its attributes in terms of images.
        image: stored channels last.
        w: ``[outputs, inputs / groups, height, width]``.
        weights: as the model has them.
        padding: SAME or VALID.
        found: windows.
        out: the result, stored channels last.
    """
    channels = image.shape[-1]
    depthwise = node.get("group", 1) == channels and w.shape[1] == 1 and channels > 1
    moved = w.transpose(1, 2, 3, 0) if depthwise else w.transpose(0, 2, 3, 1)
    kernel, bias = parameters(em, node, moved, 3 if depthwise else 0, weights, image.quant if out.quant else None)
    options: dict[str, object] = {
        "padding": padding,
        "strideH": found.strides[0],
        "strideW": found.strides[1],
        "dilationHFactor": found.dilations[0],
        "dilationWFactor": found.dilations[1],
        "fusedActivationFunction": node.get(ACTIVATION, "NONE"),
    }
    if depthwise:
        options["depthMultiplier"] = w.shape[0] // channels
        em.emit("DEPTHWISE_CONV_2D", [image, kernel, bias], [out], "DepthwiseConv2DOptions", **options)
    else:
        em.emit("CONV_2D", [image, kernel, bias], [out], "Conv2DOptions", **options)


def _conv_3d(em: Emitter, node: Node, weights: View) -> None:
    if node.get("group", 1) != 1:
        raise ModelError(f"Conv {node.output!r} has groups and 3 spatial axes, which the runtime cannot take")
    (x,) = carried(em, node, [em.real(em.view(node.inputs[0]))], REAL)
    order = channels_last(5)
    sizes = x.shape[2:]
    found = windows(node, sizes, weights.shape[2:], em.source.shape(node.output)[2:])
    padding, volume = padded(em, em.ordered(x, order), found, sizes)
    real = unpacked_in_advance(em, weights, node.inputs[1], "CONV_3D")
    kernel, bias = parameters(em, node, em_logical(real).transpose(2, 3, 4, 1, 0), 4, real, None, packed=False)
    (sd, sh, sw), (dd, dh, dw) = found.strides, found.dilations
    em.emit(
        "CONV_3D", [volume, kernel, bias], [em.result(node.output, order)], "Conv3DOptions", padding=padding,
        strideD=sd, strideH=sh, strideW=sw, dilationDFactor=dd, dilationHFactor=dh, dilationWFactor=dw,
        fusedActivationFunction=node.get(ACTIVATION, "NONE"),
    )  # fmt: skip


# -- shared with pooling -------------------------------------------------------------------------------------------------


def images(shape: Sequence[int]) -> tuple[int, ...]:
    """Height and width; a single spatial axis is the width of images one high."""
    return (1, shape[2]) if len(shape) == 3 else tuple(shape[2:])


def as_image(w: Array) -> Array:
    """Weights of one spatial axis as those of images one high."""
    return w.reshape(*w.shape[:2], 1, w.shape[2]) if w.ndim == 3 else w


def as_images(node: Node, spatial: int) -> Node:
    """The operator with attributes for images one high, where it has one spatial axis."""
    if spatial == 2:
        return node
    attributes = dict(node.attributes)
    for key, one in (("strides", 1), ("dilations", 1), ("output_padding", 0)):
        if attributes.get(key):
            attributes[key] = (one, *attributes[key])
    if attributes.get("pads"):
        begin, end = attributes["pads"]
        attributes["pads"] = (0, begin, 0, end)
    return Node(op=node.op, inputs=node.inputs, outputs=node.outputs, attributes=attributes)


def image_input(em: Emitter, node: Node, x: View) -> tuple[Node, Tensor]:
    """The operator and its input in terms of images stored channels last."""
    if x.rank == 4:
        return node, em.ordered(x, NHWC)
    line = em.ordered(x, channels_last(3))
    return as_images(node, 1), em.reshape(line, (line.shape[0], 1, *line.shape[1:]))


def image_result(em: Emitter, node: Node, quant: Quant | None) -> Tensor:
    """The tensor of a result, as images stored channels last."""
    shape = em.source.shape(node.output)
    dtype = "float32" if quant is None else quant.dtype
    return em.tensor(node.output, (shape[0], *images(shape), shape[1]), dtype, quant)


def finish_image(em: Emitter, node: Node, out: Tensor) -> None:
    """Binds a result; its height goes where it has one spatial axis."""
    shape = em.source.shape(node.output)
    order = channels_last(len(shape))
    out = em.reshape(out, [shape[axis] for axis in order])
    if out.quant is None:
        bind(em, node.output, out, order)
    else:
        em.bind(node.output, View(out, order))


def padded(em: Emitter, image: Tensor, found: Windows, sizes: tuple[int, ...]) -> tuple[str, Tensor]:
    """The padding attribute, and the image, padded with zeros by an operator where the attribute cannot express it.

    Args:
        em: the graph.
        image: stored channels last; of three spatial axes too.
        found: windows.
        sizes: of the spatial axes before padding.
    """
    if not found.reaches_out(sizes):
        return "VALID", image
    if found.same(sizes):
        return "SAME", image
    return "VALID", with_margins(em, image, found.margins(sizes))


def with_margins(em: Emitter, image: Tensor, margins: Sequence[tuple[int, int]], value: float | None = None) -> Tensor:
    """The image with elements in front of and behind each stored axis."""
    shape = [size + sum(margin) for size, margin in zip(image.shape, margins, strict=True)]
    result = em.tensor(f"{image.name}/padded", shape, image.dtype, image.quant)
    amounts = em.constant(np.array(margins, np.int32), f"{image.name}/padding")
    if value is None:
        em.emit("PAD", [image, amounts], [result], "PadOptions")
    else:
        filler = em.constant(np.array([value], image.dtype), f"{image.name}/filler", image.quant)
        em.emit("PADV2", [image, amounts, filler], [result], "PadV2Options")
    return result


# -- weights -------------------------------------------------------------------------------------------------------------


def filters(em: Emitter, node: Node) -> View:
    """The weights of a convolution; reals where they have a scale for each of something else than their outputs.

    Raises:
        ModelError: they are computed at run time.
    """
    view = em.view(node.inputs[1])
    if view.tensor.data is None:
        raise ModelError(f"{node.op} {node.output!r} computes its weights at run time")
    outputs = 1 if node.op == "ConvTranspose" else 0
    if view.quant is not None and not view.quant.per_tensor and view.order[view.quant.axis] != outputs:
        return em.real(view)
    return view


def integers(x: View, weights: View, quant: Quant | None) -> Quant | None:
    """The quantisation of the result where a convolution computes in integers: those of its weights have 8 bits."""
    return quant if weights.quant is not None and weights.dtype == "int8" and centred([x], quant) else None


def em_logical(view: View) -> Array:
    """A constant in its logical order."""
    assert view.tensor.data is not None
    return view.tensor.data.transpose([view.order.index(axis) for axis in range(view.rank)])


def parameters(
    em: Emitter, node: Node, moved: Array, axis: int, weights: View, x: Quant | None, *, packed: bool = True
) -> tuple[Tensor, Tensor]:
    """Weights in storage order and bias, quantised where the input is.

    Args:
        em: the graph.
        node: the operator; its third input is the bias, if any.
        moved: weights in storage order.
        axis: of the outputs in it.
        weights: the weights as the model has them.
        x: quantisation of the input; ``None`` to compute in float.
        packed: floats may be stored in fewer bytes, where the kernel takes weights that an operator unpacks.
    """
    outputs = moved.shape[axis]
    given = em.view(node.inputs[2]) if node.has(2) else None
    real_bias = np.zeros(outputs, np.float32) if given is None else _bias(em, node, given, outputs)
    name, bias_name = node.inputs[1], f"{node.output}/bias" if given is None else node.inputs[2]
    if x is None or weights.quant is None:
        quant = None if weights.quant is None else weights.quant.at(0 if weights.quant.per_tensor else axis)
        kernel = stored(em, moved, quant, name) if packed else em.constant(moved.astype(np.float32), name)
        return kernel, em.constant(real_bias, bias_name)
    quant = weights.quant.at(axis if not weights.quant.per_tensor else 0)
    moved, quant = _symmetric(em, node, moved, quant, axis)
    dtype, largest = ("int64", _LARGEST_OF_64) if x.dtype == "int16" else ("int32", _LARGEST_OF_32)
    least = np.maximum(np.abs(real_bias.astype(np.float64)) / largest, np.finfo(np.float32).tiny) / float(x.scale[0])
    moved, quant = _coarsened(em, node, moved, quant, axis, least)
    scale = quant.scale.astype(np.float64) * float(x.scale[0])
    bias_quant = Quant(scale=scale.astype(np.float32), zero_point=np.zeros(scale.size, np.int64), dtype=dtype)
    rounded = np.rint(real_bias / scale).astype(dtype)
    return em.constant(moved, name, quant), em.constant(rounded, bias_name, bias_quant)


def _bias(em: Emitter, node: Node, given: View, outputs: int) -> Array:
    data = em.real(given).tensor.data
    if data is None:
        raise ModelError(f"{node.op} {node.output!r} computes its bias at run time")
    flat = data.astype(np.float32).reshape(-1)
    return np.broadcast_to(flat, (outputs,)).copy()


def _symmetric(em: Emitter, node: Node, moved: Array, quant: Quant, axis: int) -> tuple[Array, Quant]:
    """Weights whose zero is 0, as the runtime wants them; others are rounded anew, each output by its own scale."""
    if not quant.zero_point.any() and moved.min() >= -127:
        return moved, quant
    if not quant.zero_point.any():
        # −128 has no positive counterpart, and kernels may assume that there is none.
        em.note(f"{node.inputs[1]}: −128 became −127 in {int((moved == -128).sum())} weights")
        return np.maximum(moved, -127), quant
    real = quant.dequantise(moved)
    other = tuple(a for a in range(moved.ndim) if a != axis)
    greatest = np.abs(real).max(axis=other)
    scale = (np.where(greatest > 0, greatest, greatest.max() or 1.0) / 127).astype(np.float32)
    new = Quant(scale=scale, zero_point=np.zeros(scale.size, np.int64), dtype="int8", axis=axis)
    em.note(f"{node.inputs[1]}: asymmetric weights rounded anew to a symmetric scale for each output")
    return new.quantise(real), new


def _coarsened(em: Emitter, node: Node, moved: Array, quant: Quant, axis: int, least: Array) -> tuple[Array, Quant]:
    """Weights with scales of at least ``least``, one for each output, so that integers are large enough for the biases.

    Scales of outputs whose weights are all zero may be next to zero.
    """
    scale = np.broadcast_to(quant.scale, least.shape)
    small = scale < least
    if not small.any():
        return moved, quant
    larger = np.where(small, least, scale).astype(np.float32)
    new = Quant(scale=larger, zero_point=np.zeros(least.size, np.int64), dtype="int8", axis=axis)
    em.note(f"{node.output}: weights of {int(small.sum())} outputs got a larger scale, so that their biases fit beside them")
    spread = small.reshape(new.along(moved.ndim)[0].shape)
    return np.where(spread, new.quantise(quant.dequantise(moved)), moved).astype(moved.dtype), new


TABLE = {"Conv": conv}
