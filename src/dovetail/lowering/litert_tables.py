"""Reads tables of a flatbuffer and checks every place before it is read, since the vendor's reader trusts the file.

Places are byte offsets from the start of the file. The format: https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array

MAX_TABLES = 1_000_000
"""The limit of the format's own verifier: a damaged file may hold tables within tables without end."""
_NUMBERS = {code: struct.Struct(f"<{code}") for code in "bBhHiIqQ"}


@dataclass(slots=True)
class Buffer:
    """A file in memory.

    Attributes:
        data: one byte per element, not copied.
        tables: how many tables were opened so far.
    """

    data: memoryview
    tables: int = field(default=0)

    def number(self, code: str, at: int) -> int:
        """An integer, by its letter in ``struct``."""
        form = _NUMBERS[code]
        self.require(at, form.size)
        return int(form.unpack_from(self.data, at)[0])

    def require(self, at: int, size: int) -> None:
        """Checks that some bytes lie inside the file.

        Raises:
            ModelError: they do not.
        """
        if at < 0 or at + size > len(self.data):
            raise damaged(f"something lies at byte {at}, beyond its {len(self.data)} bytes")

    def array(self, at: int, dtype: str, count: int) -> Array:
        """A view of numbers."""
        kind = np.dtype(dtype).newbyteorder("<")
        self.require(at, count * kind.itemsize)
        return np.frombuffer(self.data, kind, count, at)

    def root(self) -> Table:
        """The outermost table."""
        return Table(self, self.number("I", 0))


class Table:
    """One table, its header checked.

    Args:
        buffer: the file.
        at: where the table starts.
    """

    __slots__ = ("_buffer", "_header", "_header_size", "_size", "at")

    def __init__(self, buffer: Buffer, at: int) -> None:
        buffer.tables += 1
        if buffer.tables > MAX_TABLES:
            raise damaged(f"it holds more than {MAX_TABLES:,} tables")
        self._buffer, self.at = buffer, at
        self._header = at - buffer.number("i", at)
        self._header_size = buffer.number("H", self._header)
        self._size = buffer.number("H", self._header + 2)
        buffer.require(self._header, self._header_size)
        buffer.require(at, self._size)
        if self._header_size < 4 or self._size < 4:
            raise damaged(f"the table at byte {at} is too small to be one")

    def _place(self, number: int, size: int) -> int:
        """Where a field lies; 0 when it is absent."""
        slot = 4 + 2 * number
        if slot + 2 > self._header_size:
            return 0
        offset = self._buffer.number("H", self._header + slot)
        if offset and offset + size > self._size:
            raise damaged(f"field {number} of the table at byte {self.at} lies outside it")
        return self.at + offset if offset else 0

    def number(self, number: int, code: str, default: int = 0) -> int:
        """An integer field."""
        at = self._place(number, _NUMBERS[code].size)
        return self._buffer.number(code, at) if at else default

    def _target(self, number: int) -> int:
        at = self._place(number, 4)
        return at + self._buffer.number("I", at) if at else 0

    def table(self, number: int) -> Table | None:
        """A field that is a table."""
        at = self._target(number)
        return Table(self._buffer, at) if at else None

    def tables(self, number: int) -> list[Table]:
        """A field that is a list of tables."""
        at = self._target(number)
        if not at:
            return []
        count = self._buffer.number("I", at)
        places = self._buffer.array(at + 4, "uint32", count).tolist()
        return [Table(self._buffer, at + 4 + 4 * i + place) for i, place in enumerate(places)]

    def array(self, number: int, dtype: str) -> Array | None:
        """A field that is a list of numbers."""
        at = self._target(number)
        return self._buffer.array(at + 4, dtype, self._buffer.number("I", at)) if at else None

    def text(self, number: int) -> str:
        """A field that is a string."""
        found = self.array(number, "uint8")
        return "" if found is None else found.tobytes().decode(errors="replace")


def damaged(why: str) -> ModelError:
    """What is raised for a file that breaks its format."""
    return ModelError(f"the file is damaged or truncated: {why}", hint="copy or convert it again")
