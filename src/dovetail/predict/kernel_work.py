"""What a kernel computes and moves, from the shapes of its operands: the features that its time is learned on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.core.profile import Kernel
from dovetail.predict.family import ELEMENT_BYTES as MODEL_BYTES

Floats = NDArray[np.float64]
Shape = tuple[int, ...]

ELEMENT_BYTES = {**MODEL_BYTES, "bf16": 2.0, "f16": 2.0, "int16": 2.0, "u8": 1.0, "i8": 1.0}
"""As models and runtimes call the types."""
_CHANNELS_LAST = frozenset({
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D",
})  # fmt: skip
"""Kinds of LiteRT, whose activations are NHWC and whose weights are OHWI; other runtimes state NCHW and OIHW."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One kernel as a matrix product where it is one: ``m`` positions, ``n`` outputs each, from ``k`` values each.

    Attributes:
        family: ``conv``, ``depthwise``, ``deconv``, ``matmul``, ``recurrent`` or ``move`` for all that is no product.
        flop: multiply-add = 2; elements written where nothing is multiplied.
        read_bytes: activations.
        weight_bytes: constant operands of products.
        written_bytes: results.
        window: positions of the input that one output sees.
    """

    family: str
    flop: float
    read_bytes: float
    weight_bytes: float
    written_bytes: float
    m: float
    n: float
    k: float
    window: float


FEATURES = ("flop", "read_bytes", "weight_bytes", "written_bytes", "m", "n", "k", "window")


def work(kernel: Kernel) -> Work:
    """Counts one kernel; shapes that it does not state count as one element."""
    size = ELEMENT_BYTES.get(kernel.dtype, 4.0)
    written = sum(map(math.prod, kernel.outputs)) if kernel.outputs else 1
    kind = kernel.kind.lower()
    if "conv" in kind and (found := _convolution(kernel, size, written, transposed=_transposed(kind))):
        return found
    if ("matmul" in kind or "gemm" in kind or "fully" in kind or "attention" in kind) and (
        found := _product(kernel, size, written)
    ):
        return found
    if any(cell in kind for cell in ("lstm", "gru", "rnn")):
        return _recurrent(kernel, size, written)
    read = sum(map(math.prod, kernel.inputs))
    last = kernel.outputs[0][-1] if kernel.outputs and kernel.outputs[0] else 1
    return Work(
        family="move", flop=float(written), read_bytes=size * read, weight_bytes=0.0, written_bytes=size * written,
        m=written / max(1, last), n=float(max(1, last)), k=max(1.0, read / max(1, written)), window=1.0,
    )  # fmt: skip


def logarithms(works: Sequence[Work]) -> Floats:
    """``[n, 8]`` natural logarithms of :data:`FEATURES`, each at least of one."""
    rows = [[getattr(item, name) for name in FEATURES] for item in works]
    return np.log(np.maximum(np.array(rows, dtype=np.float64).reshape(len(rows), len(FEATURES)), 1.0))


def _transposed(kind: str) -> bool:
    return "transpose" in kind or "deconv" in kind or "backprop" in kind


def _convolution(kernel: Kernel, size: float, written: int, *, transposed: bool) -> Work | None:
    """``None`` where no operand has the rank of weights."""
    weights = _weights(kernel.inputs)
    if weights is None or not kernel.outputs or len(kernel.outputs[0]) < 3:
        return None
    taken = kernel.inputs[-1] if kernel.kind == "TRANSPOSE_CONV" else kernel.inputs[0]
    elements, n, window = math.prod(weights), *_outputs_and_window(kernel, weights)
    channels = weights[-1] if kernel.kind == "TRANSPOSE_CONV" else weights[0]
    per_output = elements / max(1, channels if transposed else n)
    flop = 2.0 * (math.prod(taken) if transposed else written) * per_output
    depthwise = per_output <= window * 1.01 and n > 1
    return Work(
        family="deconv" if transposed else "depthwise" if depthwise else "conv",
        flop=flop,
        read_bytes=size * math.prod(taken),
        weight_bytes=size * elements,
        written_bytes=size * written,
        m=written / max(1, n),
        n=float(n),
        k=flop / (2.0 * written) if written else 1.0,
        window=float(window),
    )


def _outputs_and_window(kernel: Kernel, weights: Shape) -> tuple[int, int]:
    """Channels that a convolution puts out, and positions of its window.

    From the weights alone where those are OIHW, since the activations of such a kernel may have either layout.
    """
    axes = len(kernel.outputs[0]) - 2
    if kernel.kind in _CHANNELS_LAST:
        return kernel.outputs[0][-1], math.prod(weights[1:-1])
    if _transposed(kernel.kind.lower()):
        return kernel.outputs[0][1], math.prod(weights[-axes:])
    return math.prod(weights[:-axes]) // max(1, weights[-axes - 1]), math.prod(weights[-axes:])


def _weights(inputs: Sequence[Shape]) -> Shape | None:
    """The largest operand behind the first that has at least three axes; quantised kernels have scales between."""
    found = [shape for shape in inputs if len(shape) >= 3]
    if len(found) < 2:
        return None
    return found[1] if math.prod(found[0]) else None


def _product(kernel: Kernel, size: float, written: int) -> Work | None:
    found = [shape for shape in kernel.inputs if len(shape) >= 2]
    if len(found) < 2 or not kernel.outputs or not written:
        return None
    a, b = found[:2]
    n = kernel.outputs[0][-1] if kernel.outputs[0] else 1
    m = written / max(1, n)
    # A broadcast operand holds its matrices once: k comes from whichever operand is not.
    k = max(1.0, math.prod(a) / m) if len(a) >= len(b) else float(b[-2])
    return Work(
        family="matmul", flop=2.0 * written * k, read_bytes=size * math.prod(a), weight_bytes=size * math.prod(b),
        written_bytes=size * written, m=m, n=float(n), k=k, window=1.0,
    )  # fmt: skip


def _recurrent(kernel: Kernel, size: float, written: int) -> Work:
    """Weights are read once a step; the first operand is the sequence."""
    sequence = kernel.inputs[0] if kernel.inputs else (1,)
    weights = sum(math.prod(shape) for shape in kernel.inputs[1:])
    steps = max(1, math.prod(sequence) // max(1, sequence[-1]))
    return Work(
        family="recurrent", flop=2.0 * steps * weights, read_bytes=size * math.prod(sequence), weight_bytes=size * weights,
        written_bytes=size * written, m=float(steps), n=float(max(1, kernel.outputs[0][-1] if kernel.outputs else 1)),
        k=float(sequence[-1]), window=1.0,
    )  # fmt: skip
