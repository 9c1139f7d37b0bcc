"""A session's outputs over a whole split on disk, so that other processes can compare with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array
from dovetail.data.columns import Column, ColumnWriter
from dovetail.data.dataset import storing


class StoredOutputs:
    """Outputs by sample, memory-mapped, each with its batch axis of 1.

    Attributes:
        names: the session's outputs, in order.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.names: tuple[str, ...] = tuple(json.loads((folder / "outputs.json").read_text()))
            self._place: Array = np.load(folder / "place.npy", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"stored outputs cannot be read: {error}", where=str(folder)) from error
        self._columns = [Column(folder, f"output{i}") for i in range(len(self.names))]

    def __len__(self) -> int:
        return len(self._place)

    def get(self, index: int) -> list[Array]:
        """Outputs of one sample, in the session's order."""
        place = int(self._place[index])
        return [column.get(place) for column in self._columns]

    def batch(self, indices: Sequence[int] | Array) -> list[Array] | None:
        """Outputs of several samples along the batch axis; ``None`` where shapes differ or an output has no such axis."""
        places = self._place[np.asarray(indices, dtype=np.int64)]
        stacked = [column.take(places) for column in self._columns]
        if any(y is None or y.ndim < 2 or y.shape[1] != 1 for y in stacked):
            return None
        return [y[:, 0] for y in stacked if y is not None]


def write_outputs(
    folder: Path, outputs: Iterable[tuple[int, Sequence[Array]]], names: Sequence[str], size: int
) -> StoredOutputs:
    """Streams outputs to disk, in any order of samples.

    Args:
        folder: to be made; an older one is replaced.
        outputs: (sample index, its outputs), every sample once.
        names: of the outputs.
        size: number of samples.

    Raises:
        StorageError: nothing can be written there.
    """
    place = np.full(size, -1, dtype=np.int64)
    with storing(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with ExitStack() as stack:
            writers = [stack.enter_context(ColumnWriter(folder, f"output{i}")) for i in range(len(names))]
            for at, (index, arrays) in enumerate(outputs):
                for writer, array in zip(writers, arrays, strict=True):
                    writer.append(array)
                place[index] = at
        np.save(folder / "place.npy", place, allow_pickle=False)
        (folder / "outputs.json").write_text(json.dumps(list(names)))
    return StoredOutputs(folder)
