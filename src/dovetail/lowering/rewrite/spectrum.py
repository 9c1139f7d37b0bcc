"""Fourier transforms as products with constant matrices, as audio front-ends of fixed length need them."""

from __future__ import annotations

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.rewrite.build import Builder
from dovetail.lowering.source import Node, Source

MAX_ELEMENTS = 1 << 24
"""Of a matrix; a longer transform would take more memory than it is worth."""


def write_out(source: Source) -> None:
    """DFT becomes a product, STFT a convolution."""
    written = {"DFT": _transform, "STFT": _frames}
    nodes: list[Node] = []
    for node in source.nodes:
        nodes += written[node.op](source, node) if node.op in written else [node]
    source.nodes = nodes


def _transform(source: Source, node: Node) -> list[Node]:
    """``[…, n, …, 1 or 2]`` → ``[…, bins, …, 1 or 2]``, the last axis holding the real and the imaginary part."""
    shape, out = source.shape(node.inputs[0]), source.shape(node.output)
    axis = _number(source, node, 2, int(node.get("axis", 1 if source.opset < 20 else -2))) % len(shape)
    inverse, onesided = bool(node.get("inverse", 0)), bool(node.get("onesided", 0))
    length = _number(source, node, 1, 0)
    if not length:
        length = 2 * (shape[axis] - 1) if inverse and onesided else shape[axis]
    matrix = _dft(shape[axis], shape[-1], length, inverse, onesided)
    if matrix.shape[1] != out[axis] * out[-1]:
        raise ModelError(f"DFT {node.output!r} makes {list(out)}, which is no transform of {length} numbers that is lowered")
    b = Builder(source, node.output)
    order = [a for a in range(len(shape)) if a not in (axis, len(shape) - 1)]
    moved = [*order, axis, len(shape) - 1]
    x = b.transpose(node.inputs[0], moved)
    lead = [shape[a] for a in order]
    flat = b.reshape(x, (*lead, shape[axis] * shape[-1]))
    product = b.matmul(flat, b.constant(matrix, "matrix"))
    back = b.reshape(product, (*lead, out[axis], out[-1]))
    b.transpose(back, [moved.index(a) for a in range(len(shape))], node.output)
    return b.nodes


def _dft(size: int, parts: int, length: int, inverse: bool, onesided: bool) -> Array:
    """``[size · parts, bins · parts]``: what each number of the input contributes, computed in double precision."""
    if size * length * 4 > MAX_ELEMENTS:
        raise ModelError(f"a Fourier transform of {length} numbers takes a matrix of {size * length * 4 / 1e6:.0f} million")
    basis = np.eye(size * parts).reshape(size * parts, size, parts)
    values = basis[..., 0] + (1j * basis[..., 1] if parts == 2 else 0)
    if inverse and onesided:
        return np.asarray(np.fft.irfft(values, length), np.float32)
    found = np.fft.ifft(values, length) if inverse else np.fft.fft(values, length)
    found = found[:, : length // 2 + 1] if onesided else found
    return np.stack([found.real, found.imag], axis=-1).reshape(size * parts, -1).astype(np.float32)


def _number(source: Source, node: Node, index: int, default: int) -> int:
    if not node.has(index):
        return default
    value = source.constant(node, index)
    if value is None:
        raise ModelError(f"{node.op} {node.output!r} finds its size at run time")
    return int(value.reshape(()))


def _frames(source: Source, node: Node) -> list[Node]:
    """``[batch, samples]`` or ``[batch, samples, 1]`` → ``[batch, frames, bins, 2]``.

    A convolution with the waves, times the window, as its filters; its stride is the step between frames.
    """
    shape, out = source.shape(node.inputs[0]), source.shape(node.output)
    if len(shape) == 3 and shape[2] != 1:
        raise ModelError(f"STFT {node.output!r} transforms complex numbers, which is not lowered")
    step, length = _number(source, node, 1, 0), _number(source, node, 3, 0)
    window = source.constant(node, 2) if node.has(2) else np.ones(length or 1)
    if window is None:
        raise ModelError(f"STFT {node.output!r} finds its window at run time")
    length = length or len(window)
    matrix = _dft(length, 1, length, False, bool(node.get("onesided", 1)))
    filters = np.ascontiguousarray((matrix * _centred(window, length)[:, None]).T.astype(np.float32))
    b = Builder(source, node.output)
    signal = b.reshape(node.inputs[0], (shape[0], 1, shape[1]))
    weights = b.constant(filters[:, None, :], "waves")
    whole = (shape[0], len(filters), out[1])
    if out[2] * out[3] != len(filters):  # the standard's inference overlooks that onesided is 1 by default
        raise ModelError(f"STFT {node.output!r} leaves onesided to its default, for which onnx infers a wrong shape")
    made = b.node("Conv", signal, weights, shape=whole, strides=(step,), kernel_shape=(length,))
    b.reshape(b.transpose(made, (0, 2, 1)), out, node.output)
    return b.nodes


def _centred(window: Array, length: int) -> Array:
    """A window in the middle of a frame, which may be longer."""
    spare = length - len(window)
    return np.pad(window.astype(np.float64), (spare // 2, spare - spare // 2))
