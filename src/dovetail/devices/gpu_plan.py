"""What is measured of a graphics processor, and in which order: what decides most comes first."""

from __future__ import annotations

from collections.abc import Iterator

from dovetail.core.gpu import GpuProbe

SQUARES = (256, 512, 1024, 2048, 4096)
LARGEST = 8192
"""Of a product; fp32 at that size takes a quarter of a second on slow parts."""
SKINNY = (1, 16, 64, 256)
"""Rows of products as networks have them at small batches, against weights of 4096 × 4096."""
DTYPES = ("fp16", "bf16", "fp32", "tf32", "fp8", "int8", "fp64")
"""Types of products in order of use; one that a part does not take is left out when it fails."""
CONVOLUTIONS = (
    (32, 64, 56, 64, 3, 1, 1),
    (32, 256, 14, 256, 3, 1, 1),
    (32, 512, 7, 512, 3, 1, 1),
    (32, 3, 224, 64, 7, 2, 1),
    (32, 256, 56, 64, 1, 1, 1),
    (32, 2048, 7, 512, 1, 1, 1),
    (1, 64, 56, 64, 3, 1, 1),
    (1, 256, 14, 256, 3, 1, 1),
    (1, 512, 7, 2048, 1, 1, 1),
)
"""Layers of ResNet-50 (He et al., https://arxiv.org/abs/1512.03385, table 1) at batches 32 and 1."""
DEPTHWISE = ((32, 96, 112, 96, 3, 2, 96), (32, 144, 56, 144, 3, 1, 144), (32, 576, 14, 576, 3, 1, 576))
"""Layers of MobileNetV2 (Sandler et al., https://arxiv.org/abs/1801.04381, table 2)."""
POWER_S = 2.5
"""Of a measurement that power is read in: NVML may tell the mean of a second, and clocks take a while to settle."""
_ELEMENTS = (1 << 16, 1 << 20, 1 << 24, 1 << 27)
_LINK_ELEMENTS = 1 << 24


def plan(scale: int = 1) -> tuple[GpuProbe, ...]:
    """All measurements.

    Args:
        scale: divides sizes, for a quick look at a slow device: by 16 all products together take less than a second on a
            processor's core.
    """
    return tuple(dict.fromkeys(_probes(scale)))


def _probes(scale: int) -> Iterator[GpuProbe]:
    small = scale > 1
    seconds = 0.02 if small else 0.2
    yield GpuProbe(kind="launch", dtype="fp32", sizes=(1,), seconds=seconds)
    yield GpuProbe(kind="call", dtype="fp32", sizes=(1,), seconds=seconds)
    largest = LARGEST // scale
    for dtype in DTYPES:
        long = POWER_S if dtype in ("fp16", "fp32") and not small else seconds
        yield GpuProbe(kind="gemm", dtype=dtype, sizes=(largest,) * 3, seconds=long, power=long == POWER_S)
    triad = max(1, _ELEMENTS[-1] // scale**2)
    yield GpuProbe(kind="triad", dtype="fp32", sizes=(triad,), seconds=seconds if small else POWER_S, power=not small)
    for elements in _ELEMENTS:
        for dtype in ("fp32", "fp16"):
            yield GpuProbe(kind="copy", dtype=dtype, sizes=(max(1, elements // scale**2),), seconds=seconds)
    for direction in ("to_device", "to_host"):
        yield GpuProbe(kind=direction, dtype="fp32", sizes=(max(1, _LINK_ELEMENTS // scale**2),), seconds=seconds)
    yield from _products(scale, seconds)
    for sizes in (*CONVOLUTIONS, *DEPTHWISE):
        for dtype in ("fp16", "fp32"):
            kind = "depthwise" if sizes[-1] > 1 else "conv"
            yield GpuProbe(kind=kind, dtype=dtype, sizes=_smaller(sizes, scale), seconds=seconds)
    for dtype in ("fp16", "fp32"):
        yield GpuProbe(kind="reduce", dtype=dtype, sizes=(LARGEST // scale, 4096 // scale), seconds=seconds)


def _products(scale: int, seconds: float) -> Iterator[GpuProbe]:
    """Squares and products of few rows, in the types that are used most."""
    wide = 4096 // scale
    for dtype in ("fp16", "fp32", "bf16"):
        for size in SQUARES:
            yield GpuProbe(kind="gemm", dtype=dtype, sizes=(max(16, size // scale),) * 3, seconds=seconds)
        for rows in SKINNY:
            yield GpuProbe(kind="gemm", dtype=dtype, sizes=(rows, wide, wide), seconds=seconds)


def _smaller(sizes: tuple[int, ...], scale: int) -> tuple[int, ...]:
    """A convolution with fewer samples and channels; depthwise ones keep a channel a group."""
    batch, channels, height, out, kernel, stride, groups = sizes
    less = [max(1, size // scale) for size in (batch, channels, out)]
    grouped = less[1] if groups > 1 else 1
    return (less[0], less[1], height, less[1] if groups > 1 else less[2], kernel, stride, grouped)
