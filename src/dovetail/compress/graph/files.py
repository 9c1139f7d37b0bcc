"""Reads and writes the model files that passes hand on."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Model

MAX_INLINE_BYTES = 1_500_000_000
"""Protobuf messages end at 2 GiB; larger models keep their weights in ``model.onnx.data``."""


def load(model: Model) -> ir.Model:
    """The graph of a model file; weights in external files are read when they are touched.

    Raises:
        ModelError: the file is not a readable ONNX model.
    """
    try:
        return ir.load(model.path)
    except Exception as exc:  # protobuf, onnx_ir and the file system raise unrelated types
        raise ModelError(f"cannot read the model: {exc}", where=str(model.path)) from exc


def save(graph_model: ir.Model, workdir: Path) -> Model:
    """Writes ``workdir/model.onnx``, with external data where one file cannot hold it; the graph must not be used after."""
    path = workdir / "model.onnx"
    NameFixPass()(graph_model)
    _forget_inferable_types(graph_model)
    weight_bytes = sum(
        value.const_value.nbytes
        for graph in graph_model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    )
    if weight_bytes > MAX_INLINE_BYTES:
        ir.save(graph_model, path, external_data=path.name + ".data")
    else:
        ir.external_data.load_to_model(graph_model)
        ir.save(graph_model, path)
    return Model(path=path)


def _forget_inferable_types(graph_model: ir.Model) -> None:
    """Drops type annotations that tensors or inference give back: a tenth of a small model's file.

    Annotated initialisers also break ``onnxruntime.quantization.quantize_dynamic``, which transposes weights but not their
    annotations. An annotation without a type stops inference at every reader. Values next to operators of other domains keep
    theirs, since those cannot be inferred.
    """
    standard = set(graph_model.opset_imports) <= {"", "ai.onnx"}
    for graph in graph_model.graphs():
        values = [*graph.initializers.values(), *(v for node in graph for v in node.outputs if standard)]
        for value in values:
            if not (value.is_graph_output() or value.is_graph_input()):
                value.type, value.shape = None, None
                value.metadata_props.clear()  # kept alone, they would be written as an annotation without a type


def opset(graph_model: ir.Model) -> int:
    """Version of the standard operator set that the model imports; the newest where it uses none of it."""
    return int(graph_model.opset_imports.get("", onnx.defs.onnx_opset_version()))
