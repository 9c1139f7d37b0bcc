"""Mean average precision of object detection."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array, Outputs
from dovetail.data.metrics.base import Binding, RowMetric

THRESHOLDS = np.linspace(0.5, 0.95, 10)
_COLUMNS = 2 + len(THRESHOLDS)


class DetectionMap(RowMetric):
    """COCO's mAP@[.5:.95]: precision averaged over 101 recalls, ten IoU thresholds and all labelled classes (Lin et al. 2014).

    Takes three outputs of one image per call: boxes ``[1, D, 4]`` (x1, y1, x2, y2), scores ``[1, D]`` and class numbers
    ``[1, D]``; and labels ``[n, 5]``: x1, y1, x2, y2, class, in the boxes' units. Rows hold, one after another, 12 numbers per
    detection (class, score, right or wrong at each threshold) and per labelled box (class, infinity, zeros). COCO's crowd boxes
    and size ranges are left out.
    """

    name = "map"
    undefined = "the labels hold no box"

    def __init__(self, *, boxes: str = "", scores: str = "", classes: str = "", max_detections: int = 100) -> None:
        self.boxes, self.scores, self.classes = boxes, scores, classes
        self.max_detections = max_detections
        self._at: tuple[int, ...] = (0, 1, 2)

    def bind(self, binding: Binding) -> Self:
        """A copy that knows the three outputs: the named ones, else the first three in the order boxes, scores, classes.

        Raises:
            DataError: the model has fewer outputs.
        """
        if len(binding.judged) < 3:
            raise DataError(f"takes boxes, scores and classes; the model has {len(binding.judged)} outputs", where="metric map")
        bound = copy.copy(self)
        names = (self.boxes, self.scores, self.classes)
        bound._at = tuple(binding.position(name, self.name) if name else binding.judged[i] for i, name in enumerate(names))
        return bound

    def rows_batch(self, outputs: Outputs, labels: Array | None, reference: Outputs | None = None) -> Array:
        """One image after another, filled up with NaN to one length."""
        assert labels is not None
        rows = [self._image([y[i] for y in outputs], label) for i, label in enumerate(labels)]
        width = max(len(row) for row in rows)
        return np.stack([np.pad(row, (0, width - len(row)), constant_values=np.nan) for row in rows])

    def row(self, outputs: Sequence[Outputs], labels: Sequence[Any], reference: Sequence[Outputs] | None = None) -> Array:
        """All images of the unit."""
        return np.concatenate([self._image([y[0] for y in o], label) for o, label in zip(outputs, labels, strict=True)])

    def _image(self, outputs: Sequence[Array], label: Any) -> Array:
        boxes, scores, classes = (outputs[at] for at in self._at)
        truth = np.asarray(label, dtype=np.float64)
        if truth.ndim != 2 or truth.shape[1] != 5 or boxes.ndim != 2 or boxes.shape[1] != 4:
            raise DataError(
                f"takes boxes [1, D, 4] and labels [n, 5]; an image has {list(boxes.shape)} and {list(truth.shape)}",
                where="metric map",
            )
        order = np.argsort(-scores.ravel(), kind="stable")[: self.max_detections]
        boxes, scores, classes = boxes[order], scores.ravel()[order], classes.ravel()[order]
        rows = np.zeros((len(order) + len(truth), _COLUMNS))
        for t, threshold in enumerate(THRESHOLDS):
            rows[: len(order), 2 + t] = _matched(boxes, classes, truth, float(threshold))
        rows[:, 0] = np.concatenate([classes, truth[:, 4]])
        rows[:, 1] = np.concatenate([scores, np.full(len(truth), np.inf)])
        return rows.ravel()

    def value(self, rows: Array) -> float:
        """Mean over classes and thresholds; NaN without a labelled box."""
        table = rows.reshape(-1, _COLUMNS)
        table = table[~np.isnan(table[:, 0])]
        is_label = np.isinf(table[:, 1])
        precisions = []
        for number in np.unique(table[is_label, 0]):
            mine = table[:, 0] == number
            detections = table[mine & ~is_label]
            detections = detections[np.argsort(-detections[:, 1], kind="stable")]
            n_labels = int((mine & is_label).sum())
            precisions += [_average_precision(detections[:, 2 + t], n_labels) for t in range(len(THRESHOLDS))]
        return float(np.mean(precisions)) if precisions else math.nan


def _matched(boxes: Array, classes: Array, truth: Array, threshold: float) -> Array:
    """1 for each detection, best score first, that takes the free labelled box of its class which it overlaps most."""
    free = np.ones(len(truth), dtype=bool)
    right = np.zeros(len(boxes))
    if not len(truth):
        return right
    for i, (box, number) in enumerate(zip(boxes, classes, strict=True)):
        overlaps = np.where(free & (truth[:, 4] == number), _iou(box, truth[:, :4]), -1.0)
        best = int(overlaps.argmax())
        if overlaps[best] >= threshold:
            free[best], right[i] = False, 1.0
    return right


def _iou(box: Array, others: Array) -> Array:
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    either = np.prod(box[2:] - box[:2]) + areas - both
    share: Array = both / np.maximum(either, np.finfo(np.float64).tiny)
    return share


def _average_precision(right: Array, n_labels: int) -> float:
    """Mean over recalls 0, 0.01, …, 1 of the best precision at that recall or beyond."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(hits) + 1)
    best_beyond = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(hits / n_labels, np.linspace(0, 1, 101), side="left")
    return float(np.concatenate([best_beyond, [0.0]])[np.minimum(at, len(hits))].mean())
