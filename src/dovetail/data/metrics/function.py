"""A metric that the user wrote."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array, Outputs
from dovetail.data.functions import load_function
from dovetail.data.metrics.base import Binding, RowMetric


class FunctionMetric(RowMetric):
    """Calls ``f(outputs, label)`` per independent unit; it returns a number or a row of numbers.

    ``outputs`` is a dict of output name → array with its batch axis. Where any unit holds several samples, every unit passes a
    list of such dicts and a list of labels. Two attributes of the function, or else of its module, may say more:
    ``higher_is_better`` (default true), and ``aggregate(rows) -> float`` over the rows ``[n, k]`` (default: the mean of the
    only column).
    """

    needs_labels = False
    default_max_drop = "1%"
    undefined = "the function's aggregate is NaN"

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.name, self._function = name, function
        module = sys.modules.get(getattr(function, "__module__", ""), None)
        # A file's module is not registered in sys.modules; its globals are the function's own.
        around = {**vars(module)} if module else dict(getattr(function, "__globals__", {}))

        def attribute(key: str, default: Any) -> Any:
            return getattr(function, key, around.get(key, default))

        self.higher_is_better = bool(attribute("higher_is_better", True))
        self._aggregate: Callable[[Array], float] | None = attribute("aggregate", None)
        self._names: tuple[str, ...] = ()
        self._count = 0

    @classmethod
    def from_name(cls, text: str) -> FunctionMetric:
        """Loads ``module:function`` or ``file.py:function``.

        Raises:
            InputError: it cannot be imported.
        """
        return cls(load_function(text, what="metric"), text)

    def bind(self, binding: Binding) -> Self:
        """A copy that knows the names of outputs."""
        bound = copy.copy(self)
        bound._names = tuple(spec.name for spec in binding.outputs)
        bound._count = 0
        return bound

    def rows_batch(self, outputs: Outputs, labels: Array | None, reference: Outputs | None = None) -> Array:
        """One call per sample."""
        size = len(outputs[0])
        rows = []
        for i in range(size):
            named = {name: y[i : i + 1] for name, y in zip(self._names, outputs, strict=True)}
            rows.append(self._called(named, None if labels is None else labels[i]))
        return np.stack(rows)

    def row_alone(self, outputs: Outputs, labels: Array | None, reference: Outputs | None = None) -> Array:
        """One call with the outputs as the model gives them."""
        return self._called(dict(zip(self._names, outputs, strict=True)), None if labels is None else labels[0])

    def row(self, outputs: Sequence[Outputs], labels: Sequence[Any], reference: Sequence[Outputs] | None = None) -> Array:
        """One call for the group."""
        return self._called([dict(zip(self._names, y, strict=True)) for y in outputs], list(labels))

    def _called(self, outputs: Any, labels: Any) -> Array:
        where, unit = f"metric {self.name}", self._count
        self._count += 1
        try:
            returned = self._function(outputs, labels)
        except Exception as error:
            raise DataError(f"it fails on unit {unit}: {type(error).__name__}: {error}", where=where) from error
        try:
            row = np.atleast_1d(np.asarray(returned, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise DataError(
                f"it returns {returned!r:.60} on unit {unit}", where=where, hint="return a number or a list of numbers"
            ) from error
        if row.ndim != 1 or not row.size or np.isnan(row).any():
            raise DataError(
                f"it returns {returned!r:.60} on unit {unit}", where=where, hint="return finite numbers, at least one"
            )
        return row

    def value(self, rows: Array) -> float:
        """The user's aggregate, or the mean.

        Raises:
            DataError: it raises, or rows of several numbers come without an aggregate.
        """
        if self._aggregate is None:
            if rows.shape[1] != 1:
                raise DataError(
                    f"it returns rows of {rows.shape[1]} numbers, but nothing says how they become a value",
                    where=f"metric {self.name}",
                    hint="define `aggregate(rows) -> float` beside it",
                )
            return float(rows.mean()) if len(rows) else math.nan
        try:
            return float(self._aggregate(rows))
        except Exception as error:
            raise DataError(f"its aggregate fails: {type(error).__name__}: {error}", where=f"metric {self.name}") from error
