"""CSV and TSV with a header row: columns as one vector, or named columns as inputs."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array
from dovetail.data.request import DataRequest
from dovetail.data.sources.record import Record, Records


def from_file(path: Path, request: DataRequest) -> Records:
    """Reads a table; ``.tsv`` is split at tabs without any quoting.

    Where all inputs have a column of their name (or their ``from``), each is fed by that column; otherwise a model with one
    input takes all other columns, in order, as its vector.

    Raises:
        DataError: not text, no header, a row of another length, a cell that is no number, or absent columns.
    """
    header, rows = _read(path)
    label_key, group_key = request.label_key(header, str(path)), request.group_key(header, str(path))
    sole = request.fed[0] if len(request.fed) == 1 else None
    feeds: dict[str, Array] = {}
    if sole is not None and not sole.key and sole.spec.name not in header:
        vector = [h for h in header if h not in (label_key, group_key)]
        feeds[sole.spec.name] = np.stack([_numbers(header.index(h), header, rows, path) for h in vector], axis=1)
    else:
        for name, key in request.input_keys(header, str(path)).items():
            feeds[name] = _numbers(header.index(key), header, rows, path)
    scalar = {plan.spec.name for plan in request.fed if plan.raw_rank == 0}
    labels = None if label_key is None else _labels(header.index(label_key), rows, path)
    groups = None if group_key is None else [row[header.index(group_key)] for _, row in rows]

    def iterate() -> Iterator[Record]:
        for i in range(len(rows)):
            yield Record(
                feeds={name: a[i, ...] if a.ndim > 1 or name in scalar else a[i : i + 1] for name, a in feeds.items()},
                label=None if labels is None else labels[i],
                group=None if groups is None else groups[i],
            )

    return Records(where=str(path), iterate=iterate, size=len(rows))


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    tabs = path.suffix.lower() == ".tsv"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = (
                csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(file, skipinitialspace=True)
            )
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"not a readable table: {error}", where=str(path)) from error
    if len(rows) < 2:
        raise DataError("the data are empty: 0 samples below the header", where=str(path))
    header = [cell.strip() for cell in rows[0][1]]
    if all(_number(cell) is not None for cell in header):
        raise DataError("the first row holds numbers, not column names", where=str(path), hint="add a header row")
    if len(set(header)) != len(header):
        raise DataError("two columns have the same name", where=str(path))
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(f"line {line} has {len(row)} cells; the header has {len(header)}", where=str(path))
    return header, rows[1:]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _numbers(place: int, header: Sequence[str], rows: Sequence[tuple[int, list[str]]], path: Path) -> Array:
    """``[n]`` int64 where every cell is a whole number, so that token ids feed integer inputs; else float64."""
    values: list[float] = []
    for line, row in rows:
        value = _number(row[place])
        if value is None:
            raise DataError(
                f"line {line}, column {header[place]!r}: {row[place][:40]!r} is not a number",
                where=str(path),
                hint="text needs a tokenizer: yield samples from module:function instead",
            )
        values.append(value)
    return _narrowed(values, rows, place)


def _labels(place: int, rows: Sequence[tuple[int, list[str]]], path: Path) -> Array:
    """``[n]`` int64, float64 or text, the first that fits all cells."""
    for line, row in rows:
        if not row[place].strip():
            raise DataError(f"line {line} has an empty label", where=str(path))
    values = [_number(row[place]) for _, row in rows]
    if any(v is None for v in values):
        return np.array([row[place].strip() for _, row in rows])
    return _narrowed([v for v in values if v is not None], rows, place)


def _narrowed(values: list[float], rows: Sequence[tuple[int, list[str]]], place: int) -> Array:
    whole = all(row[place].strip().lstrip("+-").isdigit() for _, row in rows)
    return np.array([int(row[place]) for _, row in rows], dtype=np.int64) if whole else np.array(values)
