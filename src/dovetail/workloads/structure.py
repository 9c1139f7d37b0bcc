"""Checks of a parsed ONNX model that need no native code: they run in the parent process, on files from anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from graphlib import CycleError, TopologicalSorter

import onnx
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from dovetail.core.errors import ModelError
from dovetail.workloads import graphs

OLDEST_OPSET = 7
"""ONNX Runtime takes opset 7 and later."""

# Domains that some runtime implements; any other must come with functions that define its operators.
_KNOWN_DOMAINS = frozenset({
    "", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "ai.onnx.preview",
    "com.microsoft", "com.microsoft.nchwc", "org.openvinotoolkit",
})  # fmt: skip
# Operators that ONNX Runtime keeps in the default domain although the standard does not have them at every opset.
_RUNTIME_OPERATORS = frozenset({"LayerNormalization", "SimplifiedLayerNormalization"})

_SUB_BYTE_BITS = {
    getattr(TensorProto, name): bits
    for name, bits in {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}.items()
    if hasattr(TensorProto, name)
}


def tensor_bytes(data_type: int, n_elements: int) -> int:
    """Bytes that a tensor of some elements takes when packed as ONNX packs it.

    Raises:
        ModelError: the element type is unknown or has no fixed size.
    """
    if data_type in _SUB_BYTE_BITS:
        return math.ceil(n_elements * _SUB_BYTE_BITS[data_type] / 8)
    try:
        return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize) * n_elements
    except KeyError as exc:
        raise ModelError(f"tensor element type {data_type} is unknown") from exc


def check_opsets(model: ModelProto) -> None:
    """Refuses operator sets that are too old, too new or unknown.

    Raises:
        ModelError: names the domain and version, and what to do.
    """
    versions = graphs.opsets(model)
    version, newest = versions.get(""), onnx.defs.onnx_opset_version()
    functions = {(graphs.domain(function.domain), function.name) for function in model.functions}
    if version is None and not versions:
        raise ModelError("it imports no operator set", where="opset_import", hint="the file is damaged: export it again")
    if version is not None and version > newest:
        raise ModelError(
            f"it needs ONNX opset {version}; the installed onnx {onnx.__version__} knows up to {newest}",
            where="opset_import",
            hint=f"upgrade onnx, or export with an opset of at most {newest}",
        )
    if version is not None and version < OLDEST_OPSET:
        raise ModelError(
            f"it has ONNX opset {version}; {OLDEST_OPSET} is the oldest that is taken",
            where="opset_import",
            hint="export it again with opset 17 or later, or try onnx.version_converter",
        )
    for body in (model.graph, *model.functions):
        for node in graphs.all_nodes(body):
            _check_operator(node, versions, functions)


def _check_operator(node: NodeProto, versions: Mapping[str, int], functions: Set[tuple[str, str]]) -> None:
    domain, where = graphs.domain(node.domain), f"node {node.name!r} ({node.op_type})"
    if not node.op_type:
        raise ModelError("a node has no operator type", where=where, hint="the file is damaged: export it again")
    if (domain, node.op_type) in functions:
        return
    if domain not in _KNOWN_DOMAINS:
        raise ModelError(
            f"no runtime knows operators of the domain {domain!r}",
            where=where,
            hint="export the model with standard operators; custom operator libraries are not taken",
        )
    if domain not in versions:
        raise ModelError(f"the model does not say which version of the domain {domain!r} it uses", where=where)
    if domain == "" and node.op_type not in _RUNTIME_OPERATORS:
        try:
            onnx.defs.get_schema(node.op_type, versions[""], "")
        except onnx.defs.SchemaError as exc:
            raise ModelError(
                f"ONNX opset {versions['']} has no operator {node.op_type!r}",
                where=where,
                hint="export the model again with standard operators",
            ) from exc


def check_graph(graph: GraphProto | FunctionProto, outer: Set[str] = frozenset()) -> None:
    """Checks names: each is produced once, everything that is read exists, and no value depends on itself.

    Args:
        graph: the main graph, a nested one, or a function.
        outer: names visible from enclosing graphs.

    Raises:
        ModelError: names the node or value at fault.
    """
    given = _given_names(graph)
    made: set[str] = set()
    for node in graph.node:
        for name in filter(None, node.output):
            if name in made or name in given:
                raise ModelError(f"two nodes produce {name!r}", where=f"node {node.name!r} ({node.op_type})")
            made.add(name)
    visible = outer | given | made
    for node in graph.node:
        for name in node.input:
            if name and name not in visible:
                raise ModelError(
                    f"it reads {name!r}, which no input, initialiser or node provides",
                    where=f"node {node.name!r} ({node.op_type})",
                    hint="the file is damaged or was cut wrongly: export it again",
                )
    for output in graph.output:
        name = output if isinstance(output, str) else output.name
        if name not in visible:
            raise ModelError(f"nothing produces the output {name!r}", where=f"graph {graph.name!r}")
    for node in graph.node:
        for _, inner in graphs.subgraphs(node):
            check_graph(inner, visible)
    _check_acyclic(graph)


def _given_names(graph: GraphProto | FunctionProto) -> set[str]:
    if isinstance(graph, FunctionProto):
        return set(graph.input)
    given = {tensor.name for tensor in graph.initializer}
    given |= {sparse.values.name for sparse in graph.sparse_initializer}
    return given | {value.name for value in graph.input}


def _check_acyclic(graph: GraphProto | FunctionProto) -> None:
    try:
        TopologicalSorter(graphs.needs(graph)).prepare()
    except CycleError as exc:
        node = graph.node[exc.args[1][0]]
        raise ModelError(
            "the graph has a cycle: this node needs its own result", where=f"node {node.name!r} ({node.op_type})"
        ) from exc


def check_interface(graph: GraphProto) -> None:
    """Checks that the model has outputs and that inputs and outputs are named and typed.

    Raises:
        ModelError: names the input or output at fault.
    """
    if not graph.output:
        raise ModelError("the model has no outputs", hint="the file is damaged or empty: export it again")
    for kind, values in (("input", graph.input), ("output", graph.output)):
        seen: set[str] = set()
        for value in values:
            if not value.name or value.name in seen:
                raise ModelError(f"an {kind} has no name of its own: {value.name!r}", where=f"{kind}s of the model")
            seen.add(value.name)
        for value in graph.input if kind == "input" else ():
            if value.type.WhichOneof("value") is None:
                raise ModelError(f"the input {value.name!r} has no type", hint="export the model again")


def check_tensor(tensor: TensorProto) -> None:
    """Checks that a tensor stored in the model holds as many values as its shape says.

    Raises:
        ModelError: names the tensor, what it holds and what it should.
    """
    where = f"tensor {tensor.name!r}"
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"its shape {list(tensor.dims)} has a negative size", where=where)
    n_elements = math.prod(tensor.dims)
    if tensor.data_type == TensorProto.STRING:
        found, needed, unit = len(tensor.string_data), n_elements, "strings"
    elif tensor.HasField("raw_data"):
        found, needed, unit = len(tensor.raw_data), tensor_bytes(tensor.data_type, n_elements), "bytes"
    else:
        found, needed, unit = _typed_length(tensor, n_elements)
    if found != needed:
        raise ModelError(
            f"it holds {found} {unit}, its shape {list(tensor.dims)} needs {needed}",
            where=where,
            hint="the file is damaged: copy or export it again",
        )


def _typed_length(tensor: TensorProto, n_elements: int) -> tuple[int, int, str]:
    """Values found and needed in the typed field that stores this element type."""
    try:
        field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
    except KeyError as exc:
        raise ModelError(f"element type {tensor.data_type} is unknown", where=f"tensor {tensor.name!r}") from exc
    if tensor.data_type in _SUB_BYTE_BITS:
        n_elements = math.ceil(n_elements * _SUB_BYTE_BITS[tensor.data_type] / 8)
    elif tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        n_elements *= 2
    return len(getattr(tensor, field)), n_elements, "values"
