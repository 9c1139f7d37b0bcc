"""Intersection over union."""

from __future__ import annotations

import math

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array
from dovetail.data.metrics.base import SumMetric


class Iou(SumMetric):
    """Mean over classes of intersection over union, summed over all pixels of all samples.

    Takes scores ``[N, C, ...]`` (``class_axis`` says where C is) and labels ``[N, ...]``; pixels labelled ``ignore`` do not
    count, nor do classes that are neither labelled nor predicted.
    """

    name = "iou"
    undefined = "no pixel is labelled"

    def __init__(self, *, class_axis: int = 1, ignore: int = 255, output: str = "") -> None:
        super().__init__(output=output)
        self.class_axis, self.ignore = class_axis, ignore

    def sample_rows(self, y: Array, labels: Array) -> Array:
        """``[B, 2 C]``: intersections, then unions."""
        if y.ndim < 3:
            raise DataError(f"takes class scores [N, C, H, W]; the output is {list(y.shape)}", where="metric iou")
        n_classes = y.shape[self.class_axis]
        predicted = y.argmax(axis=self.class_axis).reshape(len(y), -1)
        truth = labels.reshape(len(y), -1) if labels.dtype.kind in "iuf" else labels
        if truth.shape != predicted.shape:
            raise DataError(f"output {list(y.shape)} and labels {list(labels.shape)} differ in size", where="metric iou")
        return np.stack([self._counts(p, t, n_classes) for p, t in zip(predicted, truth.astype(np.int64), strict=True)])

    def _counts(self, predicted: Array, truth: Array, n_classes: int) -> Array:
        known = truth != self.ignore
        predicted, truth = predicted[known], truth[known]
        if truth.size and not 0 <= truth.min() <= truth.max() < n_classes:
            raise DataError(
                f"labels {truth.min()}..{truth.max()} lie outside the model's {n_classes} classes", where="metric iou",
                hint=f"pixels to pass over are labelled {self.ignore} (`ignore`)",
            )  # fmt: skip
        both = np.bincount(truth[truth == predicted], minlength=n_classes)
        either = np.bincount(truth, minlength=n_classes) + np.bincount(predicted, minlength=n_classes) - both
        return np.concatenate([both, either]).astype(np.float64)

    def finish(self, totals: Array) -> float:
        """Mean over the classes that occur."""
        both, either = totals.reshape(2, -1)
        seen = either > 0
        return float((both[seen] / either[seen]).mean()) if seen.any() else math.nan
