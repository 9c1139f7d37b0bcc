"""Errors of predicted values: RMSE, MAE and PSNR."""

from __future__ import annotations

import math

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array
from dovetail.data.metrics.base import MeanMetric, as_column

_MOST_DB = 100.0


def _errors(y: Array, labels: Array, metric: str) -> Array:
    """``[B, elements]`` differences."""
    if labels.dtype.kind not in "iuf" or y.size != labels.size:
        shape = "text or of several lengths" if labels.dtype.kind not in "iuf" else str(list(labels.shape))
        raise DataError(f"output {list(y.shape)} and labels {shape} differ in shape", where=f"metric {metric}")
    errors: Array = y.astype(np.float64) - labels.reshape(y.shape)
    return errors.reshape(len(y), -1)


class Rmse(MeanMetric):
    """Root of the mean squared error."""

    name = "rmse"
    higher_is_better = False
    default_max_drop = "1%"

    def sample_rows(self, y: Array, labels: Array) -> Array:
        """Mean squared error of each sample."""
        return as_column((_errors(y, labels, self.name) ** 2).mean(axis=1))

    def finish(self, mean: float) -> float:
        """The root."""
        return math.sqrt(mean)


class Mae(MeanMetric):
    """Mean absolute error."""

    name = "mae"
    higher_is_better = False
    default_max_drop = "1%"

    def sample_rows(self, y: Array, labels: Array) -> Array:
        """Mean absolute error of each sample."""
        return as_column(np.abs(_errors(y, labels, self.name)).mean(axis=1))


class Psnr(MeanMetric):
    """Peak signal-to-noise ratio in dB, the mean over images; ``data_range`` is the peak, and 100 dB the most an image gets."""

    name = "psnr"
    default_max_drop = "1%"

    def __init__(self, *, data_range: float = 1.0, output: str = "") -> None:
        super().__init__(output=output)
        self.data_range = data_range

    def sample_rows(self, y: Array, labels: Array) -> Array:
        """``10 log10(range² / mse)`` of each image."""
        mse = (_errors(y, labels, self.name) ** 2).mean(axis=1)
        least = self.data_range**2 / 10 ** (_MOST_DB / 10)
        return as_column(10 * np.log10(self.data_range**2 / np.maximum(mse, least)))
