"""The numbers of one tensor as runs of symbols: a codebook with indices, byte planes, or a mask with what is not zero."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from dovetail.compress.packed import codes
from dovetail.compress.packed.rans import MAX_ALPHABET
from dovetail.core.protocols import Array

PROBE = 1 << 16
SPARSE_SHARE = 0.1
"""From this share of zeros on they have a mask of their own: without it each byte plane would tell of them again."""
_WORDS = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<u8"}


class Form(IntEnum):
    """How a tensor is split into runs."""

    PLANES = 0
    BOOK = 1
    SPARSE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One coded run of symbols: :class:`.codes.Code`, the decoder's table, the code."""

    code: int
    table: bytes
    data: bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """A tensor's numbers.

    Attributes:
        form: what the runs are.
        book: the different values as they are, in ascending order of their bits; empty unless the form is ``BOOK``.
        runs: of indices, or of bytes from the lowest plane to the highest, or of a mask and then such bytes.
    """

    form: int
    book: bytes
    runs: tuple[Run, ...]


def encode(data: bytes | memoryview, item: int) -> Coded:
    """Codes numbers of ``item`` bytes each."""
    if item not in _WORDS:
        return Coded(form=Form.PLANES, book=b"", runs=_planes(np.frombuffer(data, np.uint8).reshape(-1, item)))
    words = np.frombuffer(data, _WORDS[item])
    book = None if item == 1 else _book(words)
    if book is not None:
        indices = np.searchsorted(book, words)
        return Coded(form=Form.BOOK, book=book.tobytes(), runs=(_run(indices, len(book)),))
    used = words != 0
    if item > 1 and 1 - np.count_nonzero(used) / len(words) >= SPARSE_SHARE:
        rest = words[used]
        return Coded(form=Form.SPARSE, book=b"", runs=(_run(used, 2), *_planes(rest.view(np.uint8).reshape(-1, item))))
    return Coded(form=Form.PLANES, book=b"", runs=_planes(words.view(np.uint8).reshape(-1, item)))


def decode(coded: Coded, size: int, item: int) -> bytes:
    """The inverse: exactly ``size`` bytes.

    Raises:
        ValueError: damaged.
    """
    n, runs = size // item, coded.runs
    if coded.form == Form.BOOK and len(runs) == 1 and item in _WORDS and coded.book:
        book = np.frombuffer(coded.book, _WORDS[item])
        return book[_symbols(runs[0], n, len(book))].tobytes()
    if coded.form == Form.SPARSE and len(runs) == 1 + item and item in _WORDS:
        used = _symbols(runs[0], n, 2).astype(bool)
        words = np.zeros(n, _WORDS[item])
        words[used] = _joined(runs[1:], int(used.sum())).reshape(-1).view(_WORDS[item])
        return words.tobytes()
    if coded.form == Form.PLANES and len(runs) == item:
        return _joined(runs, n).tobytes()
    raise ValueError("a tensor has no form that is known")


def _book(words: Array) -> Array | None:
    """The different values, where they are few enough for indices to pay."""
    few = min(MAX_ALPHABET, 1 + int(np.count_nonzero(words)) // 4)
    if len(np.unique(words[:PROBE])) > few:
        return None
    book: Array = np.unique(words)
    return book if len(book) <= few else None


def _planes(rows: Array) -> tuple[Run, ...]:
    return tuple(_run(plane, 256) for plane in np.ascontiguousarray(rows.T))


def _joined(runs: tuple[Run, ...], n: int) -> Array:
    rows = np.empty((n, len(runs)), np.uint8)
    for index, plane in enumerate(_all_symbols(runs, n)):
        rows[:, index] = plane
    return rows


def _all_symbols(runs: tuple[Run, ...], n: int) -> Iterator[Array]:
    for run in runs:
        yield _symbols(run, n, 256)


def _run(symbols: Array, alphabet: int) -> Run:
    if not len(symbols):
        return Run(code=codes.Code.BITS, table=b"", data=b"")
    code, table, data = codes.encode(symbols, alphabet)
    return Run(code=code, table=table, data=data)


def _symbols(run: Run, n: int, alphabet: int) -> Array:
    return codes.decode(run.code, run.table, memoryview(run.data), n, alphabet)
