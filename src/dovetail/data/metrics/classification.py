"""Accuracy, top-k, hit rate, F1 and area under the ROC curve."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array
from dovetail.data.metrics.base import MeanMetric, SumMetric, as_column, choice, class_labels
from dovetail.data.metrics.correlation import PairMetric


def class_scores(y: Array, metric: str) -> Array:
    """Class scores ``[B, C]`` from an output, trailing axes of 1 dropped (``[B, C, 1, 1]``).

    Raises:
        DataError: an output of another rank.
    """
    while y.ndim > 2 and y.shape[-1] == 1:
        y = y[..., 0]
    if y.ndim != 2:
        raise DataError(f"takes class scores [N, C]; the output is {list(y.shape)}", where=f"metric {metric}",
                        hint="choose another output with `metric: {name: …, output: NAME}`")  # fmt: skip
    return y


def predicted_classes(y: Array, threshold: float, metric: str) -> tuple[Array, int]:
    """Class numbers ``[B]`` and the number of classes.

    Scores ``[B, C]`` go by argmax; one score per sample is class 1 above the threshold; integers are class numbers already.
    """
    if y.size == len(y):
        flat = y.reshape(len(y))
        if flat.dtype.kind in "iu":
            return flat.astype(np.int64), 2**31
        return (flat > threshold).astype(np.int64), 2
    scores = class_scores(y, metric)
    return scores.argmax(axis=1), scores.shape[1]


class Accuracy(MeanMetric):
    """Share of samples whose highest score is the label's; ``threshold`` decides models with one score."""

    name = "accuracy"
    binary = True

    def __init__(self, *, output: str = "", threshold: float = 0.5) -> None:
        super().__init__(output=output)
        self.threshold = threshold

    def sample_rows(self, y: Array, labels: Array) -> Array:
        """1 where right."""
        predicted, n_classes = predicted_classes(y, self.threshold, self.name)
        truth = class_labels(_one_per_sample(labels, self.name), n_classes, self.name)
        return as_column(predicted == truth)


class TopK(MeanMetric):
    """Share of samples whose label is among the ``k`` highest scores."""

    binary = True

    def __init__(self, *, k: int = 5, output: str = "") -> None:
        super().__init__(output=output)
        self.k, self.name = k, f"top{k}"

    def sample_rows(self, y: Array, labels: Array) -> Array:
        """1 where fewer than ``k`` scores are above the label's."""
        scores = class_scores(y, self.name)
        truth = class_labels(_one_per_sample(labels, self.name), scores.shape[1], self.name)
        of_label = np.take_along_axis(scores, truth[:, None], axis=1)
        return as_column((scores > of_label).sum(axis=1) < self.k)


class HitRate(MeanMetric):
    """Share of samples with any of their relevant items among the ``k`` highest scores; negative items are padding."""

    binary = True

    def __init__(self, *, k: int = 10, output: str = "") -> None:
        super().__init__(output=output)
        self.k, self.name = k, f"hit-rate@{k}"

    def sample_rows(self, y: Array, labels: Array) -> Array:
        """1 where hit."""
        scores = class_scores(y, self.name)
        k = min(self.k, scores.shape[1])
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        hits = []
        for items, relevant in zip(best, labels, strict=True):
            wanted = np.atleast_1d(relevant)
            wanted = class_labels(wanted[wanted >= 0] if wanted.dtype.kind in "if" else wanted, scores.shape[1], self.name)
            hits.append(np.isin(wanted, items).any())
        return as_column(np.array(hits))


class F1(SumMetric):
    """F1 score over all samples: ``macro`` averages the classes that occur, ``binary`` is that of class 1.

    Rows hold true positives, false positives and false negatives of every class. A class that is neither labelled nor predicted
    does not count; ``binary`` without a positive is undefined.
    """

    name = "f1"
    undefined = "no sample is labelled or predicted positive"

    def __init__(self, *, average: str = "macro", output: str = "", threshold: float = 0.5) -> None:
        super().__init__(output=output)
        self.average = choice(average, ("macro", "binary"), "average", self.name)
        self.threshold = threshold

    def sample_rows(self, y: Array, labels: Array) -> Array:
        """``[B, 3 C]``."""
        predicted, n_classes = predicted_classes(y, self.threshold, self.name)
        if n_classes == 2**31:
            raise DataError("takes scores, not class numbers", where="metric f1")
        truth = class_labels(_one_per_sample(labels, self.name), n_classes, self.name)
        is_predicted, is_true = np.eye(n_classes, dtype=bool)[predicted], np.eye(n_classes, dtype=bool)[truth]
        counts = [is_predicted & is_true, is_predicted & ~is_true, ~is_predicted & is_true]
        return np.concatenate(counts, axis=1).astype(np.float64)

    def finish(self, totals: Array) -> float:
        """``2 tp / (2 tp + fp + fn)``."""
        tp, fp, fn = totals.reshape(3, -1)
        support = 2 * tp + fp + fn
        if self.average == "binary":
            if len(tp) != 2:
                raise DataError(f"binary F1 takes two classes; the model has {len(tp)}", where="metric f1", hint="use f1:macro")
            return float(2 * tp[1] / support[1]) if support[1] else math.nan
        seen = support > 0
        return float((2 * tp[seen] / support[seen]).mean()) if seen.any() else math.nan


class Auc(PairMetric):
    """Area under the ROC curve by ranks, ties counted half (Hanley & McNeil 1982).

    The score is the only column, or the second of two columns less the first.
    """

    name = "auc"
    default_max_drop = "1pp"
    undefined = "both classes, 0 and 1, must occur"

    def prediction(self, y: Array) -> Array:
        """Score of class 1, ``[B]``."""
        flat = y.reshape(len(y), -1)
        if flat.shape[1] == 2:
            return (flat[:, 1] - flat[:, 0]).astype(np.float64)
        return super().prediction(y)

    def truth(self, labels: Array) -> Array:
        """0 or 1."""
        return class_labels(labels, 2, self.name).astype(np.float64)

    def statistic(self, predicted: Array, truth: Array) -> float:
        """The Mann–Whitney statistic as a share of all pairs."""
        from scipy.stats import rankdata

        n_positive = int(truth.sum())
        n_negative = len(truth) - n_positive
        if not n_positive or not n_negative:
            return math.nan
        ranks: Any = rankdata(predicted)
        return float((ranks[truth == 1].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def _one_per_sample(labels: Array, metric: str) -> Array:
    if labels.dtype == object or labels.size != len(labels):
        shape = "of several lengths" if labels.dtype == object else f"of shape {list(labels.shape[1:])}"
        raise DataError(f"takes one class per sample; labels are {shape}", where=f"metric {metric}")
    return labels.reshape(len(labels))
