"""From user data to three splits on disk: the first half of the stage in one place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.core.errors import DataError
from dovetail.data.dataset import StoredDataset, open_split, write_split, write_view
from dovetail.data.intake import Intake
from dovetail.data.request import DataRequest
from dovetail.data.sources import open_source
from dovetail.data.split import overlap, split_units

SPLITS = ("calibration", "selection", "certification")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFiles:
    """Data as the user gives them: one set to be split, or one per split.

    Each is a path, ``module:function`` or an object in memory (:func:`dovetail.data.sources.open_source`).
    """

    data: Any = None
    calibrate: Any = None
    select: Any = None
    certify: Any = None

    def __post_init__(self) -> None:
        given = [part is not None for part in (self.calibrate, self.select, self.certify)]
        if (self.data is not None) == any(given):
            raise DataError("give either one set of data or calibrate/select/certify", where="data")
        if any(given) and self.select is None:
            raise DataError("data for calibration or certification alone leave nothing to select on", where="data",
                            hint="add `select`, or give one file as `data`")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """The three splits; ``certification`` is ``None`` where too few units exist or no file was given."""

    calibration: StoredDataset
    selection: StoredDataset
    certification: StoredDataset | None
    warnings: tuple[str, ...] = ()

    def present(self) -> tuple[StoredDataset, ...]:
        """Those that exist, in order of use."""
        return tuple(s for s in (self.calibration, self.selection, self.certification) if s is not None)


def prepare_splits(files: DataFiles, request: DataRequest, folder: Path, *, seed: int = 0) -> Splits:
    """Reads, checks, preprocesses and stores the data, then splits them; what ``folder`` held before is replaced.

    Raises:
        InputError: the data cannot be read or do not fit the model.
        StorageError: ``folder`` cannot be written.
    """
    for name in ("samples", *SPLITS):
        shutil.rmtree(folder / name, ignore_errors=True)
    if files.data is not None:
        return _split_one(files.data, request, folder, seed)
    return _take_three(files, request, folder)


def store_training(data: Any, request: DataRequest, folder: Path, judges: Sequence[StoredDataset]) -> StoredDataset:
    """Stores samples to train on; those that also select or certify are left out, since they could judge nothing afterwards.

    Args:
        data: as in :class:`DataFiles`.
        request: what the samples must hold.
        folder: to be made.
        judges: the splits that select and certify.

    Raises:
        InputError: the data cannot be read, do not fit the model, or hold nothing but samples that judge.
        StorageError: ``folder`` cannot be written.
    """
    samples, _ = _store(data, request, folder / "all", "training")
    taken = (
        np.isin(samples.digests, np.concatenate([judge.digests for judge in judges]))
        if judges
        else np.zeros(len(samples), bool)
    )
    if taken.all():
        raise DataError("every training sample also selects or certifies", where="train", hint="give others to train on")
    return write_view(folder / "training", samples, np.flatnonzero(~taken), name="training")


def store_all(files: DataFiles, request: DataRequest, folder: Path) -> StoredDataset:
    """Stores the data as one split, unsplit: the certification file where three are given.

    Raises:
        InputError: the data cannot be read or do not fit the model.
        StorageError: ``folder`` cannot be written.
    """
    data = files.data if files.data is not None else files.certify if files.certify is not None else files.select
    return _store(data, request, folder, "certification")[0]


def raw_dtypes(files: DataFiles, request: DataRequest) -> dict[str, str]:
    """Input name → numpy name of the element type in the user's data, as the first sample has it; floats are ``float32``.

    Raises:
        InputError: the data cannot be read, are empty, or can be read only once.
    """
    data = files.data if files.data is not None else files.select
    if isinstance(data, Iterator):
        raise DataError("an iterator can be read only once", where="data", hint="give arrays, a file or a function")
    records = open_source(data, request)
    record = next(records.iterate(), None)
    if record is None:
        raise DataError("the data are empty: 0 samples", where=records.where)
    return {name: "float32" if value.dtype.kind == "f" else value.dtype.name for name, value in record.feeds.items()}


def open_splits(folder: Path) -> Splits:
    """Opens what :func:`prepare_splits` wrote.

    Raises:
        DataError: not there or incomplete.
    """
    certification = folder / "certification"
    return Splits(
        calibration=open_split(folder / "calibration"),
        selection=open_split(folder / "selection"),
        certification=open_split(certification) if certification.exists() else None,
    )


def _store(data: Any, request: DataRequest, folder: Path, name: str) -> tuple[StoredDataset, tuple[str, ...]]:
    intake = Intake(open_source(data, request), request)
    stored = write_split(folder, intake, [plan.spec for plan in request.inputs], name=name)
    return stored, intake.warnings


def _split_one(data: Any, request: DataRequest, folder: Path, seed: int) -> Splits:
    samples, warnings = _store(data, request, folder / "samples", "samples")
    indices = split_units(samples.labels, samples.groups, seed=seed)
    parts = {
        name: write_view(folder / name, samples, rows, name=name)
        for name, rows in zip(SPLITS, (indices.calibration, indices.selection, indices.certification), strict=True)
        if len(rows)
    }
    repeated = len(samples) - len(np.unique(samples.digests))
    if repeated:
        warnings += (f"{repeated:,} of {len(samples):,} samples occur more than once and may lie on both sides of a split",)
    return Splits(
        calibration=parts["calibration"],
        selection=parts["selection"],
        certification=parts.get("certification"),
        warnings=warnings + indices.notes,
    )


def _take_three(files: DataFiles, request: DataRequest, folder: Path) -> Splits:
    stored: dict[str, StoredDataset] = {}
    warnings: tuple[str, ...] = ()
    for name, data in zip(SPLITS, (files.calibrate, files.select, files.certify), strict=True):
        if data is not None:
            stored[name], notes = _store(data, request, folder / name, name)
            warnings += tuple(note for note in notes if note not in warnings)
    if "calibration" not in stored:
        few = np.arange(min(512, len(stored["selection"])))
        stored["calibration"] = write_view(folder / "calibration", stored["selection"], few, name="calibration")
        warnings += ("no calibration data: the first selection samples calibrate as well",)
    certification = stored.get("certification")
    return Splits(
        calibration=stored["calibration"],
        selection=stored["selection"],
        certification=certification,
        warnings=warnings + _overlaps(list(stored.values())),
    )


def _overlaps(splits: Sequence[StoredDataset]) -> tuple[str, ...]:
    found = []
    for i, later in enumerate(splits):
        for earlier in splits[:i]:
            shared = overlap(earlier.digests, later.digests)
            if shared and {earlier.name, later.name} != {"calibration", "selection"}:
                found.append(f"{shared:,} of {len(later):,} samples of {later.name} also lie in {earlier.name}")
    return tuple(found)
