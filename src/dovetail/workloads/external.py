"""Weights that lie in a file beside the model: where they may lie, and how they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx

from dovetail.core.errors import ModelError

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRange:
    """Where one tensor's bytes lie: a file inside the model's folder, and a range of it."""

    path: Path
    offset: int
    length: int

    def read(self) -> bytes:
        """All bytes of the range."""
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        """The range in pieces of at most 1 MiB.

        Raises:
            ModelError: the file became shorter, or cannot be read.
        """
        left = self.length
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                while left:
                    piece = file.read(min(left, _CHUNK_BYTES))
                    if not piece:
                        raise ModelError("the weight file ends too early", where=str(self.path), hint="copy it again")
                    left -= len(piece)
                    yield piece
        except OSError as exc:
            raise ModelError(f"cannot read the weights: {exc.strerror}", where=str(self.path)) from exc


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's bytes lie in another file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def locate(tensor: onnx.TensorProto, folder: Path, n_bytes: int) -> DataRange:
    """Finds and checks the range that holds one tensor.

    Args:
        tensor: a tensor with external data.
        folder: the folder of the model; the range may not lie outside it.
        n_bytes: what the tensor's shape and type need.

    Raises:
        ModelError: the path leaves the folder, or the file is absent or too short.
    """
    fields = {entry.key: entry.value for entry in tensor.external_data}
    where = f"external data of tensor {tensor.name!r}"
    path = _inside(folder, fields.get("location", ""), where)
    try:
        size = path.stat().st_size
    except OSError as exc:
        raise ModelError(
            f"the weight file {path.name!r} is missing", where=where, hint=f"put it beside the model, in {folder}"
        ) from exc
    offset, length = _number(fields, "offset", 0, where), _number(fields, "length", n_bytes, where)
    if length != n_bytes:
        raise ModelError(f"its range has {length} bytes, its shape needs {n_bytes}", where=where)
    if not path.is_file() or offset + length > size:
        raise ModelError(
            f"the weight file {path.name!r} has {size} bytes, this tensor needs {offset + length}",
            where=where,
            hint="the file is truncated or belongs to another model: copy it again",
        )
    return DataRange(path=path, offset=offset, length=length)


def relocate(tensor: onnx.TensorProto, location: str, found: DataRange, start: int) -> None:
    """Says that a tensor's range now lies in the file ``location``, where its old file begins at the byte ``start``."""
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", start + found.offset), ("length", found.length)):
        tensor.external_data.add(key=key, value=str(value))


def _inside(folder: Path, location: str, where: str) -> Path:
    """The file a location names, symbolic links followed; refuses any that lies outside the model's folder."""
    relative = PurePosixPath(location.replace("\\", "/"))
    hint = "external data must lie in the folder of the model; copy the files (not links to them) there"
    if not location or "\0" in location:
        raise ModelError("it names no file", where=where)
    if relative.is_absolute() or PureWindowsPath(location).drive or ".." in relative.parts:
        raise ModelError(f"the path {location!r} leaves the model's folder", where=where, hint=hint)
    try:
        root = folder.resolve()
        path = (root / relative).resolve()
    except (OSError, RuntimeError) as exc:
        raise ModelError(f"the path {location!r} cannot be followed", where=where) from exc
    if not path.is_relative_to(root):
        raise ModelError(f"the path {location!r} leaves the model's folder through a link", where=where, hint=hint)
    return path


def _number(fields: dict[str, str], key: str, default: int, where: str) -> int:
    text = fields.get(key)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise ModelError(f"its {key} {text[:20]!r} is not a number of bytes", where=where)
    return int(text)
