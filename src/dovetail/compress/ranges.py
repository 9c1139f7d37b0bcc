"""Quantisation ranges from histograms. All ranges include zero, so that padding and ReLU stay exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from dovetail.compress.calibration import HALF_BINS, Histogram

Method = Literal["minmax", "percentile", "mse", "entropy"]

LEVELS = 256
_SMOOTHING = 1e-9
_SHRINKS = np.linspace(0.2, 1.0, 41).tolist()


def tensor_range(
    histogram: Histogram, method: Method, *, percentile: float = 99.99, symmetric: bool = False
) -> tuple[float, float]:
    """The interval ``(low, high)`` to map onto the integer grid, in the tensor's unit.

    Args:
        histogram: what was seen of the tensor.
        method: ``minmax`` keeps everything; ``percentile`` keeps that share of the values on either side; ``mse`` minimises
            the expected squared error of rounding and clipping to 256 levels; ``entropy`` minimises the Kullback-Leibler
            divergence between the clipped and the quantised distribution (Migacz, "8-bit inference with TensorRT", GTC 2017).
        percentile: in percent, for ``percentile``.
        symmetric: the grid is centred on zero.
    """
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    if method == "minmax" or histogram.limit == 0.0:
        return low, high
    if method == "percentile":
        left, right = _percentile(histogram, percentile / 100)
        if symmetric:
            left, right = -max(-left, right), max(-left, right)
        return max(low, min(left, 0.0)), min(high, max(right, 0.0))
    score = _squared_error if method == "mse" else _divergence
    return _best(histogram, low, high, score, symmetric)


def _percentile(histogram: Histogram, share: float) -> tuple[float, float]:
    cumulative = np.cumsum(histogram.counts) / histogram.counts.sum()
    width = histogram.limit / HALF_BINS
    left = int(np.searchsorted(cumulative, 1 - share, side="right"))
    right = int(np.searchsorted(cumulative, share, side="left"))
    return (left - HALF_BINS) * width, (right + 1 - HALF_BINS) * width


def _best(
    histogram: Histogram, low: float, high: float, score: Callable[[Histogram, float, float], float], symmetric: bool
) -> tuple[float, float]:
    """Shrinks both ends together, then each end alone: a coordinate search over 41 steps per end."""
    together = min(_SHRINKS, key=lambda s: score(histogram, s * low, s * high))
    low, high = together * low, together * high
    if symmetric or low == 0.0 or high == 0.0:
        return low, high
    low *= min(_SHRINKS, key=lambda s: score(histogram, s * low, high))
    high *= min(_SHRINKS, key=lambda s: score(histogram, low, s * high))
    return low, high


def _squared_error(histogram: Histogram, low: float, high: float) -> float:
    centers = histogram.centers
    scale = (high - low) / (LEVELS - 1)
    quantised = np.clip(np.rint(centers / scale), np.rint(low / scale), np.rint(high / scale)) * scale
    return float(np.dot(histogram.counts, (centers - quantised) ** 2))


def _divergence(histogram: Histogram, low: float, high: float) -> float:
    centers, counts = histogram.centers, histogram.counts.astype(np.float64)
    counts[HALF_BINS] = 0.0  # exact zeros, which ReLU makes plenty of, cost nothing on any grid
    inside = (centers >= low) & (centers <= high)
    level = np.minimum(((centers[inside] - low) * (LEVELS / (high - low))).astype(np.int64), LEVELS - 1)
    kept = counts[inside]
    clipped = kept.copy()
    clipped[0] += counts[centers < low].sum()
    clipped[-1] += counts[centers > high].sum()
    occupied = np.bincount(level, kept > 0, minlength=LEVELS)
    spread = np.bincount(level, kept, minlength=LEVELS) / np.maximum(occupied, 1)
    approximate = np.where(kept > 0, spread[level], 0.0)
    p, q = clipped / clipped.sum(), approximate / max(approximate.sum(), 1.0)
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], _SMOOTHING))))
