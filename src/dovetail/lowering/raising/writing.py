"""Checks an ONNX graph against the file that it came from, and writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from dovetail.core.errors import ModelError, StorageError
from dovetail.core.protocols import Array
from dovetail.lowering.litert_file import LiteRtFile, LiteRtTensor
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.values import is_quantised
from dovetail.lowering.tensors import Order

INLINE_LIMIT_BYTES = 1_800_000_000
"""Above this the weights lie beside the model: one protobuf message ends at 2 GiB."""
BATCH = "batch"
_SHOWN_ELEMENTS = 1024
"""Constants up to this size may be shapes, which inference must see."""


class Contradiction(ModelError):
    """A shape that follows from the operators is not the one that the file gives."""


@dataclass(frozen=True, slots=True)
class Light:
    """A model whose large constants are declared as inputs, so that checks need not carry them."""

    proto: onnx.ModelProto
    large: frozenset[str]


def checked(graph: Graph, file: LiteRtFile, made: Mapping[LiteRtTensor, tuple[str, Order]]) -> Light:
    """The finished model without its large constants.

    Raises:
        ModelError: onnx's checker refuses it.
        Contradiction: shapes differ from the file's.
    """
    light = _light(graph, file)
    try:
        onnx.checker.check_model(light.proto)
        inferred = onnx.shape_inference.infer_shapes(light.proto, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as exc:
        raise Contradiction(f"its operators do not fit together: {str(exc).strip().splitlines()[-1][:200]}") from exc
    found = {value.name: value.type.tensor_type for value in inferred.graph.value_info}
    for tensor, (name, order) in made.items():
        if name in found:
            _compare(graph, tensor, found[name], order)
    _declare_outputs(graph, file, light.proto, inferred)
    return light


def _light(graph: Graph, file: LiteRtFile) -> Light:
    inputs = [_declared(name, tensor, graph) for name, tensor in dict(file.inputs).items()]
    outputs = []
    for name, tensor in file.outputs:
        shape = [None if size < 0 else size for size in graph.sizes(tensor)]
        outputs.append(onnx.helper.make_tensor_value_info(name, _kind(tensor.dtype), shape))
    small, large = [], []
    for name, value in graph.initializers.items():
        if value.size <= _SHOWN_ELEMENTS:
            small.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))
        else:
            large.append(onnx.helper.make_tensor_value_info(name, _kind(value.dtype.name), value.shape))
    proto = onnx.helper.make_graph(graph.nodes, "main", [*inputs, *large], outputs, small)
    opset = onnx.helper.make_opsetid("", graph.opset)
    version = onnx.helper.find_min_ir_version_for([opset])
    model = onnx.helper.make_model(proto, opset_imports=[opset], ir_version=version, producer_name="dovetail")
    return Light(model, frozenset(value.name for value in large))


def _declared(name: str, tensor: LiteRtTensor, graph: Graph) -> onnx.ValueInfoProto:
    shape = [_open_size(name, axis) if size < 0 else size for axis, size in enumerate(graph.sizes(tensor))]
    return onnx.helper.make_tensor_value_info(name, _kind(tensor.dtype), shape)


def _open_size(name: str, axis: int) -> str:
    return BATCH if axis == 0 else f"{name}_{axis}"


def _kind(dtype: str) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _compare(graph: Graph, tensor: LiteRtTensor, found: onnx.TypeProto.Tensor, order: Order) -> None:
    """Compares what follows from the operators with what the file says."""
    expected = [graph.sizes(tensor)[axis] for axis in order]
    sizes = [d.dim_value if d.HasField("dim_value") else None for d in found.shape.dim]
    fits = not found.HasField("shape") or (
        len(sizes) == len(expected) and all(s is None or s == e for s, e in zip(sizes, expected, strict=True))
    )
    if not fits:
        raise Contradiction(f"tensor {tensor.name!r} is said to be {expected}, and its operator makes {sizes}")
    if found.elem_type != _kind(tensor.dtype) and not is_quantised(tensor):
        raise Contradiction(f"tensor {tensor.name!r} is said to hold {tensor.dtype}, and its operator makes another type")


def _declare_outputs(graph: Graph, file: LiteRtFile, model: onnx.ModelProto, inferred: onnx.ModelProto) -> None:
    """Gives outputs the shapes of the file, their open sizes the names that inference found."""
    inner = {value.name: value.type.tensor_type for value in inferred.graph.output}
    for value, (name, tensor) in zip(model.graph.output, file.outputs, strict=True):
        found = inner[name]
        if found.HasField("shape"):
            _compare(graph, tensor, found, tuple(range(tensor.rank)))
        names = [d.dim_param for d in found.shape.dim] if found.HasField("shape") else [""] * tensor.rank
        shape = [
            size if size >= 0 else names[axis] if _is_name(names[axis]) else f"{name}_{axis}"
            for axis, size in enumerate(graph.sizes(tensor))
        ]
        value.CopyFrom(onnx.helper.make_tensor_value_info(name, _kind(tensor.dtype), shape))


def _is_name(name: str) -> bool:
    return bool(name) and not name.startswith("unk__")


def save(light: Light, initializers: Mapping[str, Array], out: Path) -> None:
    """Adds the large constants and writes the model; beside it, in ``<out>.data``, where one file could not hold them.

    Raises:
        StorageError: it cannot be written.
    """
    model = light.proto
    kept = [value for value in model.graph.input if value.name not in light.large]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    for name in (n for n in initializers if n in light.large):
        value = initializers[name]
        stored = TensorProto(name=name, data_type=_kind(value.dtype.name), dims=value.shape, raw_data=value.tobytes())
        model.graph.initializer.append(stored)
    large = sum(initializers[name].nbytes for name in light.large) >= INLINE_LIMIT_BYTES
    try:
        if large:
            onnx.save(model, str(out), save_as_external_data=True, location=f"{out.name}.data", size_threshold=1024)
        else:
            out.write_bytes(model.SerializeToString())
    except OSError as exc:
        raise StorageError(f"the model cannot be written: {exc.strerror}", where=str(out)) from exc
