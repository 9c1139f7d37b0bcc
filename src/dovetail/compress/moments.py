"""Second moments of what layers read: how much an error of a weight counts, and together with which others.

With ``y = W x`` an error ``E`` of the weights costs ``E‖E x‖² = trace(E C Eᵀ)``, where ``C = E[x xᵀ]``. Clustering and low-rank
factorisation minimise that instead of ``‖E‖²``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dovetail.compress.calibration import Progress, sweep
from dovetail.compress.graph.edit import constant
from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array, Dataset

MAX_FEATURES = 4608
"""Longest ``x`` whose moments are taken: 512 channels under a 3×3 kernel, 170 MB."""
MAX_POSITIONS = 2048
"""Places per sample at most; more are strided."""


def as_rows(node: ir.Node, weight: Array) -> Array | None:
    """A layer's weights as ``[groups, outputs, features]``, features in the order of ``x``; ``None`` for other operators.

    ``x`` is what one output reads: channels, then kernel rows and columns, for Conv; the last axis for MatMul and Gemm.
    """
    if node.op_type == "Conv":
        group = node.attributes.get_int("group", 1)
        return weight.reshape(group, weight.shape[0] // group, -1)
    if weight.ndim != 2 or node.op_type not in ("MatMul", "Gemm") or constant(node.inputs[0]) is not None:
        return None
    if node.op_type == "Gemm" and node.attributes.get_int("transA", 0):
        return None
    straight = node.op_type == "Gemm" and node.attributes.get_int("transB", 0)
    return (weight if straight else weight.T)[None]


def from_rows(node: ir.Node, rows: Array, shape: Sequence[int]) -> Array:
    """The inverse of :func:`as_rows`."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and node.attributes.get_int("transB", 0)):
        return rows.reshape(shape)
    return np.ascontiguousarray(rows[0].T)


def second_moments(
    model: ir.Model, layers: Sequence[ir.Node], dataset: Dataset, samples: int, progress: Progress | None = None
) -> dict[str, Array]:
    """``E[x xᵀ]`` of layers by node name, ``float64[groups, features, features]``, over samples and places.

    Layers whose ``x`` is longer than :data:`MAX_FEATURES`, and operators that :func:`as_rows` does not know, are left out.

    Raises:
        DataError: there are no samples, or they do not fit the model.
        ModelError: what a layer reads is NaN or infinite on some sample.
    """
    shapes = {n.name: w.shape for n in layers if (w := constant(n.inputs[1])) is not None and _measurable(n, w)}
    chosen = [node for node in layers if node.name in shapes]
    if not chosen:
        return {}
    tensors = list(dict.fromkeys(str(node.inputs[0].name) for node in chosen if node.inputs[0] is not None))
    totals: dict[str, Array] = {}
    counts = dict.fromkeys(shapes, 0)
    for values in sweep(ir.to_proto(model), tensors, dataset, samples, progress):
        for node in chosen:
            assert node.inputs[0] is not None and node.name is not None
            x = reads(node, values[str(node.inputs[0].name)], shapes[node.name]).astype(np.float64)
            if not np.isfinite(x).all():
                what = f"what {node.name!r} reads is NaN or infinite on a calibration sample"
                raise ModelError(what, hint="take weighting=none, or look at the samples")
            totals[node.name] = totals.get(node.name, 0.0) + x.transpose(0, 2, 1) @ x
            counts[node.name] += x.shape[1]
    return {str(name): total / max(counts[name], 1) for name, total in totals.items()}


def _measurable(node: ir.Node, weight: Array) -> bool:
    rows = as_rows(node, weight)
    return rows is not None and rows.shape[2] <= MAX_FEATURES


def reads(node: ir.Node, value: Array, shape: Sequence[int]) -> Array:
    """What outputs read, ``[groups, places, features]``."""
    if node.op_type != "Conv":
        flat = value.reshape(-1, value.shape[-1])
        return flat[:: max(1, -(-len(flat) // MAX_POSITIONS))][None]
    group, kernel = node.attributes.get_int("group", 1), shape[2:]
    patches = _patches(node, value, kernel)
    n, channels, places = patches.shape[0], patches.shape[1], patches.shape[2]
    grouped = patches.reshape(n, group, channels // group, places, -1).transpose(1, 0, 3, 2, 4)
    return grouped.reshape(group, n * places, -1)


def _patches(node: ir.Node, value: Array, kernel: Sequence[int]) -> Array:
    """Windows of a convolution, ``[n, channels, places, kernel elements]``; places strided to :data:`MAX_POSITIONS`."""
    axes = len(kernel)
    strides = list(node.attributes.get_ints("strides", [1] * axes))
    dilations = list(node.attributes.get_ints("dilations", [1] * axes))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    padded = np.pad(value, [(0, 0), (0, 0), *_pads(node, value.shape[2:], spans, strides)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, tuple(range(2, 2 + axes)))
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilations))
    windows = windows[steps]
    step = int(np.ceil((np.prod(windows.shape[2 : 2 + axes]) / MAX_POSITIONS) ** (1 / axes)))
    thinned: Any = (slice(None), slice(None), *(slice(None, None, max(1, step)) for _ in range(axes)))
    windows = windows[thinned]
    patches: Array = windows.reshape(*windows.shape[:2], -1, int(np.prod(kernel)))
    return patches


def _pads(node: ir.Node, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Zeros before and after each axis, as the ONNX operator Conv defines them."""
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = list(node.attributes.get_ints("pads", [0] * 2 * len(sizes)))
        return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))
    if auto == "VALID":
        return [(0, 0)] * len(sizes)
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, spans, strides, strict=True)]
    return [(t // 2, t - t // 2) if auto == "SAME_UPPER" else (t - t // 2, t // 2) for t in totals]
