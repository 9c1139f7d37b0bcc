"""Agreement with the original, for inputs without labels.

Two kinds. ``class``: the highest score is the same class. ``value``: the output differs by at most a tenth of its own spread,
``‖y − ŷ‖ / ‖y − ȳ‖ ≤ 0.1``, over all samples and elements of an independent unit together, so that a recurrent model is
judged by its whole sequence.

ȳ is the mean over the elements of the unit's own reference output: a row then depends on its unit alone, which resampling
needs. An output of fewer than 8 numbers per unit has no spread worth the name; there ȳ is the mean over all units of the split,
per element, and ‖y − ȳ‖ its root mean square over them. Where the original's output is constant, equality up to 1e-6 agrees.

The kind is ``class`` for a single float output ``[N, C]`` with C from 2 to 100,000, unless it is a list (N is neither 1 nor the
first axis of an input), a reconstruction (C equals the last axis of an input) or an embedding (rows of length 1 with negative
numbers); ``value`` otherwise. The user may force either.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array, Outputs
from dovetail.data.metrics.base import Binding, RowMetric, choice, mean_of_rows

TOLERANCE = 0.1
_MOST_CLASSES = 100_000
_FEW_ELEMENTS = 8
_PEEK = 32


class Agreement(RowMetric):
    """Share of units on which the candidate agrees with the original. Rows: 0 or 1, or ``[sum, count]`` by class in groups."""

    name = "agreement"
    binary = True
    needs_reference = True
    needs_labels = False
    default_max_drop = "2pp"

    def __init__(self, *, kind: str = "auto", output: str = "") -> None:
        self.kind = choice(kind, ("auto", "class", "value"), "kind", self.name)
        self.output = output
        self._judged: tuple[int, ...] = (0,)
        self._spread: dict[int, float] = {}

    def bind(self, binding: Binding) -> Self:
        """Settles the kind, and the spread of small outputs over the whole split.

        Raises:
            DataError: the original's outputs are not at hand.
        """
        if binding.reference is None:
            raise DataError("needs the original's outputs of this split", where="metric agreement")
        bound = copy.copy(self)
        bound._judged = (binding.position(self.output, self.name),) if self.output else binding.judged
        if self.kind == "auto":
            bound.kind = "class" if _looks_like_classes(binding, bound._judged) else "value"
        if bound.kind == "value":
            bound._spread = {at: s for at in bound._judged if (s := _small_spread(binding, at)) is not None}
        return bound

    def rows_batch(self, outputs: Outputs, labels: Array | None, reference: Outputs | None = None) -> Array:
        """``[B, 1]``."""
        assert reference is not None
        if self.kind == "class":
            return self._same_class(outputs, reference)[:, None]
        size = len(outputs[self._judged[0]])
        rows = [self.row([_one(outputs, i)], [], [_one(reference, i)]) for i in range(size)]
        return np.stack(rows)

    def row_alone(self, outputs: Outputs, labels: Array | None, reference: Outputs | None = None) -> Array:
        """All of the outputs count, whatever their first axis is: detections, frames, a fixed batch."""
        assert reference is not None
        if self.kind == "value":
            return self.row([outputs], [], [reference])
        at = self._judged[0]
        if outputs[at].shape != reference[at].shape:
            return np.zeros(1)
        share: Array = self._same_class(outputs, reference).mean(keepdims=True)
        return share

    def row(self, outputs: Sequence[Outputs], labels: Sequence[Any], reference: Sequence[Outputs] | None = None) -> Array:
        """1 where all judged outputs agree; by class, the number of samples that do and the number of samples."""
        assert reference is not None
        if self.kind == "class":
            same = [self._same_class(a, b) for a, b in zip(outputs, reference, strict=True)]
            joined = np.concatenate(same)
            return np.array([joined.sum(), len(joined)])
        agree = all(self._close([o[at] for o in outputs], [r[at] for r in reference], at) for at in self._judged)
        return np.array([float(agree)])

    def value(self, rows: Array) -> float:
        """The share."""
        return mean_of_rows(rows)

    def _same_class(self, outputs: Outputs, reference: Outputs) -> Array:
        at = self._judged[0]
        if outputs[at].ndim < 2:
            raise DataError(f"takes class scores; the output is {list(outputs[at].shape)}", where="metric agreement:class")
        axis = -1 if outputs[at].ndim == 2 else 1
        same = outputs[at].argmax(axis=axis) == reference[at].argmax(axis=axis)
        share: Array = same.reshape(len(same), -1).mean(axis=1)
        return share

    def _close(self, outputs: Sequence[Array], reference: Sequence[Array], at: int) -> bool:
        if any(a.shape != b.shape for a, b in zip(outputs, reference, strict=True)):
            return False
        y = np.concatenate([r.ravel() for r in reference]).astype(np.float64)
        y_hat = np.concatenate([o.ravel() for o in outputs]).astype(np.float64)
        finite = np.isfinite(y)
        if not np.array_equal(y[~finite], y_hat[~finite], equal_nan=True):
            return False
        y, y_hat = y[finite], y_hat[finite]
        error = float(np.linalg.norm(y - y_hat))
        spread = self._spread[at] if at in self._spread else float(np.linalg.norm(y - y.mean())) if y.size else 0.0
        return error <= max(TOLERANCE * spread, 1e-6 * float(np.linalg.norm(y)))


def _one(outputs: Outputs, index: int) -> list[Array]:
    return [y[index : index + 1] for y in outputs]


def _looks_like_classes(binding: Binding, judged: tuple[int, ...]) -> bool:
    assert binding.reference is not None
    if len(judged) != 1 or not len(binding.reference):
        return False
    at = judged[0]
    rows = [binding.reference.get(i)[at] for i in range(min(_PEEK, len(binding.reference)))]
    if any(y.dtype.kind != "f" or y.ndim != 2 for y in rows) or len({y.shape[1] for y in rows}) != 1:
        return False
    samples = {1, *(spec.shape[0] for spec in binding.inputs if spec.shape)}
    if any(len(y) not in samples for y in rows):
        return False  # detections, or other lists
    n_classes = rows[0].shape[1]
    reconstruction = any(spec.shape and spec.shape[-1] == n_classes for spec in binding.inputs)
    y = np.concatenate(rows)
    embedding = bool(np.allclose(np.linalg.norm(y, axis=1), 1.0, atol=1e-3)) and bool((y < 0).any())
    return 2 <= n_classes <= _MOST_CLASSES and not reconstruction and not embedding


def _small_spread(binding: Binding, at: int) -> float | None:
    """Root-mean-square spread over units of an output of few numbers; ``None`` where units have many or unequal ones."""
    assert binding.reference is not None
    units: list[Array] = []
    for unit in binding.units:
        if len(unit) >= _FEW_ELEMENTS:
            return None
        y = np.concatenate([binding.reference.get(int(i))[at].ravel() for i in unit]).astype(np.float64)
        if y.size >= _FEW_ELEMENTS or (units and y.size != units[0].size) or not np.isfinite(y).all():
            return None
        units.append(y)
    stacked = np.stack(units)
    return float(np.sqrt(((stacked - stacked.mean(axis=0)) ** 2).sum(axis=1).mean()))
