"""One named array per sample on disk, memory-mapped: the brick of splits and of stored outputs.

The bytes of all samples follow one another in ``NAME.npy``. Where every sample has one shape the header says ``(n, *shape)``
and numpy opens the file as it is; where shapes differ it says ``(total,)`` and ``NAME.shapes.npy`` holds a row per sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array

_HEADER_BYTES = 256


def _header(dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> bytes:
    """A version 1.0 ``.npy`` header of fixed length, so that it can be rewritten once the shape is known (NEP 1)."""
    text = repr({"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    room = _HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.ljust(room - 1).encode("latin1") + b"\n"


class ColumnWriter:
    """Appends one array per sample; holds a single sample in memory."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.npy"
        self._shapes_path = folder / f"{name}.shapes.npy"
        self._file = self._path.open("wb")
        self._file.write(b"\0" * _HEADER_BYTES)
        self._dtype: np.dtype[np.generic] | None = None
        self._shapes: list[tuple[int, ...]] = []

    def append(self, array: Array) -> None:
        """Adds a sample.

        Raises:
            DataError: another dtype or rank than the samples before it.
        """
        dtype = array.dtype.newbyteorder("<")
        if self._dtype is None:
            self._dtype = dtype
        if dtype != self._dtype or (self._shapes and len(self._shapes[0]) != array.ndim):
            raise DataError(
                f"sample {len(self._shapes)} is {array.dtype} {list(array.shape)}; the first is {self._dtype} "
                f"{list(self._shapes[0])}",
                where=self._path.stem,
            )
        self._file.write(np.ascontiguousarray(array, dtype=dtype).tobytes())
        self._shapes.append(array.shape)

    def close(self) -> None:
        """Writes the header, and the shapes where they differ; calling it twice is harmless."""
        if self._file.closed:
            return
        shapes, dtype = self._shapes, self._dtype or np.dtype(np.float32)
        uniform = len(set(shapes)) <= 1
        whole = (len(shapes), *(shapes[0] if shapes else ())) if uniform else (sum(math.prod(s) for s in shapes),)
        try:
            self._file.seek(0)
            self._file.write(_header(dtype, whole))
        finally:
            self._file.close()
        if not uniform:
            np.save(self._shapes_path, np.asarray(shapes, dtype=np.int64), allow_pickle=False)

    def __enter__(self) -> ColumnWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Column:
    """One array per sample, read through a memory map."""

    def __init__(self, folder: Path, name: str) -> None:
        path = folder / f"{name}.npy"
        try:
            # A file without a single element cannot be mapped.
            mapped = np.load(path, allow_pickle=False, mmap_mode="r" if path.stat().st_size > _HEADER_BYTES else None)
            shapes_path = folder / f"{name}.shapes.npy"
            self._shapes: Array | None = np.load(shapes_path, allow_pickle=False) if shapes_path.exists() else None
        except (OSError, ValueError) as error:
            raise DataError(f"a stored column cannot be read: {error}", where=str(path)) from error
        self._data: Array = mapped
        if self._shapes is not None:
            self._offsets = np.concatenate([[0], np.cumsum(np.prod(self._shapes, axis=1))])

    def __len__(self) -> int:
        return len(self._data if self._shapes is None else self._shapes)

    @property
    def uniform(self) -> bool:
        """Whether all samples have one shape."""
        return self._shapes is None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Element type of every sample."""
        return self._data.dtype

    def get(self, index: int) -> Array:
        """A copy of one sample's array."""
        if self._shapes is None:
            return np.array(self._data[index])
        start, stop = self._offsets[index], self._offsets[index + 1]
        return np.array(self._data[start:stop]).reshape(self._shapes[index])

    def take(self, indices: Sequence[int] | Array) -> Array | None:
        """Samples stacked along a new first axis; ``None`` when their shapes differ."""
        if self._shapes is None:
            return np.array(self._data[np.asarray(indices, dtype=np.int64)])
        rows = [self.get(int(i)) for i in indices]
        return np.stack(rows) if len({r.shape for r in rows}) == 1 else None
