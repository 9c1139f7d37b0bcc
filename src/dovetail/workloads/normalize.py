"""Rewrites a model so that every tool downstream takes it, without changing what it computes.

Quantisers and converters fail on old opsets, on weights beside the model, on stale shape annotations and on shape arithmetic
in front of ``Pad`` or ``Reshape``. This step removes all of that once. It calls native code of onnx on graphs from anywhere,
so the pipeline runs it in a child process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.checker
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir
from onnx import GraphProto, ModelProto, TensorShapeProto, ValueInfoProto

from dovetail.core.errors import InputError, ModelError, StorageError
from dovetail.workloads import graphs
from dovetail.workloads.load import load_onnx
from dovetail.workloads.ort_limits import RuntimeLimits, runtime_limits

TARGET_OPSET = 17
"""Lowest opset of a normalised model: per-channel quantisation needs 13, ``LayerNormalization`` is one operator from 17."""

INLINE_LIMIT_BYTES = 1_800_000_000
"""Above this the weights lie beside the model: one protobuf message ends at 2 GiB, and native checks need room in it."""

_FOLD_LIMIT = 8192
# Operators of shape arithmetic. Only these are folded: weights and already quantised constants stay what they are.
_FOLDED = frozenset({
    "Abs", "Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Floor", "Gather", "Greater",
    "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Range", "ReduceMax",
    "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "ScatterND", "Shape", "Size", "Slice", "Sqrt", "Squeeze", "Sub", "Tile",
    "Transpose", "Unsqueeze", "Where",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizeReport:
    """What normalisation did.

    Attributes:
        steps: one phrase per change, in order.
        notes: what could not be done, and why; the model runs all the same.
        opset: version of the default domain before and after.
        nodes: number of nodes before and after, nested graphs included.
    """

    steps: tuple[str, ...]
    notes: tuple[str, ...]
    opset: tuple[int, int]
    nodes: tuple[int, int]


class _Log:
    """Collects the phrases of a report."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.notes: list[str] = []

    def count(self, n: int, phrase: str) -> None:
        if n:
            self.steps.append(f"{phrase}: {n}")


def normalize(source: Path, out: Path, *, fixed_dims: Mapping[str, int] | None = None) -> NormalizeReport:
    """Writes an equivalent model with the same inputs and outputs.

    Args:
        source: an ONNX file, with its external data beside it.
        out: file to write; weights of 1.8 GB and more go to ``<out>.data`` beside it.
        fixed_dims: symbolic dimension → size to set it to.

    Raises:
        ModelError: the model is not valid, or the installed ONNX Runtime is too old for it.
        InputError: ``fixed_dims`` names a dimension that the model does not have.
        StorageError: the result cannot be written.
    """
    model, log = load_onnx(source), _Log()
    opset, n_nodes = graphs.opsets(model).get("", 0), _count_nodes(model.graph)
    limits = runtime_limits()
    declared = [_copy(value) for value in model.graph.output]
    _strip_annotations(model, log)
    model = _check_and_inline(model, str(source), log)
    _fix_dims(model, declared, fixed_dims or {}, log)
    _hide_initializers(model, log)
    _drop_masks(model.graph, log)
    model = _convert_opset(model, str(source), limits, log)
    model = _clean(model, log)
    _restore_outputs(model.graph, declared)
    _set_ir_version(model, limits, log)
    _save(model, out)
    after = graphs.opsets(model).get("", 0)
    return NormalizeReport(
        steps=tuple(log.steps), notes=tuple(log.notes), opset=(opset, after), nodes=(n_nodes, _count_nodes(model.graph))
    )


def _count_nodes(graph: GraphProto) -> int:
    return sum(1 for _ in graphs.all_nodes(graph))


def _copy(value: ValueInfoProto) -> ValueInfoProto:
    copy = ValueInfoProto()
    copy.CopyFrom(value)
    return copy


def _weight_bytes(model: ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in graphs.all_tensors(model))


def _strip_annotations(model: ModelProto, log: _Log) -> None:
    """Removes inferred shapes: exporters bake in those of their example, and tools then trust them."""
    n_values = 0
    for graph in graphs.all_graphs(model.graph):
        n_values += len(graph.value_info)
        del graph.value_info[:]
    for function in model.functions:
        del function.value_info[:]
    log.count(n_values, "shape annotations inferred anew")


def _check_and_inline(model: ModelProto, where: str, log: _Log) -> ModelProto:
    """Runs the checker of onnx and replaces calls of model-local functions by their bodies."""
    if _weight_bytes(model) >= INLINE_LIMIT_BYTES:
        log.notes.append("too large for the checker of onnx; checked by its structure alone")
        return model
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as exc:
        reason = str(exc).strip().splitlines()[0]
        if "No Op registered" not in reason:
            raise ModelError(f"the graph is not valid: {reason}", where=where, hint="export the model again") from exc
        log.notes.append(f"not checked by onnx: {reason}")
    if not model.functions:
        return model
    log.count(len(model.functions), "local functions inlined")
    return onnx.inliner.inline_local_functions(model)


def _fix_dims(model: ModelProto, declared: list[ValueInfoProto], fixed: Mapping[str, int], log: _Log) -> None:
    """Gives symbolic dimensions of the inputs and outputs their sizes."""
    found: set[str] = set()
    for value in (*model.graph.input, *declared):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in fixed:
                found.add(dim.dim_param)
                dim.dim_value = fixed[dim.dim_param]
    unknown = sorted(fixed.keys() - found)
    if unknown:
        raise InputError(f"the model has no symbolic dimension {unknown[0]!r}", hint="look at the shapes of its inputs")
    log.steps.extend(f"dimension {name} fixed to {fixed[name]}" for name in sorted(found))


def _hide_initializers(model: ModelProto, log: _Log) -> None:
    """Initialisers listed as inputs (the rule before IR version 4) stop tools from treating them as constants."""
    graph = model.graph
    model.ir_version = max(model.ir_version, 4)
    stored = {tensor.name for tensor in graph.initializer} | {sparse.values.name for sparse in graph.sparse_initializer}
    kept = [value for value in graph.input if value.name not in stored]
    log.count(len(graph.input) - len(kept), "initialisers no longer listed as inputs")
    del graph.input[:]
    graph.input.extend(kept)


def _drop_masks(graph: GraphProto, log: _Log) -> None:
    """Removes unused masks of ``Dropout``: only training reads them, and tools refuse the second output.

    Statistics that ``BatchNormalization`` puts out are left: before opset 14 their presence switches it to training mode.
    """
    used = {value.name for inner in graphs.all_graphs(graph) for value in inner.output}
    used |= {name for node in graphs.all_nodes(graph) for name in node.input}
    unused = [n for n in graphs.all_nodes(graph) if n.op_type == "Dropout" and n.output[1:] and n.output[1] not in used]
    for node in unused:
        del node.output[1:]
    log.count(len(unused), "unused dropout masks removed")


def _convert_opset(model: ModelProto, where: str, limits: RuntimeLimits, log: _Log) -> ModelProto:
    """Brings the default domain to at least opset 17, and to what the installed ONNX Runtime knows."""
    opset = graphs.opsets(model).get("")
    if opset is None or TARGET_OPSET <= opset <= limits.opset:
        return model
    target = TARGET_OPSET if opset < TARGET_OPSET else limits.opset
    reason = _unconvertible(model, opset)
    if not reason:
        try:
            converted = onnx.version_converter.convert_version(model, target)
            log.steps.append(f"opset {opset} → {target}")
            return converted
        except Exception as exc:  # the converter raises RuntimeError and many others, by operator
            reason = str(exc).strip().splitlines()[0]
    if opset > limits.opset:
        raise ModelError(
            f"it needs opset {opset}; ONNX Runtime {limits.version} knows up to {limits.opset}; lowering it fails: {reason}",
            where=where,
            hint=f"upgrade onnxruntime, or export with an opset of at most {limits.opset}",
        )
    log.notes.append(f"left at opset {opset}: {reason}")
    return model


def _unconvertible(model: ModelProto, opset: int) -> str:
    """Why the converter of onnx must not be used, empty when it may."""
    if _weight_bytes(model) >= INLINE_LIMIT_BYTES:
        return "its weights are too large for the converter"
    if opset == 8 and any(node.op_type == "Scan" for node in graphs.all_nodes(model.graph)):
        return "the converter renames Scan of opset 8 without removing its batch axis"
    return ""


def _should_fold(node: ir.Node) -> bool | None:
    if node.op_type not in _FOLDED or node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type in ("ConstantOfShape", "Expand", "Tile", "Range"):
        return _small_result(node)
    return None


def _small_result(node: ir.Node) -> bool:
    """Whether an operator that makes data out of a shape makes little of it; all inputs are constants here."""
    values = [value.const_value.numpy() for value in node.inputs if value is not None and value.const_value is not None]
    if node.op_type == "Range":
        start, limit, delta = (float(value.item()) for value in values)
        return bool(delta) and (limit - start) / delta <= _FOLD_LIMIT
    if any(value.size > _FOLD_LIMIT for value in values):
        return False
    return float(np.prod(values[-1], dtype=float)) * (values[0].size if node.op_type == "Tile" else 1) <= _FOLD_LIMIT


def _clean(model: ModelProto, log: _Log) -> ModelProto:
    """Sorts, folds shape arithmetic, makes constants initialisers, drops what is unused, names nodes, infers shapes."""
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants

    before = _count_nodes(model.graph)
    _forget_output_shapes(model.graph)
    try:
        graph_model = ir.from_proto(model)
        common.TopologicalSortPass()(graph_model)
        fold_constants(
            graph_model, onnx_shape_inference=True, input_size_limit=_FOLD_LIMIT, output_size_limit=_FOLD_LIMIT,
            should_fold=_should_fold,
        )  # fmt: skip
        for clean_up in (
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            common.RemoveUnusedNodesPass(),
            common.RemoveUnusedOpsetsPass(),
            common.NameFixPass(),
            common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True),
        ):
            clean_up(graph_model)
        cleaned: ModelProto = ir.to_proto(graph_model)
    except Exception as exc:  # whatever it cannot digest is left as it was, and said
        log.notes.append(f"graph left as it was: {type(exc).__name__}: {str(exc).strip().splitlines()[0] if str(exc) else ''}")
        return model
    log.count(before - _count_nodes(cleaned.graph), "nodes folded or dropped")
    return cleaned


def _forget_output_shapes(graph: GraphProto) -> None:
    """A declared output shape may be that of the exporter's example, and folding would build on it."""
    for value in graph.output:
        if value.type.WhichOneof("value") == "tensor_type":
            value.type.tensor_type.ClearField("shape")


def _restore_outputs(graph: GraphProto, declared: list[ValueInfoProto]) -> None:
    """Completes inferred output shapes by the declared ones: inference wins, a declared name beats an invented one."""
    for value, promise in zip(graph.output, declared, strict=True):
        if promise.type.WhichOneof("value") != "tensor_type" or not promise.type.tensor_type.HasField("shape"):
            continue
        found, given = value.type.tensor_type.shape.dim, promise.type.tensor_type.shape.dim
        if not value.type.tensor_type.HasField("shape") or len(found) != len(given):
            if not value.type.tensor_type.HasField("shape"):
                value.type.CopyFrom(promise.type)
            continue
        for dim, name in zip(found, given, strict=True):
            if not dim.HasField("dim_value") and (_is_invented(dim) or name.dim_param):
                dim.CopyFrom(name)


def _is_invented(dim: TensorShapeProto.Dimension) -> bool:
    return not dim.dim_param or dim.dim_param.startswith("unk__")


def _set_ir_version(model: ModelProto, limits: RuntimeLimits, log: _Log) -> None:
    """The IR version that the operator sets need at least, and ONNX Runtime takes at most."""
    needed = onnx.helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
    version = min(max(model.ir_version, needed), limits.ir_version)
    if version != model.ir_version:
        log.steps.append(f"IR version {model.ir_version} → {version}")
        model.ir_version = version


def _save(model: ModelProto, out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if _weight_bytes(model) < INLINE_LIMIT_BYTES:
            out.write_bytes(model.SerializeToString())
        else:
            onnx.save(model, out, save_as_external_data=True, location=f"{out.name}.data", size_threshold=1024)
    except OSError as exc:
        raise StorageError(f"the normalised model cannot be written: {exc.strerror}", where=str(out)) from exc
