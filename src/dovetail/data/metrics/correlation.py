"""Spearman and Pearson correlation of a predicted number with the label; the number may be the cosine of a pair's outputs."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array, Outputs
from dovetail.data.metrics.base import Binding, SampleMetric, choice


class PairMetric(SampleMetric):
    """A statistic of (prediction, label) pairs. Rows hold one pair, or all pairs of a unit after one another."""

    def prediction(self, y: Array) -> Array:
        """One number per sample, ``[B]``.

        Raises:
            DataError: the output holds more than one.
        """
        if y.size != len(y):
            raise DataError(f"takes one number per sample; the output is {list(y.shape)}", where=f"metric {self.name}")
        return y.reshape(len(y)).astype(np.float64)

    def truth(self, labels: Array) -> Array:
        """Labels as numbers, ``[B]``."""
        if labels.dtype.kind not in "iuf" or labels.size != len(labels):
            raise DataError("takes one number per sample as label", where=f"metric {self.name}")
        return labels.reshape(len(labels)).astype(np.float64)

    @abstractmethod
    def statistic(self, predicted: Array, truth: Array) -> float:
        """The value over all pairs; NaN where it is undefined."""

    def sample_rows(self, y: Array, labels: Array) -> Array:
        """``[B, 2]``: prediction, label."""
        return np.stack([self.prediction(y), self.truth(labels)], axis=1)

    def join(self, rows: Array) -> Array:
        """All pairs of the unit in one row."""
        return rows.ravel()

    def value(self, rows: Array) -> float:
        """The statistic over the pairs of all rows."""
        pairs = rows.reshape(-1, 2)
        pairs = pairs[~np.isnan(pairs[:, 0])]
        return self.statistic(pairs[:, 0], pairs[:, 1])


class _Correlation(PairMetric):
    default_max_drop = "1%"
    undefined = "predictions and labels must vary"

    def __init__(self, *, prediction: str = "value", output: str = "") -> None:
        super().__init__(output=output)
        self.cosine = choice(prediction, ("value", "cosine"), "prediction", self.name) == "cosine"

    def bind(self, binding: Binding) -> Self:
        """Checks that units are pairs where the cosine of a pair is judged."""
        sizes = {len(unit) for unit in binding.units}
        if self.cosine and sizes != {2}:
            raise DataError(
                f"the cosine is that of a pair's two outputs, but units hold {' or '.join(map(str, sorted(sizes)))} samples",
                where=f"metric {self.name}:cosine",
                hint="give both samples of a pair the same group",
            )
        return super().bind(binding)

    def row(self, outputs: Sequence[Outputs], labels: Sequence[Any], reference: Sequence[Outputs] | None = None) -> Array:
        """``[cosine, label]`` of a pair, or the pairs of (output, label)."""
        if not self.cosine:
            return super().row(outputs, labels, reference)
        a, b = (np.asarray(y[self._at], dtype=np.float64) for y in outputs)
        if a.size != a.shape[-1] or a.shape != b.shape:
            raise DataError(
                f"takes one vector per sample; the outputs are {list(a.shape)} and {list(b.shape)}",
                where=f"metric {self.name}:cosine",
            )
        if labels[0] != labels[1]:
            raise DataError(
                f"the two samples of a pair have different labels: {labels[0]}, {labels[1]}", where=f"metric {self.name}"
            )
        norms = float(np.linalg.norm(a) * np.linalg.norm(b))
        cosine = float(a.ravel() @ b.ravel()) / norms if norms else 0.0
        return np.array([cosine, self.truth(np.asarray([labels[0]]))[0]])


class Pearson(_Correlation):
    """Linear correlation."""

    name = "pearson"

    def statistic(self, predicted: Array, truth: Array) -> float:
        """NaN where a side is constant."""
        return _pearson(predicted, truth)


class Spearman(_Correlation):
    """Correlation of ranks, ties at their mean rank."""

    name = "spearman"

    def statistic(self, predicted: Array, truth: Array) -> float:
        """NaN where a side is constant."""
        from scipy.stats import rankdata

        return _pearson(rankdata(predicted), rankdata(truth))


def _pearson(a: Array, b: Array) -> float:
    if len(a) < 2:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else math.nan
