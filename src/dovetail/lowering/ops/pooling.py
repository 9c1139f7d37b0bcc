"""Pooling over windows, channels last; over volumes first within each slice, then along the depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.convolution import as_images, finish_image, image_input, images, with_margins
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.types import REAL, bind, carried, cast
from dovetail.lowering.ops.windows import Windows, windows
from dovetail.lowering.rewrite import ACTIVATION, FROM_ZERO, never_negative
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Quant, Tensor, View, channels_last

_SMALL = frozenset({"int8", "uint8"})
"""Integers that a float holds exactly, so that their greatest may be found among floats."""
_WIDE = 24
"""Channels of 8 bits."""
Pool = Callable[[Emitter, Node, Tensor, Windows], Tensor]


def max_pool(em: Emitter, node: Node) -> None:
    """MaxPool; integers stay in the scale they have.

    Raises:
        ModelError: dilations, or indices.
    """
    if len([name for name in node.outputs if name]) > 1:
        raise ModelError(f"MaxPool {node.output!r} returns indices, which the runtime cannot")
    x = em.view(node.inputs[0])
    if x.quant is None and x.dtype in _SMALL:
        x = View(cast(em, x.tensor, "float32"), x.order)
    if x.quant is None:
        (x,) = carried(em, node, [x], REAL)
    _pool(em, node, x, _greatest)


def average_pool(em: Emitter, node: Node) -> None:
    """AveragePool; where padding is left out of the means and no attribute says so, a constant factor corrects them.

    Raises:
        ModelError: dilations.
    """
    (x,), quant = em.operands(node, 0)
    found = _found(em, node, x)
    if quant is None or x.rank == 5 or _factors(node, found, images(x.shape)) is not None:
        (x,) = carried(em, node, [em.real(x)], REAL)
    elif not quant.same(x.quant):
        if found.kernel == images(x.shape) and found.outputs == (1, 1) and ACTIVATION not in node.attributes:
            global_average(em, node)
            return
        assert x.quant is not None
        if x.quant.scale[0] > quant.scale[0]:  # rounding to it first would be seen in the result
            x = em.real(x)
        else:
            em.note(f"{node.output}: averaged with {x.quant}, as the runtime demands, then rescaled to {quant}")
    _pool(em, node, x, _average)


def _found(em: Emitter, node: Node, x: View) -> Windows:
    """Windows over images, or over volumes.

    Raises:
        ModelError: dilations.
    """
    kernel = tuple(node.get("kernel_shape"))
    if any(d != 1 for d in node.get("dilations") or ()):
        raise ModelError(f"{node.op} {node.output!r} has dilations, which the runtime cannot")
    if len(kernel) not in (1, 2, 3):
        raise ModelError(f"{node.op} {node.output!r} has {len(kernel)} spatial axes; the runtime takes 1 to 3")
    outputs = em.source.shape(node.output)
    if len(kernel) == 3:
        return windows(node, x.shape[2:], kernel, outputs[2:])
    return windows(as_images(node, x.rank - 2), images(x.shape), (1, *kernel)[-2:], images(outputs))


def _pool(em: Emitter, node: Node, x: View, pool: Pool) -> None:
    found = _found(em, node, x)
    if x.rank < 5:
        _, image = image_input(em, node, x)
        finish_image(em, node, pool(em, node, image, found))
        return
    n, depth, height, width, channels = em.ordered(x, channels_last(5)).shape
    slices = em.reshape(em.ordered(x, channels_last(5)), (n * depth, height, width, channels))
    unbounded = replace(node, attributes={**node.attributes, ACTIVATION: "NONE"})
    flat = pool(em, unbounded, slices, found.along(1, 2))
    _, height, width, _ = flat.shape
    deep = pool(em, node, em.reshape(flat, (n, depth, height * width, channels)), found.along(0).flat(height * width))
    volume = em.reshape(deep, (n, deep.shape[1], height, width, channels))
    if x.quant is None:
        bind(em, node.output, volume, channels_last(5))
    else:
        em.bind(node.output, View(volume, channels_last(5)))


def _greatest(em: Emitter, node: Node, image: Tensor, found: Windows) -> Tensor:
    sizes, padding = image.shape[1:3], "VALID"
    if found.same(sizes):
        padding = "SAME"
    elif found.reaches_out(sizes):
        image = with_margins(em, image, found.margins(sizes), _filler(em, node, image))
    return _emit(em, node, image, found, padding, "MAX_POOL_2D")


def _filler(em: Emitter, node: Node, image: Tensor) -> float | None:
    """What is never the greatest of a window; ``None`` where zero serves, and XNNPACK, which pads with nothing else, is faster.

    It is with 8 bits and from :data:`_WIDE` channels on; the runtime itself is faster with floats.
    """
    if image.quant is None:
        return float("-inf")
    lowest = float(np.iinfo(image.quant.dtype).min)
    if image.dtype != "int8" or image.shape[-1] < _WIDE:
        return lowest
    from_zero = float(image.quant.zero_point[0]) == lowest or node.get(ACTIVATION) in FROM_ZERO
    return None if from_zero or never_negative(em.source, node.inputs[0]) else lowest


def _average(em: Emitter, node: Node, image: Tensor, found: Windows) -> Tensor:
    sizes = image.shape[1:3]
    factors = _factors(node, found, sizes)
    if not node.get("count_include_pad", 0) and found.same(sizes):
        return _emit(em, node, image, found, "SAME", "AVERAGE_POOL_2D")
    if found.reaches_out(sizes):
        image = with_margins(em, image, found.margins(sizes))
    pooled = _emit(em, node, image, found, "VALID", "AVERAGE_POOL_2D", bounded=factors is None)
    if factors is None:
        return pooled
    m = Maths(em, node.output)
    return m.apply("MUL", pooled, m.constant(factors), activation=node.get(ACTIVATION, "NONE"))


def _factors(node: Node, found: Windows, sizes: tuple[int, ...]) -> Array | None:
    """What makes a mean over whole windows one over the elements that count, for each output; ``None`` where all count."""
    counted = bool(node.get("count_include_pad", 0))
    if not counted and len(sizes) == 2 and found.same(sizes):
        return None
    counts = [found.counts(axis, size, counted) for axis, size in enumerate(sizes)]
    if any(count.min() == 0 for count in counts):
        raise ModelError(f"{node.op} {node.output!r} has windows that see padding alone")
    shares = [k / count for k, count in zip(found.kernel, counts, strict=True)]
    if all((share == 1).all() for share in shares):
        return None
    return np.multiply.outer(shares[0], shares[1])[None, :, :, None].astype(np.float32)


def _emit(em: Emitter, node: Node, image: Tensor, found: Windows, padding: str, code: str, bounded: bool = True) -> Tensor:
    out = em.tensor(node.output, (image.shape[0], *found.outputs, image.shape[3]), image.dtype, image.quant)
    em.emit(
        code, [image], [out], "Pool2DOptions", padding=padding, strideH=found.strides[0], strideW=found.strides[1],
        filterHeight=found.kernel[0], filterWidth=found.kernel[1],
        fusedActivationFunction=node.get(ACTIVATION, "NONE") if bounded else "NONE",
    )  # fmt: skip
    return out


def global_average(em: Emitter, node: Node) -> None:
    """GlobalAveragePool: a mean over the spatial axes."""
    (x,), quant = em.operands(node, 0)
    if quant is None:
        (x,) = carried(em, node, [x], REAL)
    _over_all(em, node, x, "MEAN", quant)


def global_max(em: Emitter, node: Node) -> None:
    """GlobalMaxPool: the greatest over the spatial axes, in the scale of the input."""
    x = em.view(node.inputs[0])
    if x.quant is None:
        (x,) = carried(em, node, [x], REAL)
    _over_all(em, node, x, "REDUCE_MAX", x.quant)


def _over_all(em: Emitter, node: Node, x: View, code: str, quant: Quant | None) -> None:
    """A reduction over the spatial axes, which stay with size 1."""
    out = Maths(em, node.output).reduce(code, x.tensor, [x.place(axis) for axis in range(2, x.rank)], quant=quant)
    em.bind(node.output, View(out, x.order))


TABLE = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average,
    "GlobalMaxPool": global_max,
}
