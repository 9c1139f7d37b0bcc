"""Kernels whose times follow a known law, so that what is learned can be checked."""

import math
from collections.abc import Sequence

import numpy as np

from dovetail.core.calibration import Trace
from dovetail.core.profile import KernelTime

RATE_FLOP_PER_S = 1e11
BANDWIDTH_BYTES_PER_S = 1e10
FIXED_S = 2e-6


def conv(channels: int, size: int, kernel: int = 3, taken: int | None = None) -> KernelTime:
    """A convolution that computes and moves at fixed rates, one after the other."""
    taken = taken or channels
    flop = 2.0 * channels * size * size * taken * kernel * kernel
    moved = 4.0 * (taken * size * size + channels * size * size + channels * taken * kernel * kernel)
    return KernelTime(
        name="conv",
        kind="Conv",
        dtype="float32",
        inputs=((1, taken, size, size), (channels, taken, kernel, kernel)),
        outputs=((1, channels, size, size),),
        time_s=FIXED_S + flop / RATE_FLOP_PER_S + moved / BANDWIDTH_BYTES_PER_S,
    )


def relu(channels: int, size: int) -> KernelTime:
    """An element-wise kernel that moves at the fixed rate."""
    moved = 8.0 * channels * size * size
    shape = (1, channels, size, size)
    return KernelTime(
        name="relu", kind="Relu", dtype="float32", inputs=(shape,), outputs=(shape,),
        time_s=FIXED_S + moved / BANDWIDTH_BYTES_PER_S,
    )  # fmt: skip


def network(rng: np.random.Generator) -> tuple[KernelTime, ...]:
    """Some convolutions with activations behind them."""
    found: list[KernelTime] = []
    for _ in range(6):
        channels, size = int(rng.choice([8, 16, 32, 64, 128])), int(rng.choice([7, 14, 28, 56]))
        found += [conv(channels, size, int(rng.choice([1, 3, 5]))), relu(channels, size)]
    return tuple(found)


def traces(count: int, seed: int = 0, noise: float = 0.03) -> Sequence[Trace]:
    """Networks whose calls take their kernels' times and five microseconds, within a few per cent."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        kernels = network(rng)
        call_s = (5e-6 + sum(kernel.time_s for kernel in kernels)) * math.exp(noise * rng.standard_normal())
        found.append(
            Trace(
                network=f"net-{number}", kind="made", form="float", runtime="onnxruntime", options={"threads": 1}, threads=1,
                call_s=call_s, kernels=kernels,
            )
        )  # fmt: skip
    return found
