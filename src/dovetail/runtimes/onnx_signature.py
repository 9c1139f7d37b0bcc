"""Inputs and outputs of an ONNX file, for runtimes that do not read them themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dovetail.core.errors import ModelError
from dovetail.core.protocols import TensorSpec


def read_signature(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs (constants that old models list among them left out) and outputs; weights beside the file are not read.

    Raises:
        ModelError: not an ONNX file, or an input or output that is not a tensor.
    """
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:
        raise ModelError(f"not an ONNX file: {error}", where=str(path)) from error
    constants = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_spec(value, path) for value in graph.input if value.name not in constants)
    return inputs, tuple(_spec(value, path) for value in graph.output)


def _spec(value: Any, path: Path) -> TensorSpec:
    from onnx.helper import tensor_dtype_to_np_dtype

    if not value.type.HasField("tensor_type"):
        raise ModelError(f"{value.name} is not a tensor; only tensors are taken", where=str(path))
    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim)
    return TensorSpec(name=value.name, dtype=tensor_dtype_to_np_dtype(tensor.elem_type).name, shape=shape)
