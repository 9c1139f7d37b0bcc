"""Where the numbers of tensors lie in the bytes of an ONNX file.

Reads protobuf's wire format itself (https://protobuf.dev/programming-guides/encoding), since only the bytes as they are, not
as a library would write them again, can be restored exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Fields that lead to tensors, by number in ``onnx.proto``."""
_TYPE, _RAW = 2, 9
_PACKED = {4: 4, 10: 8}
"""``float_data`` and ``double_data``, with bytes per element: the typed fields that hold numbers as they are."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_ITEM_BYTES = {
    1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16, 16: 2,
}  # fmt: skip
"""Bytes per element by ``TensorProto.DataType``; the rest (4-bit and 8-bit floats, say) is taken byte by byte."""
MAX_DEPTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Numbers of one tensor: ``size`` bytes from ``start`` on, ``item`` bytes each."""

    start: int
    size: int
    item: int


def spans(data: bytes, least: int) -> list[Span]:
    """All tensors' numbers of at least so many bytes, in order of place.

    Raises:
        ValueError: the bytes are no protobuf message.
    """
    found = (span for span in _walk(data, 0, len(data), "model", 0) if span.size >= least)
    return sorted(found, key=lambda span: span.start)


def _walk(data: bytes, start: int, stop: int, kind: str, depth: int) -> Iterator[Span]:
    if depth > MAX_DEPTH:
        raise ValueError("messages are nested too deeply")
    if kind == "tensor":
        yield from _tensor(data, start, stop)
        return
    inner = _MESSAGES[kind]
    for field, wire, begin, end in _fields(data, start, stop):
        if wire == _BYTES and field in inner:
            yield from _walk(data, begin, end, inner[field], depth + 1)


def _tensor(data: bytes, start: int, stop: int) -> Iterator[Span]:
    fields = list(_fields(data, start, stop))
    kind = next((_varint(data, begin, stop)[0] for field, wire, begin, _ in fields if (field, wire) == (_TYPE, _VARINT)), 0)
    for field, wire, begin, end in fields:
        if wire == _BYTES and (field == _RAW or field in _PACKED):
            item = _PACKED.get(field) or _ITEM_BYTES.get(kind, 1)
            yield Span(start=begin, size=end - begin, item=item if (end - begin) % item == 0 else 1)


def _fields(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and where the value begins and ends, of each field of a message."""
    at = start
    while at < stop:
        key, at = _varint(data, at, stop)
        wire = key & 7
        if wire == _BYTES:
            size, at = _varint(data, at, stop)
            end = at + size
        elif wire == _VARINT:
            end = _varint(data, at, stop)[1]
        elif wire in (_FIXED64, _FIXED32):
            end = at + (8 if wire == _FIXED64 else 4)
        else:
            raise ValueError(f"wire type {wire} is unknown")
        if end > stop:
            raise ValueError("a field ends beyond its message")
        yield key >> 3, wire, at, end
        at = end


def _varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= stop:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number has no end")
