"""What a set of published rows offers to ``validate.py``."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Row = Mapping[str, Any]

FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Of some rows: the value and the ends of its interval, each ``[n]``, in the unit of :attr:`Table.measured`."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A promise about the error on rows that were not fitted.

    Attributes:
        split: key of :meth:`Table.groups`.
        statistic: ``mean`` or ``median`` of the absolute relative error.
        limit: as a share; ``0.05`` is 5 %.
        part: key of :meth:`Table.parts`; empty for all rows.
    """

    split: str
    statistic: str
    limit: float
    part: str = ""


class Table(Protocol):
    """One set of published rows with the model that predicts them. A module-level ``TABLE`` of each file here is one.

    Attributes:
        name: of the set and of its parameter file.
        source: where the rows come from.
        gates: what is promised.
    """

    name: str
    source: str
    gates: Sequence[Gate]

    def read(self, folder: Path) -> Sequence[Row]:
        """Rows that can be predicted; what is left out and why is in the docstring."""
        ...

    def measured(self, rows: Sequence[Row]) -> Floats:
        """``[n]`` what was published, all in one unit."""
        ...

    def groups(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Hashable]]:
        """Split → group of each row. A group is fitted or predicted as a whole: ``unseen models``, ``unseen devices``."""
        ...

    def parts(self, rows: Sequence[Row]) -> Mapping[str, NDArray[np.bool_]]:
        """Name → rows that are reported for themselves; may be empty."""
        ...

    def devices(self, rows: Sequence[Row]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        """Device of each row, and the work it did: within one work, devices are ranked against each other."""
        ...

    def fit(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Parameters as JSON values. Intervals must come from rows that the point estimates were not fitted to."""
        ...

    def predict(self, parameters: Mapping[str, Any], rows: Sequence[Row]) -> Predicted:
        """What the product says, through the very functions that the product calls; NaN where it says nothing."""
        ...

    def baselines(self, fitted: Sequence[Row], rows: Sequence[Row]) -> Mapping[str, Floats]:
        """Name → what a trivial model fitted to ``fitted`` says of ``rows``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """Errors of one split.

    Attributes:
        n: rows.
        median: of the absolute relative error; ``mean`` and ``p90`` likewise.
        coverage: share of rows inside their intervals.
        baselines: the same median and mean of each trivial model.
    """

    n: int
    median: float
    mean: float
    p90: float
    coverage: float
    baselines: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a file with a header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def folds(groups: Sequence[Hashable], n: int = FOLDS) -> NDArray[np.intp]:
    """Fold of each row: groups are dealt out in sorted order, so that equal data give equal folds."""
    number = {group: index % n for index, group in enumerate(sorted(set(groups), key=str))}
    return np.array([number[group] for group in groups], dtype=np.intp)


def absolute_errors(predicted: Floats, measured: Floats) -> Floats:
    """``|predicted − measured| / measured`` of each row."""
    return np.abs(predicted - measured) / measured


def judge(predicted: Predicted, measured: Floats, baselines: Mapping[str, Floats]) -> Error:
    """Errors and coverage of some rows."""
    errors = absolute_errors(predicted.value, measured)
    plain = {name: absolute_errors(values, measured) for name, values in baselines.items()}
    return Error(
        n=len(measured),
        median=float(np.median(errors)),
        mean=float(errors.mean()),
        p90=float(np.quantile(errors, 0.9)),
        coverage=float(((predicted.low <= measured) & (measured <= predicted.high)).mean()),
        baselines={name: (float(np.median(found)), float(found.mean())) for name, found in plain.items()},
    )
