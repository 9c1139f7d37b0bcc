"""Reads ONNX files from anywhere. All of this runs in the parent process: parsing and plain checks, no native graph code."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import ModelProto, TensorProto, TypeProto, ValueInfoProto

from dovetail.core.errors import ModelError
from dovetail.core.protocols import TensorSpec
from dovetail.workloads import external, formats, graphs, structure

_PROTOBUF_LIMIT_BYTES = 2**31
_PAGE_BYTES = 4096
_EXPORT_AGAIN = "copy or export the file again"


def load_onnx(path: str | Path, *, weights: bool = True) -> ModelProto:
    """Reads and checks an ONNX model.

    Args:
        path: the ``.onnx`` file; external data must lie in its folder.
        weights: read external data into the model; otherwise they are only checked to be there.

    Raises:
        ModelError: the file is missing, empty, truncated, of another format, inconsistent, needs operators or versions that
            are unknown, or its external data are absent, too short or outside its folder.
    """
    path = Path(path)
    model = _parse(path)
    try:
        _check(model)
        for tensor in graphs.all_tensors(model):
            _resolve(tensor, path.parent, weights)
    except ModelError as exc:
        raise ModelError(exc.what, where=f"{path}: {exc.where}" if exc.where else str(path), hint=exc.hint) from exc
    except UnicodeDecodeError as exc:
        raise ModelError("it holds a name that is not text", where=str(path), hint=f"it is damaged: {_EXPORT_AGAIN}") from exc
    return model


def _check(model: ModelProto) -> None:
    structure.check_opsets(model)
    structure.check_interface(model.graph)
    structure.check_graph(model.graph)
    for function in model.functions:
        structure.check_graph(function)


def _resolve(tensor: TensorProto, folder: Path, weights: bool) -> None:
    """Checks one tensor, and reads it into the model where its bytes lie outside."""
    if not external.is_external(tensor):
        structure.check_tensor(tensor)
        return
    found = _range(tensor, folder)
    if weights:
        tensor.raw_data = found.read()
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _range(tensor: TensorProto, folder: Path) -> external.DataRange:
    n_elements = 1
    for dim in tensor.dims:
        if dim < 0:
            raise ModelError(f"its shape {list(tensor.dims)} has a negative size", where=f"tensor {tensor.name!r}")
        n_elements *= dim
    return external.locate(tensor, folder, structure.tensor_bytes(tensor.data_type, n_elements))


def _parse(path: Path) -> ModelProto:
    """Reads the message alone, with a clear refusal of everything that is not an ONNX model."""
    data = _read(path)
    model = ModelProto()
    known = formats.guess(path, data[:64])
    try:
        model.ParseFromString(data)
    except DecodeError as exc:
        raise _not_onnx(path, known) from exc
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise _not_onnx(path, known)
    return model


def _read(path: Path) -> bytes:
    where = str(path)
    try:
        if path.is_dir():
            raise ModelError("it is a folder", where=where, hint="name the .onnx file in it")
        if not path.exists():
            raise ModelError("there is no such file", where=where, hint="check the path")
        if not path.is_file():
            raise ModelError("it is not a regular file", where=where)
        size = path.stat().st_size
        if size == 0:
            raise ModelError("the file is empty", where=where, hint=_EXPORT_AGAIN)
        if size >= _PROTOBUF_LIMIT_BYTES:
            raise ModelError(
                f"it has {size} bytes; one ONNX message cannot have more than 2 GiB",
                where=where,
                hint="save it with external data: onnx.save(model, path, save_as_external_data=True)",
            )
        return path.read_bytes()
    except (OSError, ValueError) as exc:
        if isinstance(exc, ModelError):
            raise
        raise ModelError(f"the file cannot be read: {exc}", where=where) from exc


def _not_onnx(path: Path, known: tuple[str, str] | None) -> ModelError:
    if known:
        return ModelError(f"it is not an ONNX model but seems to be {known[0]}", where=str(path), hint=known[1])
    if path.suffix.lower() == ".onnx":
        return ModelError("the ONNX file is truncated or damaged", where=str(path), hint=_EXPORT_AGAIN)
    return ModelError("it is not an ONNX model", where=str(path), hint="give an .onnx file, a .pt2 file or file.py:factory")


def weight_files(path: str | Path) -> tuple[Path, ...]:
    """The files beside a model that hold weights of it, links followed, in the order in which it names them.

    Raises:
        ModelError: the file cannot be read as a model, or its external data are absent, too short or outside its folder.
    """
    path = Path(path)
    outside = filter(external.is_external, graphs.all_tensors(_parse(path)))
    return tuple(dict.fromkeys(_range(tensor, path.parent).path for tensor in outside))


def gather(path: str | Path, out: Path) -> None:
    """Writes a copy of a model that has all its external data in ``<out>.data``.

    Weight files are copied whole, each from a page's start on, so that every range lies in its page as it did.

    Raises:
        ModelError: as :func:`weight_files`.
    """
    path, data = Path(path), out.with_name(f"{out.name}.data")
    model = _parse(path)
    starts: dict[Path, int] = {}
    for tensor in filter(external.is_external, graphs.all_tensors(model)):
        found = _range(tensor, path.parent)
        if found.path not in starts:
            with found.path.open("rb") as source, data.open("ab") as file:
                starts[found.path] = file.truncate(-(-file.tell() // _PAGE_BYTES) * _PAGE_BYTES)
                shutil.copyfileobj(source, file)
        external.relocate(tensor, data.name, found, starts[found.path])
    out.write_bytes(model.SerializeToString())


def content_hash(path: str | Path) -> str:
    """Sixteen hex digits over all that decides what a model computes; the same whether weights lie inside or beside it.

    SHA-256 of every stored tensor's bytes in order of storage, then of the message without them.

    Raises:
        ModelError: the file cannot be read as a model, or its external data cannot.
    """
    path = Path(path)
    return _digest(_parse(path), path.parent)


def proto_hash(model: ModelProto) -> str:
    """The same as :func:`content_hash` of a model in memory, all of whose weights are in it."""
    copy = ModelProto()
    copy.CopyFrom(model)
    return _digest(copy, Path())


def _digest(model: ModelProto, folder: Path) -> str:
    """Hashes a model and empties its tensors on the way, so that nothing is copied."""
    digest = hashlib.sha256()
    for tensor in graphs.all_tensors(model):
        if external.is_external(tensor):
            for piece in _range(tensor, folder).chunks():
                digest.update(piece)
            tensor.ClearField("external_data")
        else:
            digest.update(tensor.raw_data)
            tensor.ClearField("raw_data")
        tensor.ClearField("data_location")
    try:
        digest.update(model.SerializeToString(deterministic=True))
    except EncodeError as exc:
        raise ModelError("the model without its weights is still larger than 2 GiB") from exc
    return digest.hexdigest()[:16]


def signature(model: ModelProto) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs that a caller must give, and outputs, in the model's order; initialisers listed as inputs are left out.

    An output whose rank the model does not declare has the shape ``()``, as ONNX Runtime reports it.

    Raises:
        ModelError: an input or output is not a tensor, or the rank of an input is not declared.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    stored |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    for value in inputs:
        if _tensor_type(value).HasField("shape"):
            continue
        raise ModelError("its number of dimensions is not declared", where=f"input {value.name!r}", hint="export with shapes")
    return tuple(map(_spec, inputs)), tuple(map(_spec, model.graph.output))


def _tensor_type(value: ValueInfoProto) -> TypeProto.Tensor:
    if value.type.WhichOneof("value") != "tensor_type":
        kind = (value.type.WhichOneof("value") or "untyped value").replace("_type", "")
        raise ModelError(
            f"it is a {kind}; only tensors go in and out of a model here",
            where=f"{value.name!r}",
            hint="cut the operator that makes it off the end of the graph (for scikit-learn exports: zipmap=False)",
        )
    return value.type.tensor_type


def _spec(value: ValueInfoProto) -> TensorSpec:
    tensor = _tensor_type(value)
    return TensorSpec(name=value.name, dtype=dtype_name(tensor.elem_type), shape=tuple(map(_size, tensor.shape.dim)))


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return str(dim.dim_param) or None


def dtype_name(elem_type: int) -> str:
    """The numpy name of an ONNX element type; ``str`` for strings.

    Raises:
        ModelError: the type is undefined or unknown.
    """
    if elem_type == TensorProto.STRING:
        return "str"
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(elem_type).name)
    except KeyError as exc:
        raise ModelError(f"tensor element type {elem_type} is unknown", hint=_EXPORT_AGAIN) from exc
