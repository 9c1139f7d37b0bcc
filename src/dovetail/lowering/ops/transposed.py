"""Transposed convolutions: the runtime's own, or one with groups over images with zeros between their elements."""

from __future__ import annotations

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.convolution import (
    as_image,
    em_logical,
    emit,
    filters,
    finish_image,
    image_input,
    image_result,
    integers,
    parameters,
    with_margins,
)
from dovetail.lowering.ops.types import REAL, carried
from dovetail.lowering.ops.windows import Windows
from dovetail.lowering.rewrite import ACTIVATION
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Tensor

Sizes = tuple[int, ...]


def conv_transpose(em: Emitter, node: Node) -> None:
    """ConvTranspose of one or two spatial axes.

    Raises:
        ModelError: computed weights, or three spatial axes.
    """
    weights = filters(em, node)
    spatial = weights.rank - 2
    if spatial not in (1, 2):
        raise ModelError(f"ConvTranspose {node.output!r} has {spatial} spatial axes; the runtime takes 1 or 2")
    shifted = not node.get("output_shape") and node.get("auto_pad", "NOTSET").startswith("SAME")
    if shifted and any(node.get("output_padding") or ()):
        raise ModelError(f"ConvTranspose {node.output!r} pads its result and leaves its padding open; runtimes differ there")
    if len(em.source.shape(node.output)) != weights.rank:
        raise ModelError(f"ConvTranspose {node.output!r} asks for a shape that onnx does not infer")
    (x,), quant = em.operands(node, 0)
    own = node.get("group", 1) == 1 and not any(d != 1 for d in node.get("dilations") or ())
    quant = integers(x, weights, quant) if own else None
    if quant is None:
        (x,) = carried(em, node, [em.real(x)], REAL)
    node_2d, image = image_input(em, node, x)
    w = as_image(em_logical(weights))
    out = image_result(em, node, quant)
    if own:
        kernel, bias = parameters(em, node, w.transpose(1, 2, 3, 0), 0, weights, x.quant if quant else None)
        _own(em, node_2d, image, kernel, bias, out)
    else:
        _dilated(em, node_2d, image, em_real(em, node, w), out)
    finish_image(em, node, out)


def em_real(em: Emitter, node: Node, w: Array) -> Array:
    """Weights as numbers, in their logical order."""
    quant = em.view(node.inputs[1]).quant
    return w.astype(np.float32) if quant is None else as_image(em_logical(em.real(em.view(node.inputs[1]))))


def _begin(node: Node, full: Sizes, wanted: Sizes) -> Sizes:
    """How much of the full result is cropped in front."""
    auto = node.get("auto_pad", "NOTSET")
    extra = tuple(node.get("output_padding") or (0,) * len(full))
    if node.get("output_shape") or auto in ("SAME_UPPER", "SAME_LOWER"):
        spare = [max(f + e - o, 0) for f, e, o in zip(full, extra, wanted, strict=True)]
        return tuple(s // 2 if auto == "SAME_UPPER" else s - s // 2 for s in spare)
    return tuple((node.get("pads") or (0,) * 4)[: len(full)])


def _geometry(node: Node, image: Tensor, kernel: Sizes, out: Tensor) -> tuple[Sizes, Sizes, Sizes]:
    """Strides, crop in front, and the size of the result before cropping."""
    strides = tuple(node.get("strides") or (1, 1))
    dilations = tuple(node.get("dilations") or (1, 1))
    rows = zip(image.shape[1:3], strides, kernel, dilations, strict=True)
    full = tuple((size - 1) * s + (k - 1) * d + 1 for size, s, k, d in rows)
    begin = _begin(node, full, out.shape[1:3])
    whole = tuple(max(f, b + o) for f, b, o in zip(full, begin, out.shape[1:3], strict=True))
    if any(w - f >= s for w, f, s in zip(whole, full, strides, strict=True)):
        raise ModelError(f"ConvTranspose {node.output!r} makes more than its windows reach")
    return strides, begin, whole


def _own(em: Emitter, node: Node, image: Tensor, kernel: Tensor, bias: Tensor, out: Tensor) -> None:
    strides, begin, full = _geometry(node, image, kernel.shape[1:3], out)
    same = full != out.shape[1:3] and _is_same(image.shape[1:3], strides, kernel.shape[1:3], begin, out.shape[1:3])
    whole = out.shape if same else (out.shape[0], *full, out.shape[3])
    large = em.tensor(f"{node.output}/whole", whole, out.dtype, out.quant) if whole != out.shape else out
    sizes = em.integers(whole, f"{node.output}/size")
    em.emit(
        "TRANSPOSE_CONV", [sizes, kernel, image, bias], [large], "TransposeConvOptions",
        padding="SAME" if same else "VALID", strideH=strides[0], strideW=strides[1],
        fusedActivationFunction=node.get(ACTIVATION, "NONE"),
    )  # fmt: skip
    if large is not out:
        start, size = em.integers((0, *begin, 0), f"{node.output}/begin"), em.integers(out.shape, f"{node.output}/kept")
        em.emit("SLICE", [large, start, size], [out], "SliceOptions")


def _is_same(sizes: Sizes, strides: Sizes, kernel: Sizes, begin: Sizes, wanted: Sizes) -> bool:
    """Whether the runtime crops so by itself: as many elements as strides, the odd one of what is cropped behind them."""
    crops = [(n - 1) * s + k - out for n, s, k, out in zip(sizes, strides, kernel, wanted, strict=True)]
    fits = all(out == n * s for n, s, out in zip(sizes, strides, wanted, strict=True))
    return fits and all(crop >= 0 and b == crop // 2 for crop, b in zip(crops, begin, strict=True))


def _dilated(em: Emitter, node: Node, image: Tensor, w: Array, out: Tensor) -> None:
    """A convolution with turned weights over the image with zeros between its elements."""
    strides, begin, _ = _geometry(node, image, w.shape[2:], out)
    groups, dilations = node.get("group", 1), tuple(node.get("dilations") or (1, 1))
    reach = tuple((k - 1) * d for k, d in zip(w.shape[2:], dilations, strict=True))
    front = tuple(r - b for r, b in zip(reach, begin, strict=True))
    spread = tuple((size - 1) * s + 1 for size, s in zip(image.shape[1:3], strides, strict=True))
    back = tuple(o + r - f - s for o, r, f, s in zip(out.shape[1:3], reach, front, spread, strict=True))
    if min(front + back) < 0:
        raise ModelError(f"ConvTranspose {node.output!r} with groups or dilations crops more than its windows reach")
    if strides != (1, 1):
        wide = em.tensor(f"{node.output}/spread", (image.shape[0], *spread, image.shape[3]), image.dtype)
        steps = em.integers((1, *strides, 1), f"{node.output}/steps")
        em.emit("DILATE", [image, steps, em.constant(np.zeros((), np.float32), f"{node.output}/zero")], [wide])
        image = wide
    if any(front) or any(back):
        image = with_margins(em, image, [(0, 0), *zip(front, back, strict=True), (0, 0)])
    inputs, outputs = w.shape[:2]
    turned = w.reshape(groups, inputs // groups, outputs, *w.shape[2:]).transpose(0, 2, 1, 3, 4)[..., ::-1, ::-1]
    turned = np.ascontiguousarray(turned).reshape(groups * outputs, inputs // groups, *w.shape[2:])
    found = Windows(kernel=w.shape[2:], strides=(1, 1), dilations=dilations, begin=(0, 0), end=(0, 0), outputs=out.shape[1:3])
    emit(em, node, image, turned, em.real(em.view(node.inputs[1])), "VALID", found, out)


TABLE = {"ConvTranspose": conv_transpose}
