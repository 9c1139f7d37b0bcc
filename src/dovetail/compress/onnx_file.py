"""Loads and saves ONNX files for quantisers, and refuses what they cannot digest with one clear message."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Model

MIN_OPSET = 13
"""Per-channel DequantizeLinear came with opset 13."""
MAX_BYTES = 1_900_000_000
"""Weights that protobuf's 2 GiB hold beside the graph; the vendors' quantisers copy models through it."""


def load(model: Model, *, where: str) -> Any:
    """Reads an ONNX model, external data included, and infers its shapes anew.

    Shape annotations in the file are dropped first: exporters leave wrong ones, on which strict inference fails. Nodes
    without a name get ``<type>_<index>``.

    Args:
        model: an ONNX file.
        where: the pass, for messages.

    Returns:
        ``onnx.ModelProto``.

    Raises:
        ModelError: not ONNX, an opset that cannot be quantised, a graph that is quantised already, or one of more than 2 GB.
    """
    import onnx

    try:
        proto = onnx.load(model.path)
    except Exception as exc:
        raise ModelError(f"cannot be read as ONNX: {exc}", where=str(model.path)) from exc
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < MIN_OPSET:
        raise ModelError(f"{where} needs opset {MIN_OPSET} or newer, this model has {opset}", hint="normalise the model first")
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv") for node in proto.graph.node):
        raise ModelError(f"{where} needs a float model, this one is quantised already", where=str(model.path))
    if sum(len(tensor.raw_data) for tensor in proto.graph.initializer) > MAX_BYTES:
        raise ModelError(
            f"{where} takes models up to 2 GB", where=str(model.path), hint="use target=openvino, which has no limit"
        )
    del proto.graph.value_info[:]
    for index, node in enumerate(proto.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    return onnx.shape_inference.infer_shapes(proto)


def save(proto: Any, path: Path) -> Model:
    """Writes an ONNX model in one file."""
    import onnx

    onnx.save_model(proto, path)
    return Model(path=path)


def constants(proto: Any) -> dict[str, Any]:
    """Initialiser name → ``TensorProto`` of the main graph."""
    return {tensor.name: tensor for tensor in proto.graph.initializer}


def check_names(proto: Any, names: Collection[str], where: str) -> None:
    """Raises an :class:`InputError` when a name is not a node of the main graph."""
    missing = sorted(set(names) - {node.name for node in proto.graph.node})
    if missing:
        raise InputError(f"no operator is named {', '.join(map(repr, missing))}", where=where, hint="see `dovetail analyze`")
