"""Reads a model into the form that pruning understands, and writes and checks what came of it."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from dovetail.compress.graph import files, simplify
from dovetail.compress.graph.sizes import known_sizes
from dovetail.compress.prune.walk import constant_shape, is_constant
from dovetail.core.errors import ModelError
from dovetail.core.protocols import Model, PassContext

QUANTISED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"})


def prepare(model: Model, where: str) -> ir.Model:
    """A simplified graph with inferred shapes, in which every small constant has one reader.

    Simplification computes constants in advance, so that shapes that exporters leave as arithmetic become numbers. Shape
    annotations of the file are inferred anew, since exporters leave wrong ones.

    Args:
        model: a float model.
        where: the pass, for messages.

    Raises:
        ModelError: not readable, too old, or quantised.
    """
    graph_model = files.load(model)
    if any(node.op_type in QUANTISED for graph in graph_model.graphs() for node in graph):
        raise ModelError(f"{where} needs a float model, this one is quantised", where=str(model.path), hint="prune first")
    declared = [None if output.shape is None else output.shape.copy() for output in graph_model.graph.outputs]
    for node in graph_model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    graph_model = simplify.simplify(graph_model)
    if simplify.apply_rules(graph_model, [known_sizes]):
        graph_model = simplify.simplify(graph_model)
    graph_model.graph.sort()
    ShapeInferencePass(strict_mode=False)(graph_model)
    for output, shape in zip(graph_model.graph.outputs, declared, strict=True):
        output.shape = shape
    _unshare(graph_model.graph)
    return graph_model


def _unshare(graph: ir.Graph) -> None:
    """Gives each reader of a vector (a bias of zeros, say) its own: sharing one must not couple layers."""
    for value in list(graph.initializers.values()):
        if not is_constant(value) or not _is_vector(value):
            continue
        for count, use in enumerate(list(value.uses())[1:]):
            if use.node.graph is graph:
                copy = ir.Value(name=_free(graph, f"{value.name}_{count + 2}"), shape=value.shape, type=value.type)
                assert value.const_value is not None
                copy.const_value = ir.tensor(value.const_value.numpy().copy(), name=copy.name)
                graph.register_initializer(copy)
                use.node.replace_input_with(use.idx, copy)


def _is_vector(value: ir.Value) -> bool:
    shape = constant_shape(value)
    return value.dtype is not None and value.dtype.is_floating_point() and sum(size > 1 for size in shape) == 1


def _free(graph: ir.Graph, name: str) -> str:
    while name in graph.initializers:
        name += "_"
    return name


def interface(graph_model: ir.Model) -> list[tuple[str | None, ir.DataType | None, tuple[object, ...]]]:
    """Names, types and shapes of inputs and then outputs."""
    graph = graph_model.graph
    return [
        (v.name, v.dtype, tuple(d if isinstance(d, int) else d.value for d in v.shape) if v.shape is not None else ())
        for v in (*graph.inputs, *graph.outputs)
    ]


def finish(graph_model: ir.Model, before: object, ctx: PassContext) -> Model:
    """Writes ``model.onnx`` and checks it: valid, shapes consistent, interface as ``before``.

    Raises:
        ModelError: one of these does not hold, so that the result would be of no use.
    """
    import onnx

    result = files.save(graph_model, ctx.workdir)
    try:
        onnx.checker.check_model(str(result.path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as exc:
        raise ModelError(f"the pruned graph is not valid: {exc}", where=str(result.path)) from exc
    if interface(ir.load(result.path)) != before:
        raise ModelError("pruning would change inputs or outputs", where=str(result.path))
    return result
