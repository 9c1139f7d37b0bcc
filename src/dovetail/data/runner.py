"""Feeds a split to a session: in batches where that changes nothing, else one by one, state carried along a unit.

A model that is fixed to several samples a call always gets so many: the last sample of a call that is not full is repeated, and
what is computed of the repetitions is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array, Dataset, Outputs, Session
from dovetail.core.sizes import fixed_batch

_PROBE = 4
_SINGLES = 8
"""Samples of a chunk that run one by one: few, so that slow models show progress."""
_CALL_BYTES = 4_000_000
"""Feeds of one call; activations are some tens of times that in convolutional networks."""
_SAME = 1e-4
"""Batched and single results count as equal within this share of the output's largest magnitude: beyond float rounding, far
below a change of scale that a quantiser takes from the whole batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Outputs of some samples.

    Attributes:
        indices: samples, in the order they ran.
        batched: outputs with a batch axis over ``indices``; ``None`` where samples ran one by one.
        single: outputs of each sample, where ``batched`` is ``None``.
        ends_unit: whether the last sample is its unit's last.
    """

    indices: Array
    batched: Outputs | None = None
    single: tuple[Outputs, ...] = ()
    ends_unit: bool = True

    def per_sample(self) -> Sequence[Outputs]:
        """Outputs of each sample, with a batch axis of 1."""
        if self.batched is None:
            return self.single
        return [[y[i : i + 1] for y in self.batched] for i in range(len(self.indices))]


class Runner:
    """Runs a split's units, in order.

    Raises:
        DataError: the state names an input or output that the session lacks.
    """

    def __init__(self, session: Session, dataset: Dataset, state: Mapping[str, str], batch: int) -> None:
        self._session, self._dataset = session, dataset
        self._fixed = _fixed(session, dataset)
        self._batch = self._fixed if self._fixed > 1 else min(batch, max(1, _CALL_BYTES // _sample_bytes(dataset)))
        outputs = [spec.name for spec in session.outputs]
        specs = {spec.name: spec for spec in session.inputs}
        for source, target in state.items():
            if source not in specs or target not in outputs:
                raise DataError(
                    f"state {source!r}: {target!r} names no input and output of the model",
                    where="state",
                    hint=f"inputs: {', '.join(specs)}; outputs: {', '.join(outputs)}",
                )
        self._carried = {source: outputs.index(target) for source, target in state.items()}
        self._zeros = {
            name: np.zeros([d if isinstance(d, int) else 1 for d in specs[name].shape], dtype=specs[name].dtype)
            for name in state
        }

    def chunks(self, units: Sequence[Array]) -> Iterator[Chunk]:
        """Yields the samples of the units; a chunk holds whole units of one sample each, or samples of a single unit."""
        if self._carried:
            for unit in units:
                yield self._sequence(unit)
        elif all(len(unit) == 1 for unit in units):
            flat = np.concatenate(units) if units else np.empty(0, dtype=np.int64)
            yield from self._pieces(flat, self._can_batch(flat), ends_unit=True)
        else:
            batch = self._can_batch(np.concatenate(units))
            for unit in units:
                yield from self._pieces(unit, batch, ends_unit=False)

    def _pieces(self, indices: Array, batch: bool, *, ends_unit: bool) -> Iterator[Chunk]:
        size = self._batch if batch else min(self._batch, _SINGLES)
        for start in range(0, len(indices), size):
            piece = indices[start : start + size]
            ends = ends_unit or start + size >= len(indices)
            outputs = self._batched(piece) if batch and max(len(piece), self._fixed) > 1 else None
            if outputs is not None:
                yield Chunk(indices=piece, batched=outputs, ends_unit=ends)
            else:
                yield Chunk(indices=piece, single=tuple(self._alone(int(i)) for i in piece), ends_unit=ends)

    def _sequence(self, unit: Array) -> Chunk:
        state = dict(self._zeros)
        results = []
        for index in unit:
            outputs = self._session.run({**self._dataset.sample(int(index)).feeds, **state})
            state = {name: outputs[at] for name, at in self._carried.items()}
            results.append(outputs)
        return Chunk(indices=unit, single=tuple(results))

    def _alone(self, index: int) -> Outputs:
        return self._session.run(self._dataset.sample(index).feeds)

    def _batched(self, indices: Array) -> Outputs | None:
        """One call; ``None`` where the samples do not stack or an output has no axis over them."""
        spare = max(0, self._fixed - len(indices))
        feeds = self._dataset.batch([*indices.tolist(), *[int(indices[-1])] * spare])
        if feeds is None:
            return None
        outputs = self._session.run(feeds)
        if not all(y.ndim and len(y) == len(indices) + spare for y in outputs):
            return None
        return [y[: len(indices)] for y in outputs] if spare else outputs

    def _can_batch(self, indices: Array) -> bool:
        """Whether the model takes several samples and gives each the result it has alone; tried on a few.

        Models exist that mix the samples of a batch, such as those whose quantiser takes its scale from all of them. A model
        fixed to several takes no other call.
        """
        if self._fixed > 1:
            return True
        fixed = any(spec.shape and isinstance(spec.shape[0], int) and spec.shape[0] == 1 for spec in self._session.inputs)
        probe = indices[:_PROBE]
        if fixed or self._batch < 2 or len(probe) < 2:
            return False
        try:
            together = self._batched(probe)
        except (
            Exception
        ):  # A free batch axis that the graph's inside contradicts; a call with one sample decides what is broken.
            return False
        if together is None:
            return False
        for i, index in enumerate(probe):
            for y, alone in zip(together, self._alone(int(index)), strict=True):
                if alone.shape != y[i : i + 1].shape or not _same(y[i : i + 1], alone):
                    return False
        return True


def _fixed(session: Session, dataset: Dataset) -> int:
    if not len(dataset):
        return 1
    sample = {name: feed.shape for name, feed in dataset.sample(0).feeds.items()}
    return fixed_batch({spec.name: spec.shape for spec in session.inputs}, sample)


def _sample_bytes(dataset: Dataset) -> int:
    return max(1, sum(feed.nbytes for feed in dataset.sample(0).feeds.values())) if len(dataset) else 1


def _same(a: Array, b: Array) -> bool:
    if a.dtype.kind != "f":
        return np.array_equal(a, b)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return False
    scale = np.abs(b[finite]).max(initial=0.0)
    return bool(np.abs(a[finite] - b[finite]).max(initial=0.0) <= _SAME * scale)
