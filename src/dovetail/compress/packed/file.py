"""Reads and writes ``.dtvw`` files; the layout is in :mod:`dovetail.compress.packed`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from dovetail.compress.packed import codes, tensors, wire
from dovetail.core.errors import ModelError, StorageError

MAGIC = b"DTVW"
VERSION = 1
MAX_BYTES = (1 << 31) - 1
"""Largest ONNX file that is made: a protobuf message ends at 2 GiB."""
LEAST_BYTES = 1024
"""Smaller tensors stay in the graph's part, which is compressed as a whole: tables of their own would cost more."""
_HEADER = struct.Struct("<4sHBxQQ32sQQ")
_CRC = struct.Struct("<I")
_TENSOR = struct.Struct("<QQBBHI")
_RUN = struct.Struct("<BIQ")
_COUNT = struct.Struct("<I")
_AGAIN = "copy it again, or pack the model again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What packing came to.

    Attributes:
        path: the file written.
        size_bytes: its size.
        onnx_bytes: size of the ONNX file that it gives back.
        graph_bytes: of its size, what everything but the coded tensors takes.
    """

    path: Path
    size_bytes: int
    onnx_bytes: int
    graph_bytes: int

    @property
    def ratio(self) -> float:
        """How many times smaller it is."""
        return self.onnx_bytes / self.size_bytes


def pack(model: Path, out: Path) -> Packed:
    """Packs an ONNX file; the file appears whole or not at all.

    Weights that lie beside the file are taken into it, so that what comes back is one file.

    Raises:
        ModelError: it cannot be read, or is larger than 2 GiB.
        StorageError: the result cannot be written.
    """
    data = _one_file(model)
    packed = pack_bytes(data, where=str(model))
    if unpack_bytes(packed, where=str(out)) != data:
        raise RuntimeError(f"{model} does not come back from its packed form")
    _write(out, packed)
    return Packed(path=out, size_bytes=len(packed), onnx_bytes=len(data), graph_bytes=_body_start(packed))


def unpack(packed: Path, out: Path) -> Path:
    """Writes the ONNX file that was packed, byte for byte; it appears whole or not at all.

    Raises:
        ModelError: no such file, of another kind or version, or damaged.
        StorageError: the result cannot be written.
    """
    _write(out, unpack_bytes(_read(packed), where=str(packed)))
    return out


def is_packed(path: Path) -> bool:
    """Whether a file begins as packed models do."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def pack_bytes(data: bytes, *, where: str = "") -> bytes:
    """The packed form of an ONNX file's bytes.

    Raises:
        ModelError: they are no protobuf message, or more than 2 GiB.
    """
    if not 0 < len(data) <= MAX_BYTES:
        raise ModelError(f"a model of {len(data):,} bytes cannot be packed", where=where, hint="from 1 byte to 2 GiB can")
    try:
        spans = wire.spans(data, LEAST_BYTES)
    except ValueError as exc:
        raise ModelError(f"it is not an ONNX model: {exc}", where=where) from exc
    coded = [tensors.encode(memoryview(data)[s.start : s.start + s.size], s.item) for s in spans]
    head = b"".join([_COUNT.pack(len(spans)), *_records(spans, coded), *_tables(coded), *_rest(data, spans)])
    kind, stored = codes.deflate(head)
    body = [bytes(run.data) for tensor in coded for run in tensor.runs]
    size = _HEADER.size + _CRC.size + len(stored) + sum(map(len, body))
    digest = hashlib.sha256(data).digest()
    header = _HEADER.pack(MAGIC, VERSION, kind, size, len(data), digest, len(head), len(stored))
    rest = b"".join([stored, *body])
    return b"".join([header, _CRC.pack(zlib.crc32(rest, zlib.crc32(header))), rest])


def unpack_bytes(packed: bytes, *, where: str = "", max_bytes: int = MAX_BYTES) -> bytes:
    """The ONNX file's bytes from their packed form.

    Args:
        packed: the whole file.
        where: its name, for messages.
        max_bytes: refuses to make more than this.

    Raises:
        ModelError: of another kind or version, too large, or damaged.
    """
    head_kind, onnx_bytes, digest, head_bytes, stored_bytes = _header(packed, where, max_bytes)
    try:
        start = _HEADER.size + _CRC.size
        head = codes.inflate(head_kind, memoryview(packed)[start : start + stored_bytes], head_bytes)
        data = _rebuilt(head, memoryview(packed)[start + stored_bytes :], onnx_bytes)
    except (ValueError, struct.error) as exc:
        raise ModelError(f"the packed model is damaged: {exc}", where=where, hint=_AGAIN) from exc
    if hashlib.sha256(data).digest() != digest:
        raise ModelError("the packed model is damaged: it does not give the file that was packed", where=where, hint=_AGAIN)
    return bytes(data)


def _header(packed: bytes, where: str, max_bytes: int) -> tuple[int, int, bytes, int, int]:
    """Checks all that can be checked before anything is decoded."""
    if packed[:4] != MAGIC[: len(packed)] or not packed:
        raise ModelError("it is not a packed model", where=where, hint="give a .dtvw file that `dovetail pack` wrote")
    if len(packed) < _HEADER.size + _CRC.size:
        raise ModelError("the packed model is truncated", where=where, hint=_AGAIN)
    _, version, kind, size, onnx_bytes, digest, head_bytes, stored_bytes = _HEADER.unpack_from(packed)
    if version != VERSION:
        raise ModelError(f"its version {version} is unknown", where=where, hint="unpack it with a newer Dovetail")
    if size != len(packed):
        raise ModelError(
            f"the packed model is truncated or damaged: {len(packed):,} bytes, stated are {size:,}", where=where, hint=_AGAIN
        )
    (crc,) = _CRC.unpack_from(packed, _HEADER.size)
    body = memoryview(packed)[_HEADER.size + _CRC.size :]
    if zlib.crc32(body, zlib.crc32(packed[: _HEADER.size])) != crc:
        raise ModelError("the packed model is damaged: its check sum is another", where=where, hint=_AGAIN)
    if onnx_bytes > max_bytes:
        raise ModelError(f"it would unpack to {onnx_bytes:,} bytes; the limit is {max_bytes:,}", where=where)
    if stored_bytes > len(body) or head_bytes > 2 * onnx_bytes + (1 << 20):
        raise ModelError("the packed model is damaged: its parts do not add up", where=where, hint=_AGAIN)
    return kind, onnx_bytes, digest, head_bytes, stored_bytes


def _records(spans: list[wire.Span], coded: list[tensors.Coded]) -> Iterator[bytes]:
    for span, tensor in zip(spans, coded, strict=True):
        book = len(tensor.book)
        yield _TENSOR.pack(span.start, span.size, span.item, tensor.form, len(tensor.runs), book)
        yield from (_RUN.pack(run.code, len(run.table), len(run.data)) for run in tensor.runs)


def _tables(coded: list[tensors.Coded]) -> Iterator[bytes]:
    for tensor in coded:
        yield tensor.book
        yield from (run.table for run in tensor.runs)


def _rest(data: bytes, spans: list[wire.Span]) -> Iterator[bytes]:
    """All bytes outside the spans."""
    at = 0
    for span in spans:
        yield data[at : span.start]
        at = span.start + span.size
    yield data[at:]


@dataclass(slots=True)
class _Reader:
    """Takes pieces of bytes in order; never past the end."""

    data: bytes | memoryview
    at: int = 0

    def take(self, size: int) -> bytes | memoryview:
        if size > len(self.data) - self.at:
            raise ValueError("a part ends beyond the file")
        self.at += size
        return self.data[self.at - size : self.at]

    def record(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack(self.take(form.size))

    @property
    def left(self) -> int:
        return len(self.data) - self.at


def _rebuilt(head: bytes, body: memoryview, onnx_bytes: int) -> bytearray:
    reader, codes_left = _Reader(head), _Reader(body)
    (count,) = reader.record(_COUNT)
    if count * _TENSOR.size > reader.left:
        raise ValueError("more tensors are stated than there is room for")
    shapes = [_shape(reader) for _ in range(count)]
    _check_places([span for span, *_ in shapes], onnx_bytes)
    tables = [(bytes(reader.take(book)), [bytes(reader.take(t)) for _, t, _ in runs]) for _, _, book, runs in shapes]
    if reader.left + sum(span.size for span, *_ in shapes) != onnx_bytes:
        raise ValueError("its parts do not add up to the file")
    data = bytearray(onnx_bytes)
    at = 0
    for (span, form, _, sizes), (book, run_tables) in zip(shapes, tables, strict=True):
        runs = tuple(
            tensors.Run(code=code, table=table, data=codes_left.take(size))
            for (code, _, size), table in zip(sizes, run_tables, strict=True)
        )
        data[at : span.start] = reader.take(span.start - at)
        at = span.start + span.size
        data[span.start : at] = tensors.decode(tensors.Coded(form=form, book=book, runs=runs), span.size, span.item)
    data[at:] = reader.take(onnx_bytes - at)
    if codes_left.left or len(data) != onnx_bytes:
        raise ValueError("its parts do not add up to the file")
    return data


def _shape(reader: _Reader) -> tuple[wire.Span, int, int, list[tuple[int, ...]]]:
    start, size, item, form, runs, book = reader.record(_TENSOR)
    if not item or size % item or runs > item + 1:
        raise ValueError("a tensor has no form that is known")
    return wire.Span(start=start, size=size, item=item), form, book, [reader.record(_RUN) for _ in range(runs)]


def _check_places(spans: list[wire.Span], onnx_bytes: int) -> None:
    at = 0
    for span in spans:
        if span.start < at:
            raise ValueError("tensors overlap")
        at = span.start + span.size
    if at > onnx_bytes:
        raise ValueError("a tensor ends beyond the model")


def _body_start(packed: bytes) -> int:
    return _HEADER.size + _CRC.size + int(_HEADER.unpack_from(packed)[-1])


def _one_file(model: Path) -> bytes:
    """The bytes of an ONNX file, with its external data taken in where it has any."""
    data = _read(model)
    try:
        proto = onnx.load_model_from_string(data)
        if _has_outside(proto):
            onnx.load_external_data_for_model(proto, str(model.parent))
            data = bytes(proto.SerializeToString())
    except Exception as exc:  # protobuf, onnx and the file system raise unrelated types
        raise ModelError(f"it cannot be read as ONNX: {exc}", where=str(model)) from exc
    return data


def _has_outside(message: Any) -> bool:
    """Whether a tensor anywhere in a message, bodies of control flow and attributes included, lies in another file."""
    if isinstance(message, onnx.TensorProto):
        return bool(message.data_location == onnx.TensorProto.EXTERNAL)
    inner = [content for field, content in message.ListFields() if field.message_type is not None]
    return any(any(map(_has_outside, [part] if hasattr(part, "ListFields") else part)) for part in inner)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ModelError(f"it cannot be read: {exc.strerror}", where=str(path), hint="check the path") from exc


def _write(out: Path, data: bytes) -> None:
    if not out.name:
        raise StorageError("is a folder", where=str(out), hint="name a file")
    partial = out.with_name(f"{out.name}.part")
    try:
        partial.write_bytes(data)
        os.replace(partial, out)
    except OSError as exc:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise StorageError(f"cannot be written: {exc.strerror}", where=str(out)) from exc
