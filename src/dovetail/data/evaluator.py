"""Runs a session over a split and reduces it to one row per independent unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.core.errors import DataError, ModelError
from dovetail.core.protocols import Array, Dataset, Session
from dovetail.data.metrics.base import Binding, RowMetric, pad_rows
from dovetail.data.outputs import StoredOutputs, write_outputs
from dovetail.data.runner import Chunk, Runner
from dovetail.data.split import units_of

Progress = Callable[[int, int], None]


class Evaluator:
    """Judges sessions by one metric.

    Args:
        metric: what to judge by.
        state: recurrent input → the output that feeds it at the next sample of the unit. It starts at zero with every unit.
        batch: samples per call, where the model takes several and treats each as if it came alone.
    """

    def __init__(self, metric: RowMetric, *, state: Mapping[str, str] | None = None, batch: int = 64) -> None:
        self.metric = metric
        self._state = dict(state or {})
        self._batch = batch

    def rows(
        self,
        session: Session,
        dataset: Dataset,
        units: Sequence[int] | None = None,
        reference: StoredOutputs | None = None,
        progress: Progress | None = None,
    ) -> Array:
        """Rows ``[n_units, k]`` for the metric's ``value``; rows of unequal length are filled up with NaN.

        Args:
            session: the model to judge.
            dataset: a split.
            units: positions in :func:`dovetail.data.split.units_of` of the split's groups; all when ``None``.
            reference: the original's outputs on this split (:meth:`reference_outputs`), where the metric compares with them;
                also tells which non-finite outputs are the original's own.
            progress: called with (units done, units in all).

        Raises:
            DataError: labels or outputs do not suit the metric.
            ModelError: an output is NaN, or infinite where the reference is not.
        """
        labels = dataset.labels
        if self.metric.needs_labels and labels is None:
            raise DataError(
                f"{self.metric.name} needs labels; the {dataset.name} split has none",
                where="metric",
                hint="name their key with `labels:`, or judge by `agreement` with the original",
            )
        every = units_of(np.asarray(dataset.groups))
        chosen = every if units is None else [every[u] for u in units]
        judged = _judged_outputs(session, self._state)
        bound = self.metric.bind(
            Binding(inputs=session.inputs, outputs=session.outputs, judged=judged, units=every, reference=reference)
        )
        grouped = any(len(unit) != 1 for unit in every)
        rows: list[Array] = []
        pending: list[Chunk] = []
        for chunk in Runner(session, dataset, self._state, self._batch).chunks(chosen):
            _check_finite(chunk, session, judged, reference)
            if not grouped:
                rows.extend(_sample_rows(bound, chunk, labels, reference))
            else:
                pending.append(chunk)
                if chunk.ends_unit:
                    rows.append(_unit_row(bound, pending, labels, reference))
                    pending = []
            if progress is not None:
                progress(len(rows), len(chosen))
        return pad_rows(rows)

    def value(self, rows: Array) -> float:
        """The metric over rows.

        Raises:
            DataError: it is undefined on these rows; says why.
        """
        value = self.metric.value(rows)
        if np.isnan(value):
            raise DataError(f"{self.metric.name} is undefined: {self.metric.undefined}", where="metric")
        return value

    def reference_outputs(
        self, session: Session, dataset: Dataset, folder: Path, progress: Progress | None = None
    ) -> StoredOutputs:
        """Stores the original's outputs of a whole split.

        Raises:
            StorageError: ``folder`` cannot be written.
        """
        units = units_of(np.asarray(dataset.groups))

        def stream() -> Iterator[tuple[int, Sequence[Array]]]:
            done = 0
            for chunk in Runner(session, dataset, self._state, self._batch).chunks(units):
                for index, outputs in zip(chunk.indices, chunk.per_sample(), strict=True):
                    yield int(index), outputs
                done += len(chunk.indices)
                if progress is not None:
                    progress(done, len(dataset))

        return write_outputs(folder, stream(), [spec.name for spec in session.outputs], len(dataset))


def _judged_outputs(session: Session, state: Mapping[str, str]) -> tuple[int, ...]:
    return tuple(i for i, spec in enumerate(session.outputs) if spec.name not in state.values())


def _sample_rows(metric: RowMetric, chunk: Chunk, labels: Array | None, reference: StoredOutputs | None) -> list[Array]:
    """Rows of units of one sample, vectorised where outputs have a batch axis."""
    own = None if labels is None else labels[chunk.indices]
    if chunk.batched is not None:
        theirs = reference.batch(chunk.indices) if reference is not None else None
        if reference is None or theirs is not None:
            return list(metric.rows_batch(chunk.batched, own, theirs))
    rows = []
    for at, (index, outputs) in enumerate(zip(chunk.indices, chunk.per_sample(), strict=True)):
        label = None if own is None else _unwrapped(own[at : at + 1])
        rows.append(metric.row_alone(outputs, label, None if reference is None else reference.get(int(index))))
    return rows


def _unwrapped(labels: Array | None) -> Array | None:
    """A single ragged label as an array of its own type."""
    return np.stack([labels[0]]) if labels is not None and labels.dtype == object else labels


def _unit_row(metric: RowMetric, chunks: Sequence[Chunk], labels: Array | None, reference: StoredOutputs | None) -> Array:
    indices = [int(i) for chunk in chunks for i in chunk.indices]
    outputs = [o for chunk in chunks for o in chunk.per_sample()]
    own: list[Any] = [None] * len(indices) if labels is None else [labels[i] for i in indices]
    return metric.row(outputs, own, None if reference is None else [reference.get(i) for i in indices])


def _check_finite(chunk: Chunk, session: Session, judged: Sequence[int], reference: StoredOutputs | None) -> None:
    """Without a reference only NaN is a fault: an infinity may be a mask."""
    if chunk.batched is not None and all(y.dtype.kind != "f" or np.isfinite(y).all() for y in chunk.batched):
        return
    for index, outputs in zip(chunk.indices, chunk.per_sample(), strict=True):
        for at in judged:
            y = outputs[at]
            if y.dtype.kind != "f" or np.isfinite(y).all():
                continue
            fault = np.isnan(y)
            if reference is not None:
                original = reference.get(int(index))[at]
                fault = ~np.isfinite(y) & (np.isfinite(original) if original.shape == y.shape else True)
            if fault.any():
                kind = "NaN" if np.isnan(y[fault]).any() else "infinite"
                raise ModelError(
                    f"output {session.outputs[at].name!r} is {kind} on sample {int(index)}"
                    + (", where the original's is finite" if reference is not None else "")
                )
