"""What every metric is: outputs of one independent unit become a row, and rows become the metric's value.

Rows make resampling possible: a bootstrap draws units and calls ``value`` on their rows, whatever the metric.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array, Outputs, TensorSpec


class StoredReference(Protocol):
    """The original's outputs of a whole split, by sample."""

    def __len__(self) -> int: ...

    def get(self, index: int) -> Outputs:
        """Outputs of one sample, in the session's order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What a metric learns of the model before it judges outputs.

    Attributes:
        inputs: the session's inputs.
        outputs: the session's outputs, in order.
        judged: positions of the outputs that are not recurrent state.
        units: sample indices of every independent unit of the split.
        reference: the original's outputs, for metrics that compare with it.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    judged: tuple[int, ...]
    units: Sequence[Array]
    reference: StoredReference | None = None

    @property
    def grouped(self) -> bool:
        """Whether any unit holds several samples, so that all are judged as groups."""
        return any(len(unit) != 1 for unit in self.units)

    def position(self, name: str, metric: str) -> int:
        """Where an output lies; the first judged one when unnamed.

        Raises:
            DataError: the model has no such output.
        """
        names = [spec.name for spec in self.outputs]
        if not name:
            return self.judged[0]
        if name not in names:
            raise DataError(f"the model has no output {name!r} (it has {', '.join(names)})", where=f"metric {metric}")
        return names.index(name)


class RowMetric(ABC):
    """A metric; implements :class:`dovetail.core.protocols.Metric`.

    Attributes:
        name: registry name.
        higher_is_better: direction.
        binary: rows of one column hold 0 or 1. Units of several samples have two columns (sum, count) and are not binary.
        needs_reference: compares with the original's outputs.
        needs_labels: compares with labels.
        default_max_drop: the permitted drop when the user names none.
        undefined: when ``value`` is NaN, in words.
    """

    name: str = ""
    higher_is_better: bool = True
    binary: bool = False
    needs_reference: bool = False
    needs_labels: bool = True
    default_max_drop: str = "1pp"
    undefined: str = "there is no unit to judge"

    def bind(self, binding: Binding) -> Self:
        """A copy that knows the model; rows come from such a copy, ``value`` works on any.

        Raises:
            DataError: the metric does not suit the model's outputs.
        """
        del binding
        return copy.copy(self)

    @abstractmethod
    def rows_batch(self, outputs: Outputs, labels: Array | None, reference: Outputs | None = None) -> Array:
        """Rows ``[B, k]`` of ``B`` units of one sample each.

        Args:
            outputs: the session's outputs with the batch axis ``B``.
            labels: ``[B, ...]``, an object array where label shapes differ.
            reference: the original's outputs of the same samples.

        Raises:
            DataError: outputs or labels have a shape or range that the metric cannot judge.
        """

    def row_alone(self, outputs: Outputs, labels: Array | None, reference: Outputs | None = None) -> Array:
        """Row ``[k]`` of a unit of one sample that ran by itself, whose outputs need not have an axis over samples.

        Args:
            outputs: the session's outputs, whole.
            labels: ``[1, ...]``.
            reference: the original's outputs of the sample.

        Raises:
            DataError: as for :meth:`rows_batch`.
        """
        row: Array = self.rows_batch(outputs, labels, reference)[0]
        return row

    @abstractmethod
    def row(self, outputs: Sequence[Outputs], labels: Sequence[Any], reference: Sequence[Outputs] | None = None) -> Array:
        """The row ``[k]`` of one unit, given each of its samples in order; ``k`` may differ from unit to unit.

        Raises:
            DataError: as for :meth:`rows_batch`.
        """

    @abstractmethod
    def value(self, rows: Array) -> float:
        """The metric over rows ``[n, k]``; NaN where it is undefined. Rows shorter than ``k`` are filled up with NaN."""


class SampleMetric(RowMetric):
    """Judges one output, sample by sample; subclasses say how rows of a unit's samples join."""

    _at: int = 0

    def __init__(self, *, output: str = "") -> None:
        self.output = output

    def bind(self, binding: Binding) -> Self:
        """A copy that knows which output to judge."""
        bound = copy.copy(self)
        bound._at = binding.position(self.output, self.name)
        return bound

    @abstractmethod
    def sample_rows(self, y: Array, labels: Array) -> Array:
        """Rows ``[B, k]`` from one output ``[B, ...]`` and labels ``[B, ...]``."""

    @abstractmethod
    def join(self, rows: Array) -> Array:
        """The row of a unit from the rows of its samples."""

    def rows_batch(self, outputs: Outputs, labels: Array | None, reference: Outputs | None = None) -> Array:
        """Rows of units of one sample."""
        assert labels is not None
        y = outputs[self._at]
        if not y.ndim or len(y) != len(labels):
            raise DataError(
                f"output of shape {list(y.shape)} has no axis over its {len(labels)} samples", where=f"metric {self.name}"
            )
        return self.sample_rows(y, labels)

    def row(self, outputs: Sequence[Outputs], labels: Sequence[Any], reference: Sequence[Outputs] | None = None) -> Array:
        """Judges each sample, then joins."""
        rows = [self.rows_batch(y, stack_labels([label])) for y, label in zip(outputs, labels, strict=True)]
        return self.join(np.concatenate(rows))


class MeanMetric(SampleMetric):
    """A function of the mean score over samples. Rows: ``[score]``, or ``[sum, count]`` for units of several samples."""

    def finish(self, mean: float) -> float:
        """Turns the mean score into the value."""
        return mean

    def join(self, rows: Array) -> Array:
        """Sum and count, so that each sample weighs the same."""
        return np.array([rows.sum(), len(rows)])

    def value(self, rows: Array) -> float:
        """The finished mean."""
        return self.finish(mean_of_rows(rows))


def mean_of_rows(rows: Array) -> float:
    """Mean score of rows ``[score]`` or ``[sum, count]``; NaN without rows."""
    if not len(rows):
        return math.nan
    return float(rows[:, 0].mean() if rows.shape[1] == 1 else rows[:, 0].sum() / rows[:, 1].sum())


class SumMetric(SampleMetric):
    """A function of summed counts, such as intersections and unions per class."""

    @abstractmethod
    def finish(self, totals: Array) -> float:
        """The value from the totals ``[k]``; NaN where it is undefined."""

    def join(self, rows: Array) -> Array:
        """Counts add up."""
        total: Array = rows.sum(axis=0)
        return total

    def value(self, rows: Array) -> float:
        """The finished totals."""
        return self.finish(rows.sum(axis=0)) if len(rows) else math.nan


def pad_rows(rows: Sequence[Array]) -> Array:
    """Rows ``[n, k]`` of unequal lengths, filled up with NaN."""
    width = max((len(row) for row in rows), default=0)
    padded = np.full((len(rows), width), np.nan)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded


def stack_labels(labels: Sequence[Any]) -> Array:
    """Labels ``[B, ...]``; an object array where their shapes differ."""
    arrays = [np.asarray(label) for label in labels]
    if len({a.shape for a in arrays}) <= 1:
        return np.stack(arrays)
    ragged = np.empty(len(arrays), dtype=object)
    ragged[:] = arrays
    return ragged


def as_column(scores: Array) -> Array:
    """Scores ``[B]`` as float64 rows ``[B, 1]``."""
    return np.asarray(scores, dtype=np.float64)[:, None]


def class_labels(labels: Array, n_classes: int, metric: str) -> Array:
    """Labels as int64 class numbers.

    Raises:
        DataError: text, fractions, or numbers outside ``0 .. n_classes - 1``.
    """
    where = f"metric {metric}"
    if labels.dtype.kind not in "iuf":
        raise DataError(
            f"labels are text ({labels.ravel()[0]!r}); the model's outputs are numbered",
            where=where,
            hint="name the classes in the order of the model's outputs, in fit.yaml: `labels: {from: KEY, classes: [...]}`",
        )
    if (labels != np.trunc(labels)).any():
        raise DataError(f"a class is a whole number; a label is {labels[labels != np.trunc(labels)].ravel()[0]}", where=where)
    outside = labels[(labels < 0) | (labels >= n_classes)]
    if outside.size:
        raise DataError(
            f"label {int(outside.ravel()[0])} lies outside the model's {n_classes} classes (0..{n_classes - 1})",
            where=where,
            hint="classes count from 0" if int(outside.ravel()[0]) == n_classes else None,
        )
    return labels.astype(np.int64)


def choice(value: str, choices: Mapping[str, Any] | Sequence[str], what: str, metric: str) -> str:
    """A parameter that must be one of a few words.

    Raises:
        DataError: it is not.
    """
    if value not in choices:
        raise DataError(f"{what} {value!r} is unknown", where=f"metric {metric}", hint=f"one of: {', '.join(choices)}")
    return value
