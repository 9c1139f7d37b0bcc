"""Convolutions: channels last, weights ``[outputs, height, width, inputs]``, bias and bounds fused."""

from __future__ import annotations

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.layout import reshaped
from dovetail.lowering.ops.windows import Windows, windows
from dovetail.lowering.rewrite import ACTIVATION
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import NHWC, Quant, Tensor, View


def conv(em: Emitter, node: Node) -> None:
    """Conv of one or two spatial axes, grouped or depthwise.

    Raises:
        ModelError: computed weights, or three spatial axes.
    """
    weights = filters(em, node)
    spatial = weights.rank - 2
    if spatial not in (1, 2):
        raise ModelError(f"Conv {node.output!r} has {spatial} spatial axes; the runtime takes 1 or 2")
    (x,), quant = em.operands(node, 0)
    quant = quant if weights.quant is not None else None
    if quant is None:
        x = em.real(x)
    sizes, w = images(x.shape), em_logical(weights)
    w = w.reshape(*w.shape[:2], 1, w.shape[2]) if spatial == 1 else w
    found = windows(_as_images(node, spatial), sizes, w.shape[2:])
    image = em.ordered(_image_view(em, x), NHWC)
    padding, image = padded(em, image, found, sizes)
    depthwise = node.get("group", 1) == x.shape[1] and w.shape[1] == 1 and x.shape[1] > 1
    moved = w.transpose(1, 2, 3, 0) if depthwise else w.transpose(0, 2, 3, 1)
    kernel, bias = parameters(em, node, moved, 3 if depthwise else 0, weights, x.quant if quant else None)
    options: dict[str, object] = {
        "padding": padding,
        "strideH": found.strides[0],
        "strideW": found.strides[1],
        "dilationHFactor": found.dilations[0],
        "dilationWFactor": found.dilations[1],
        "fusedActivationFunction": node.get(ACTIVATION, "NONE"),
    }
    out = image_result(em, node, quant)
    if depthwise:
        options["depthMultiplier"] = w.shape[0] // x.shape[1]
        em.emit("DEPTHWISE_CONV_2D", [image, kernel, bias], [out], "DepthwiseConv2DOptions", **options)
    else:
        em.emit("CONV_2D", [image, kernel, bias], [out], "Conv2DOptions", **options)
    finish_image(em, node, out)


def conv_transpose(em: Emitter, node: Node) -> None:
    """ConvTranspose of two spatial axes without groups.

    Raises:
        ModelError: computed weights, groups, dilations, or padding that no crop expresses.
    """
    weights = filters(em, node)
    w = em_logical(weights)
    if w.ndim != 4 or node.get("group", 1) != 1 or any(d != 1 for d in node.get("dilations") or ()):
        raise ModelError(f"ConvTranspose {node.output!r} has groups, dilations or other than 2 spatial axes")
    (x,), quant = em.operands(node, 0)
    quant = quant if weights.quant is not None and weights.quant.per_tensor else None
    if quant is None:
        x = em.real(x)
    image = em.ordered(x, NHWC)
    strides = tuple(node.get("strides") or (1, 1))
    begin, full = _full_output(em, node, w, x.shape, strides)
    kernel, bias = parameters(em, node, w.transpose(1, 2, 3, 0), 0, weights, x.quant if quant else None)
    shape = em.source.shape(node.output)
    whole = (shape[0], *full, shape[1])
    cropped = full != shape[2:]
    out = em.result(node.output, NHWC, quant)
    large = em.tensor(f"{node.output}/whole", whole, out.dtype, quant) if cropped else out
    sizes = em.integers(whole, f"{node.output}/size")
    em.emit(
        "TRANSPOSE_CONV", [sizes, kernel, image, bias], [large], "TransposeConvOptions",
        padding="VALID", strideH=strides[0], strideW=strides[1], fusedActivationFunction="NONE",
    )  # fmt: skip
    if cropped:
        start, size = em.integers((0, *begin, 0), f"{node.output}/begin"), em.integers(out.shape, f"{node.output}/kept")
        em.emit("SLICE", [large, start, size], [out], "SliceOptions")


def _full_output(
    em: Emitter, node: Node, w: Array, shape: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Crop in front, and the size before cropping."""
    full = tuple((size - 1) * s + k for size, s, k in zip(shape[2:], strides, w.shape[2:], strict=True))
    wanted = em.source.shape(node.output)[2:]
    auto = node.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        spare = [f - o for f, o in zip(full, wanted, strict=True)]
        begin = tuple(s // 2 if auto == "SAME_UPPER" else s - s // 2 for s in spare)
    else:
        begin = tuple((node.get("pads") or (0, 0, 0, 0))[:2])
    if any(b < 0 or b + o > f for b, o, f in zip(begin, wanted, full, strict=True)):
        raise ModelError(f"ConvTranspose {node.output!r} makes more than its windows reach (output padding)")
    return begin, full


# -- shared with pooling -------------------------------------------------------------------------------------------------


def images(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Height and width; a single spatial axis is the width of images one high."""
    return (1, shape[2]) if len(shape) == 3 else tuple(shape[2:])


def _image_view(em: Emitter, x: View) -> View:
    if x.rank == 4:
        return x
    n, c, length = x.shape
    order = reshaped(x.shape, (n, c, 1, length), x.order)
    assert order is not None, "an axis of size 1 goes anywhere"
    return View(em.reshape(x.tensor, [(n, c, 1, length)[axis] for axis in order]), order)


def _as_images(node: Node, spatial: int) -> Node:
    """The operator with attributes for images one high, where it has one spatial axis."""
    if spatial == 2:
        return node
    attributes = dict(node.attributes)
    for key, one in (("strides", 1), ("dilations", 1)):
        if attributes.get(key):
            attributes[key] = (one, *attributes[key])
    if attributes.get("pads"):
        begin, end = attributes["pads"]
        attributes["pads"] = (0, begin, 0, end)
    return Node(op=node.op, inputs=node.inputs, outputs=node.outputs, attributes=attributes)


def image_input(em: Emitter, node: Node, x: View) -> tuple[Node, Tensor]:
    """The operator and its input in terms of images stored channels last."""
    return _as_images(node, x.rank - 2), em.ordered(_image_view(em, x), NHWC)


def image_result(em: Emitter, node: Node, quant: Quant | None) -> Tensor:
    """The tensor of a result, as images stored channels last."""
    shape = em.source.shape(node.output)
    if len(shape) == 4:
        return em.result(node.output, NHWC, quant)
    n, c, length = shape
    dtype = em.source.dtype(node.output) if quant is None else quant.dtype
    return em.tensor(f"{node.output}/image", (n, 1, length, c), dtype, quant)


def finish_image(em: Emitter, node: Node, out: Tensor) -> None:
    """Drops the height of a result that has one spatial axis."""
    if len(em.source.shape(node.output)) == 3:
        n, _, length, c = out.shape
        em.bind(node.output, View(em.reshape(out, (n, length, c)), (0, 2, 1)))


def padded(
    em: Emitter, image: Tensor, found: Windows, sizes: tuple[int, ...], value: float | None = None
) -> tuple[str, Tensor]:
    """The padding attribute, and the image, padded by an operator where the attribute cannot express it.

    Args:
        em: the graph.
        image: stored channels last.
        found: windows.
        sizes: height and width before padding.
        value: what is padded with; real zero by default.
    """
    end = found.needed_end(sizes)
    if not any(found.begin) and not any(end):
        return "VALID", image
    if value is None and found.same(sizes):
        return "SAME", image
    margins = [(0, 0), *zip(found.begin, end, strict=True), (0, 0)]
    shape = [size + sum(margin) for size, margin in zip(image.shape, margins, strict=True)]
    result = em.tensor(f"{image.name}/padded", shape, image.dtype, image.quant)
    amounts = em.constant(np.array(margins, np.int32), f"{image.name}/padding")
    if value is None:
        em.emit("PAD", [image, amounts], [result], "PadOptions")
    else:
        filler = em.constant(np.array([value], image.dtype), f"{image.name}/filler", image.quant)
        em.emit("PADV2", [image, amounts, filler], [result], "PadV2Options")
    return "VALID", result


# -- weights -------------------------------------------------------------------------------------------------------------


def filters(em: Emitter, node: Node) -> View:
    """The weights of a convolution.

    Raises:
        ModelError: they are computed at run time.
    """
    view = em.view(node.inputs[1])
    if view.tensor.data is None:
        raise ModelError(f"{node.op} {node.output!r} computes its weights at run time")
    return view


def em_logical(view: View) -> Array:
    """A constant in its logical order."""
    assert view.tensor.data is not None
    return view.tensor.data.transpose([view.order.index(axis) for axis in range(view.rank)])


def parameters(
    em: Emitter, node: Node, moved: Array, axis: int, weights: View, x: Quant | None
) -> tuple[Tensor, Tensor]:
    """Weights in storage order and bias, quantised where the input is.

    Args:
        em: the graph.
        node: the operator; its third input is the bias, if any.
        moved: weights in storage order.
        axis: of the outputs in it.
        weights: the weights as the model has them.
        x: quantisation of the input; ``None`` to compute in float.
    """
    outputs = moved.shape[axis]
    given = em.view(node.inputs[2]) if node.has(2) else None
    real_bias = np.zeros(outputs, np.float32) if given is None else _bias(em, node, given, outputs)
    name, bias_name = node.inputs[1], f"{node.output}/bias" if given is None else node.inputs[2]
    if x is None or weights.quant is None:
        real = moved if weights.quant is None else weights.quant.at(axis).dequantise(moved)
        return em.constant(real.astype(np.float32), name), em.constant(real_bias, bias_name)
    quant = weights.quant.at(axis if not weights.quant.per_tensor else 0)
    moved, quant = _symmetric(em, node, moved, quant, axis)
    scale = quant.scale.astype(np.float64) * float(x.scale[0])
    bias_quant = Quant(
        scale=scale.astype(np.float32), zero_point=np.zeros(scale.size, np.int64), dtype="int64" if x.dtype == "int16" else "int32"
    )
    limits = np.iinfo(bias_quant.dtype)
    integers = np.clip(np.rint(real_bias / scale), limits.min, limits.max).astype(bias_quant.dtype)
    return em.constant(moved, name, quant), em.constant(integers, bias_name, bias_quant)


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
    scale = np.maximum(np.abs(real).max(axis=other) / 127, np.finfo(np.float32).tiny).astype(np.float32)
    new = Quant(scale=scale, zero_point=np.zeros(scale.size, np.int64), dtype="int8", axis=axis)
    em.note(f"{node.inputs[1]}: asymmetric weights rounded anew to a symmetric scale for each output")
    return new.quantise(real), new


TABLE = {"Conv": conv, "ConvTranspose": conv_transpose}
