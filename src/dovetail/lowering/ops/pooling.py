"""Pooling over windows, channels last."""

from __future__ import annotations

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.convolution import finish_image, image_input, image_result, images, padded
from dovetail.lowering.ops.windows import windows
from dovetail.lowering.rewrite import ACTIVATION
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import View


def max_pool(em: Emitter, node: Node) -> None:
    """MaxPool; integers stay in the scale they have.

    Raises:
        ModelError: dilations, indices, or windows beyond the input (ceil_mode).
    """
    if any(d != 1 for d in node.get("dilations") or ()) or len([o for o in node.outputs if o]) > 1:
        raise ModelError(f"MaxPool {node.output!r} has dilations or returns indices, which the runtime cannot")
    x = em.view(node.inputs[0])
    lowest = float("-inf") if x.quant is None else float(np.iinfo(x.quant.dtype).min)
    _pool(em, node, x, "MAX_POOL_2D", lowest)


def average_pool(em: Emitter, node: Node) -> None:
    """AveragePool; padding counts only where the attribute can say so.

    Raises:
        ModelError: padding that neither SAME nor an operator expresses.
    """
    (x,), quant = em.operands(node, 0)
    if quant is not None and not quant.same(x.quant):
        em.note(f"{node.output}: averaged with {x.quant}, as the runtime demands, then rescaled to {quant}")
    _pool(em, node, x if quant is not None else em.real(x), "AVERAGE_POOL_2D", None)


def _pool(em: Emitter, node: Node, x: View, code: str, filler: float | None) -> None:
    node_2d, image = image_input(em, node, x)
    kernel = tuple(node.get("kernel_shape"))
    if len(kernel) not in (1, 2):
        raise ModelError(f"{node.op} {node.output!r} has {len(kernel)} spatial axes; the runtime takes 1 or 2")
    kernel = (1, *kernel) if len(kernel) == 1 else kernel
    sizes = images(x.shape)
    found = windows(node_2d, sizes, kernel)
    _require_covered(em, node, found.needed_end(sizes), found.end)
    if not found.padded:
        padding = "VALID"
    elif code == "MAX_POOL_2D" or node.get("count_include_pad", 0):
        same = found.same(sizes) and code == "MAX_POOL_2D"
        padding, image = ("SAME", image) if same else padded(em, image, found, sizes, filler)
    elif found.same(sizes):
        padding = "SAME"
    else:
        raise ModelError(f"AveragePool {node.output!r} leaves uneven padding out of its means; the runtime cannot")
    out = image_result(em, node, x.quant)
    em.emit(
        code, [image], [out], "Pool2DOptions", padding=padding, strideH=found.strides[0], strideW=found.strides[1],
        filterHeight=kernel[0], filterWidth=kernel[1], fusedActivationFunction=node.get(ACTIVATION, "NONE"),
    )  # fmt: skip
    finish_image(em, node, out)


def _require_covered(em: Emitter, node: Node, needed: tuple[int, ...], end: tuple[int, ...]) -> None:
    if node.get("ceil_mode", 0):
        shape = em.source.shape(node.output)
        expected = tuple(n for n in shape[2:])
        if any(n > e for n, e in zip(needed, end, strict=True)) or not expected:
            raise ModelError(f"{node.op} {node.output!r} has windows beyond the padded input (ceil_mode)")


def global_average(em: Emitter, node: Node) -> None:
    """GlobalAveragePool: a mean over the spatial axes."""
    (x,), quant = em.operands(node, 0)
    axes = sorted(x.place(axis) for axis in range(2, x.rank))
    out = em.result(node.output, x.order, quant)
    em.emit("MEAN", [x.tensor, em.integers(axes, f"{node.output}/axes")], [out], "ReducerOptions", keepDims=True)


def global_max(em: Emitter, node: Node) -> None:
    """GlobalMaxPool: the greatest over the spatial axes, in the scale of the input."""
    x = em.view(node.inputs[0])
    axes = sorted(x.place(axis) for axis in range(2, x.rank))
    out = em.result(node.output, x.order, x.quant)
    em.emit("REDUCE_MAX", [x.tensor, em.integers(axes, f"{node.output}/axes")], [out], "ReducerOptions", keepDims=True)


TABLE = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average,
    "GlobalMaxPool": global_max,
}
