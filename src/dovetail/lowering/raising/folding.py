"""Operators whose operands are all constants are computed in advance, by running what they are raised to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx
from onnx import numpy_helper

from dovetail.lowering.litert_file import LiteRtOperator
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.tensors import identity

FOLDED_ELEMENTS = 1 << 24
"""Results up to this size are computed in advance."""
Raising = Callable[[Graph, LiteRtOperator], None]


def folded(graph: Graph, op: LiteRtOperator, raising: Raising) -> bool:
    """Whether the operator's outputs became constants."""
    known = {tensor: graph.known(tensor) for tensor in op.inputs if tensor is not None}
    if not known or any(found is None or found.quant is not None for found in known.values()):
        return False
    if any(tensor.quant is not None or math.prod(tensor.shape) > FOLDED_ELEMENTS for tensor in op.outputs):
        return False
    scratch = Graph(graph.symbolic, graph.opset, graph.readers)
    for tensor, found in known.items():
        if found is not None:
            scratch.fix(tensor, found.data)
    raising(scratch, op)
    if not _evaluated(scratch, op):
        return False
    for tensor in op.outputs:
        found = scratch.known(tensor)
        if found is not None:
            graph.fix(tensor, found.data)
    return True


def _evaluated(scratch: Graph, op: LiteRtOperator) -> bool:
    """Computes what is left to compute in a scratch graph; whether that went well."""
    from onnx.reference import ReferenceEvaluator

    computed = [tensor for tensor in op.outputs if scratch.known(tensor) is None]
    names = [scratch.stored(tensor, identity(tensor.rank)) for tensor in computed]
    outputs = [onnx.ValueInfoProto(name=name) for name in names]
    stored = [numpy_helper.from_array(value, name) for name, value in scratch.initializers.items()]
    inner = onnx.helper.make_graph(scratch.nodes, "constants", [], outputs, stored)
    model = onnx.helper.make_model(inner, opset_imports=[onnx.helper.make_opsetid("", scratch.opset)])
    if not _is_small(model, {name: tensor.shape for name, tensor in zip(names, computed, strict=True)}):
        return False
    try:
        results = ReferenceEvaluator(model).run(None, {}) if names else []
    except Exception:  # the reference lacks an operator, or refuses it: it is computed at run time instead
        return False
    for tensor, result in zip(computed, results, strict=True):
        if result.dtype.name != tensor.dtype or result.shape != tensor.shape:
            return False
        scratch.fix(tensor, result)
    return True


def _is_small(model: onnx.ModelProto, expected: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether all that would be computed is small, and what comes out of it has the shapes of the file."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError:
        return False
    for value in (*inferred.value_info, *inferred.output):
        kind = value.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
        if not kind.HasField("shape") or -1 in shape or math.prod(shape) > FOLDED_ELEMENTS:
            return False
        if shape != expected.get(value.name, shape):
            return False
    return True
