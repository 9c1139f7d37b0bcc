"""Reads user data of any supported kind as records; one kind per module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dovetail.core.errors import DataError
from dovetail.data.functions import is_function_name
from dovetail.data.request import DataRequest
from dovetail.data.sources import arrays, function, images, memory, table
from dovetail.data.sources.record import Record, Records

__all__ = ["Record", "Records", "open_source"]

_KINDS = ".npz, a folder of .npy files or images, .csv, .tsv, or module:function"


def open_source(data: Any, request: DataRequest) -> Records:
    """Opens user data; samples are read only when the records are iterated.

    Args:
        data: a path, ``module:function`` or ``file.py:function``; or a mapping of arrays, an ``(x, y)`` pair of arrays, a
            callable, an iterable of samples or batches, a sequence such as a torch ``Dataset``.
        request: what to look for in it.

    Raises:
        DataError: no such file, an unknown kind, unreadable, or keys that the model needs are absent.
        MissingDependency: images without Pillow.
    """
    if isinstance(data, str | Path):
        return _open_path(str(data), request)
    if isinstance(data, Mapping):
        return arrays.from_mapping(data, request, "data")
    if isinstance(data, tuple) and len(data) == 2:
        return arrays.from_pair(data[0], data[1], request)
    if callable(data) and not hasattr(data, "__iter__"):
        return function.from_callable(data, request, getattr(data, "__qualname__", "data"))
    if isinstance(data, Iterable):
        return memory.from_iterable(data, request)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return memory.from_iterable((data[i] for i in range(len(data))), request)
    raise DataError(f"a {type(data).__name__} is no data", hint=f"give {_KINDS}, arrays, or an iterable of (feeds, label)")


def _open_path(text: str, request: DataRequest) -> Records:
    if is_function_name(text):
        return function.from_name(text, request)
    path = Path(text)
    if not path.exists():
        raise DataError("there is no such file", where=text, hint=f"data are {_KINDS}")
    if path.is_dir():
        return arrays.from_folder(path, request) if any(path.glob("*.npy")) else images.from_folder(path, request)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return arrays.from_npz(path, request)
    if suffix in (".csv", ".tsv"):
        return table.from_file(path, request)
    raise DataError(
        f"data of kind {suffix or 'no suffix'!r} are not taken", where=text, hint=f"data are {_KINDS}; pickles are refused"
    )
