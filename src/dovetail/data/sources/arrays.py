"""Named arrays with one row per sample: ``.npz``, a folder of ``.npy``, or arrays in memory."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array
from dovetail.data.request import DataRequest, InputPlan, to_array
from dovetail.data.sources.record import Record, Records

# What numpy and zipfile raise on damaged files; RuntimeError covers unknown compression, MemoryError absurd shapes.
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error, struct.error)


def from_npz(path: Path, request: DataRequest) -> Records:
    """Reads the arrays of an ``.npz`` file that the request names.

    Raises:
        DataError: not a readable ``.npz``, pickled objects in it, absent keys, or lengths that differ.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    with file:
        try:
            archive = np.load(file, allow_pickle=False)
        except _UNREADABLE as error:
            raise DataError(f"not a readable .npz file: {error}", where=str(path), hint="write it with numpy.savez") from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError("an .npy file that is called .npz", where=str(path), hint="write it with numpy.savez")
        with archive:
            return _records(archive.files, lambda key: _checked_read(archive.__getitem__, key, path), request, str(path))


def from_folder(folder: Path, request: DataRequest) -> Records:
    """Reads a folder with one ``.npy`` per input and one for the labels, memory-mapped.

    Raises:
        DataError: as for :func:`from_npz`.
    """
    paths = {path.stem: path for path in sorted(folder.glob("*.npy"))}

    def read(key: str) -> Array:
        mapped: Array = np.load(paths[key], allow_pickle=False, mmap_mode="r")
        return mapped

    return _records(list(paths), lambda key: _checked_read(read, key, folder), request, str(folder))


def from_mapping(data: Mapping[str, Any], request: DataRequest, where: str) -> Records:
    """Takes arrays in memory under the same names as an ``.npz`` file would have.

    Raises:
        DataError: absent keys, or lengths that differ.
    """
    return _records([str(key) for key in data], lambda key: to_array(data[key]), request, where)


def from_pair(x: Any, y: Any, request: DataRequest) -> Records:
    """Takes ``(x, y)``: arrays keyed by input name, or the only input's array; and labels or ``None``.

    Raises:
        DataError: absent keys, or lengths that differ.
    """
    key = request.labels or "labels"
    labels = {} if y is None else {key: y}
    feeds = dict(x) if isinstance(x, Mapping) else {request.fed[0].key or request.fed[0].spec.name: x}
    return from_mapping({**feeds, **labels}, request, "data")


def _checked_read(read: Callable[[str], Array], key: str, path: Path) -> Array:
    try:
        return read(key)
    except _UNREADABLE as error:
        if "pickle" in str(error).lower() or "Object arrays" in str(error):
            raise DataError(
                f"{key!r} holds Python objects, which would have to be unpickled",
                where=str(path),
                hint="store numbers or text of one shape; a pickle can run any code when it is loaded",
            ) from error
        raise DataError(
            f"{key!r} cannot be read: {error}", where=str(path), hint="the file is damaged; write it again"
        ) from error


def _records(keys: list[str], read: Callable[[str], Array], request: DataRequest, where: str) -> Records:
    names = request.input_keys(keys, where)
    label_key, group_key = request.label_key(keys, where), request.group_key(keys, where)
    plans = {plan.spec.name: plan for plan in request.fed}
    columns = {name: read(key) for name, key in names.items()}
    constant = {name: a for name, a in columns.items() if _is_constant(a, plans[name])}
    rows = {name: a for name, a in columns.items() if name not in constant}
    labels = None if label_key is None else read(label_key)
    groups = None if group_key is None else read(group_key)
    extra = {key: a for key, a in ((label_key, labels), (group_key, groups)) if key is not None and a is not None}
    size = _common_length({**{names[name]: a for name, a in rows.items()}, **extra}, where)

    def iterate() -> Iterator[Record]:
        for i in range(size):
            yield Record(
                feeds={**{name: a[i, ...] for name, a in rows.items()}, **constant},
                label=None if labels is None else labels[i],
                group=None if groups is None else groups[i].item(),
            )

    return Records(where=where, iterate=iterate, size=size)


def _is_constant(array: Array, plan: InputPlan) -> bool:
    """An array of the input's own rank, where the input has no batch axis, is fed to every call."""
    return not plan.batched and array.ndim == plan.raw_rank


def _common_length(columns: Mapping[str, Array], where: str) -> int:
    for key, array in columns.items():
        if array.dtype == object:
            raise DataError(f"{key!r} holds Python objects", where=where, hint="give numbers or text of one shape")
        if array.ndim == 0:
            raise DataError(f"{key!r} is a single number; it needs one row per sample", where=where)
    lengths = {key: len(array) for key, array in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{key!r} has {n:,} rows" for key, n in lengths.items())
        raise DataError(f"inputs and labels differ in length: {shown}", where=where, hint="give one row per sample in each")
    size = next(iter(lengths.values()), 1)
    if size == 0:
        raise DataError("the data are empty: 0 samples", where=where)
    return size
