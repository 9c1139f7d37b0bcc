"""A split on disk that any process opens by its folder.

``split.json`` holds schema, name, hash and inputs; the arrays lie beside it as ``.npy`` (:mod:`dovetail.data.columns`). A
*view* is a folder that holds only ``split.json`` and the row numbers it takes from another split, so that three splits of one
file cost its space once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.core.errors import DataError, StorageError
from dovetail.core.protocols import Array, Sample, TensorSpec
from dovetail.data.columns import Column, ColumnWriter

SCHEMA = 1
LabeledFeeds = tuple[Mapping[str, Array], int, Any]
"""Feeds of one sample, the number of its independent unit, its label (``None`` without labels)."""


def has_batch_axis(spec: TensorSpec) -> bool:
    """Whether an input's leading axis counts samples: symbolic, unknown or 1."""
    return bool(spec.shape) and (spec.shape[0] == 1 or not isinstance(spec.shape[0], int))


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Turns a full disk or a missing permission into a :class:`StorageError` that names the folder."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        reason = error.strerror or str(error)
        raise StorageError(
            f"cannot write: {reason}", where=str(folder), hint="choose another folder, or free space there"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Store:
    """The columns of one folder that holds arrays itself."""

    specs: tuple[TensorSpec, ...]
    inputs: Mapping[str, Column]
    labels: Column | None
    groups: Array
    digests: Array


class StoredDataset:
    """Samples of one split, memory-mapped; implements :class:`dovetail.core.protocols.Dataset`.

    Attributes:
        name: ``calibration``, ``selection``, ``certification``, or what the writer chose.
        content_hash: 16 hex digits over feeds, labels and groups, in order.
        specs: the inputs as stored.
        groups: ``[n]`` int64, the independent unit of each sample.
        digests: ``[n]`` uint64, a hash of each sample's feeds.
    """

    def __init__(self, folder: Path, name: str, content_hash: str, store: _Store, rows: Array) -> None:
        self.folder, self.name, self.content_hash = folder, name, content_hash
        self.specs = store.specs
        self.groups: Array = store.groups[rows]
        self.digests: Array = store.digests[rows]
        self._store, self._rows = store, rows

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def labels(self) -> Array | None:
        """``[n, ...]``; an object array of arrays where their shapes differ; ``None`` without labels."""
        column = self._store.labels
        if column is None:
            return None
        if column.uniform:
            return column.take(self._rows)
        ragged = np.empty(len(self), dtype=object)
        for i, row in enumerate(self._rows):
            ragged[i] = column.get(int(row))
        return ragged

    @property
    def uniform(self) -> bool:
        """Whether all samples have the same shapes; splits that share a store share the answer."""
        return all(column.uniform for column in self._store.inputs.values())

    def sample(self, index: int) -> Sample:
        """One sample; every feed has a leading batch axis of 1 where the model has one.

        Raises:
            IndexError: no such sample.
        """
        row = int(self._rows[index])
        feeds = {name: column.get(row) for name, column in self._store.inputs.items()}
        label = None if self._store.labels is None else self._store.labels.get(row)
        return Sample(feeds=feeds, label=label[()] if label is not None and label.ndim == 0 else label)

    def batch(self, indices: Sequence[int]) -> dict[str, Array] | None:
        """Several samples stacked along the batch axis; ``None`` when shapes differ or an input has no batch axis.

        An input of fixed size without a batch axis (a sampling rate, say) is passed once, when all these samples agree on it.
        """
        rows = self._rows[np.asarray(indices, dtype=np.int64)]
        feeds: dict[str, Array] = {}
        for spec in self.specs:
            stacked = self._store.inputs[spec.name].take(rows)
            if stacked is None:
                return None
            if has_batch_axis(spec):
                if stacked.shape[1] != 1:
                    return None
                feeds[spec.name] = stacked[:, 0]
            elif all(isinstance(d, int) for d in spec.shape) and np.all(stacked == stacked[:1]):
                feeds[spec.name] = stacked[0]
            else:
                return None
        return feeds


def write_split(
    folder: Path, samples: Iterable[LabeledFeeds], specs: Sequence[TensorSpec], *, name: str = "samples"
) -> StoredDataset:
    """Streams samples to disk; an older split in this folder is replaced once the new one is complete.

    Args:
        folder: to be made.
        samples: feeds keyed by input name, unit number, label.
        specs: the inputs to store.
        name: the split's name.

    Raises:
        DataError: no sample, samples of different dtypes or ranks, or labels on some samples only.
        StorageError: nothing can be written there.
    """
    partial = folder.with_name(folder.name + ".partial")
    with storing(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            _write_columns(partial, samples, specs)
            store = _open_store(partial, tuple(specs))
            content_hash = _content_hash(store, np.arange(len(store.groups)))
            header = {"schema": SCHEMA, "name": name, "content_hash": content_hash, "inputs": [_spec_json(s) for s in specs]}
            (partial / "split.json").write_text(json.dumps(header, indent=1))
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return open_split(folder)


def _write_columns(folder: Path, samples: Iterable[LabeledFeeds], specs: Sequence[TensorSpec]) -> None:
    groups: list[int] = []
    digests: list[bytes] = []
    with ExitStack() as stack:
        writers = [stack.enter_context(ColumnWriter(folder, f"input{i}")) for i in range(len(specs))]
        label_writer: ColumnWriter | None = None
        for feeds, group, label in samples:
            if not groups and label is not None:
                label_writer = stack.enter_context(ColumnWriter(folder, "labels"))
            if (label is None) != (label_writer is None):
                raise DataError(f"sample {len(groups)} {'lacks' if label is None else 'has'} a label, unlike the first one")
            digest = hashlib.blake2b(digest_size=8)
            for spec, writer in zip(specs, writers, strict=True):
                writer.append(feeds[spec.name])
                digest.update(repr(feeds[spec.name].shape).encode() + feeds[spec.name].tobytes())
            if label_writer is not None:
                label_writer.append(label_array(label, len(groups)))
            groups.append(group)
            digests.append(digest.digest())
    if not groups:
        raise DataError("the data hold no sample")
    np.save(folder / "groups.npy", np.asarray(groups, dtype=np.int64), allow_pickle=False)
    np.save(folder / "digests.npy", np.frombuffer(b"".join(digests), dtype="<u8"), allow_pickle=False)


def _content_hash(store: _Store, rows: Array) -> str:
    content = hashlib.sha256(repr([_spec_json(s) for s in store.specs]).encode())
    content.update(store.digests[rows].tobytes() + store.groups[rows].astype("<i8").tobytes())
    if store.labels is not None:
        for row in rows:
            label = store.labels.get(int(row))
            content.update(repr((label.dtype.str, label.shape)).encode() + label.tobytes())
    return content.hexdigest()[:16]


_TEXT_LENGTH = 256


def label_array(label: Any, index: int) -> Array:
    """A label as an array; single numbers become int64 or float64 and text a fixed width, so that a file has one dtype.

    Raises:
        DataError: neither numbers nor text, not finite, or text longer than 256 characters.
    """
    array = np.asarray(label)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"the label of sample {index} holds {array[~np.isfinite(array)].ravel()[0]}; labels are finite")
    if array.dtype.kind == "U":
        if array.dtype.itemsize > 4 * _TEXT_LENGTH:
            raise DataError(f"the label of sample {index} is text of more than {_TEXT_LENGTH} characters")
        return array.astype(f"<U{_TEXT_LENGTH}")
    if array.dtype.kind not in "biuf":
        raise DataError(f"the label of sample {index} is a {type(label).__name__}; labels are numbers, text or arrays of them")
    if array.ndim:
        return array
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)


def write_view(folder: Path, of: StoredDataset, indices: Sequence[int] | Array, *, name: str) -> StoredDataset:
    """Writes a split that takes some samples of another one, in the given order.

    Raises:
        DataError: no index.
        StorageError: nothing can be written there.
    """
    rows = of._rows[np.asarray(indices, dtype=np.int64)]
    if not len(rows):
        raise DataError(f"the {name} split would hold no sample")
    content = _content_hash(of._store, rows)
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "rows.npy", rows, allow_pickle=False)
        of_path = os.path.relpath(_store_folder(of.folder), folder)
        header = {"schema": SCHEMA, "name": name, "content_hash": content, "of": of_path}
        (folder / "split.json").write_text(json.dumps(header, indent=1))
    return open_split(folder)


def _store_folder(folder: Path) -> Path:
    of = _read_header(folder).get("of")
    return folder if of is None else (folder / str(of)).resolve()


def open_split(folder: Path) -> StoredDataset:
    """Opens a split; arrays are mapped, not read.

    Raises:
        DataError: not a split, of another schema, or incomplete.
    """
    header = _read_header(folder)
    home = _store_folder(folder)
    store = _open_store(home, tuple(_spec_from_json(s) for s in _read_header(home)["inputs"]))
    rows = _load(folder / "rows.npy") if "of" in header else np.arange(len(store.groups))
    return StoredDataset(folder, str(header["name"]), str(header["content_hash"]), store, rows)


def _open_store(folder: Path, specs: tuple[TensorSpec, ...]) -> _Store:
    return _Store(
        specs=specs,
        inputs={spec.name: Column(folder, f"input{i}") for i, spec in enumerate(specs)},
        labels=Column(folder, "labels") if (folder / "labels.npy").exists() else None,
        groups=_load(folder / "groups.npy"),
        digests=_load(folder / "digests.npy"),
    )


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads((folder / "split.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"not a stored split: {error}", where=str(folder)) from error
    if header.get("schema") != SCHEMA:
        raise DataError(f"split of schema {header.get('schema')}; this version reads {SCHEMA}", where=str(folder))
    return header


def _load(path: Path) -> Array:
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"a stored split is incomplete: {error}", where=str(path)) from error
    return array


def _spec_json(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _spec_from_json(data: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(name=data["name"], dtype=data["dtype"], shape=tuple(data["shape"]))
