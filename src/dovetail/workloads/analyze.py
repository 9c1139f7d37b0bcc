"""Counts what a model asks of the hardware: operations, bytes, parameters and shapes of every operator.

Inference runs native code of onnx on graphs from anywhere, so the pipeline calls this in a child process.
"""

from __future__ import annotations

import itertools
from collections import ChainMap
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx.inliner
from onnx import GraphProto, ModelProto, NodeProto, helper

from dovetail.core.workload import Op, Workload
from dovetail.workloads import control_flow, graphs
from dovetail.workloads.calls import Call, Flops, Uncounted
from dovetail.workloads.control_flow import Body
from dovetail.workloads.flops import count
from dovetail.workloads.input_shapes import bind_shapes
from dovetail.workloads.liveness import VIEWS, Step, peak_bytes
from dovetail.workloads.load import content_hash, load_onnx, proto_hash
from dovetail.workloads.shapes import Fact, Inference, constant_fact, dtype_of

Scope = ChainMap[str, Fact]

_SHOWN_ATTRIBUTES = ("kernel_shape", "strides", "dilations", "group", "axis", "num_heads", "hidden_size", "equation", "mode")
_READS_NOTHING = VIEWS | {"Shape", "Size"}
# Operators that read no more of their first operand than they put out.
_READS_WHAT_IT_WRITES = frozenset({"Gather", "GatherElements", "GatherND", "Slice", "ArrayFeatureExtractor"})
# Constants of these types are indices, sizes and flags: arguments of operators, not parameters of the network.
_ARGUMENT_DTYPES = frozenset({"int64", "bool", "str"})


def analyze(model: ModelProto | str | Path, *, shapes: Mapping[str, Sequence[int]] | None = None) -> Workload:
    """Analyses a model at concrete input shapes.

    A symbolic leading dimension that is not given counts as a batch of 1; any other gets the size that
    :func:`dovetail.core.sizes.assumed_size` says. All of these are in ``assumed_dims``. Of an ``If`` whose condition is
    not fixed the larger branch counts; the body of a ``Loop`` counts as often as it runs, where that is known. The attribute
    ``counted`` of their operators says which. Views (``Reshape`` and its like) move no bytes, ``Gather`` those it puts out.

    Args:
        model: an ONNX file, or a model with all its weights in memory.
        shapes: input name → shape, for any of the inputs.

    Raises:
        ModelError: the file is not a model.
        InputError: a shape does not fit the input it is given for.
    """
    if isinstance(model, ModelProto):
        proto, model_hash = model, proto_hash(model)
    else:
        proto, model_hash = load_onnx(model), content_hash(model)
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    binding = bind_shapes(proto.graph, shapes or {})
    body = _Walker(proto).run(proto.graph, binding.facts)
    return Workload(
        model_hash=model_hash,
        input_shapes=binding.shapes,
        assumed_dims=binding.assumed,
        ops=body.ops,
        peak_activation_bytes=body.peak_bytes,
        uncounted=_reasons(body.ops),
    )


def _reasons(ops: Iterable[Op]) -> dict[str, str]:
    """Operator type → why some of its operators are not counted."""
    reasons: dict[str, dict[str, None]] = {}
    for op in ops:
        if op.flop is None:
            reasons.setdefault(op.kind, {})[(op.attributes or {}).get("uncounted", "")] = None
    return {kind: "; ".join(texts) for kind, texts in reasons.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a node stands: its full name, and how often its graph runs (``None`` when that is not known)."""

    label: str
    trips: int | None


class _Walker:
    """Goes through a graph in order of execution, and through the graphs nested in it."""

    def __init__(self, model: ModelProto) -> None:
        self._inference = Inference(graphs.opsets(model), model.ir_version)
        self._constants: dict[str, list[Fact]] = {}

    def run(self, graph: GraphProto, inputs: Mapping[str, Fact]) -> Body:
        """Analyses the main graph; each parameter is counted at the first operator that reads it."""
        body = self._walk(graph, Scope(dict(inputs)), prefix="", trips=1)
        seen: set[int] = set()
        ops = []
        for op in body.ops:
            own = {id(fact): fact.n_elements or 0 for fact in self._constants.get(op.name, ()) if id(fact) not in seen}
            seen |= own.keys()
            ops.append(replace(op, params=sum(own.values())))
        return replace(body, ops=tuple(ops))

    def _walk(self, graph: GraphProto, scope: Scope, *, prefix: str, trips: int | None) -> Body:
        """Analyses one graph; ``scope`` holds its inputs and everything outside, and is filled with what it makes."""
        inputs = [(value.name, scope.maps[0][value.name].n_bytes) for value in graph.input if value.name in scope.maps[0]]
        declared = {value.name: Fact(type=value.type) for value in graph.value_info}
        scope.update({tensor.name: constant_fact(tensor) for tensor in graph.initializer})
        scope.update({sparse.values.name: Fact(constant=True, fixed=True) for sparse in graph.sparse_initializer})
        ops: dict[str, Op] = {}
        steps: list[Step] = []
        for node in graphs.in_order(graph):
            place = _Place(label=_label(node, prefix, ops.keys()), trips=trips)
            operands = [scope.get(name, Fact()) if name else None for name in node.input]
            inner = self._nested(node, operands, scope, place)
            outputs = inner.outputs if inner else self._inference.outputs(node, operands, declared)
            results = dict(zip(node.output, itertools.chain(outputs, itertools.repeat(Fact())), strict=False))
            scope.update(results)
            steps.append(_step(node, results, inner))
            if node.op_type != "Constant":
                ops[place.label] = _op(node, operands, list(results.values()), place, inner)
                self._constants[place.label] = [fact for fact in operands if fact is not None and _is_parameter(fact)]
            ops.update({op.name: op for op in inner.ops} if inner else {})
        peak = peak_bytes(steps, inputs, [value.name for value in graph.output])
        facts = tuple(scope.get(value.name, Fact()) for value in graph.output)
        return Body(ops=tuple(ops.values()), outputs=facts, peak_bytes=peak)

    def _nested(self, node: NodeProto, operands: Sequence[Fact | None], scope: Scope, place: _Place) -> Body | None:
        """The analysed nested graphs of a node; ``None`` when it has none."""
        if not any(graphs.subgraphs(node)):
            return None

        def walk(name: str, graph: GraphProto, inputs: Mapping[str, Fact], runs: int | None) -> Body:
            trips = None if runs is None or place.trips is None else runs * place.trips
            return self._walk(graph, scope.new_child(dict(inputs)), prefix=f"{place.label}/{name}/", trips=trips)

        return control_flow.run(node, operands, walk)


def _label(node: NodeProto, prefix: str, taken: Container[str]) -> str:
    """The node's name with those of the nodes around it; made unique by a number."""
    base = prefix + (node.name or f"{node.op_type}:{next(filter(None, node.output), '')}")
    return next(label for n in itertools.count(1) if (label := base if n == 1 else f"{base}#{n}") not in taken)


def _is_parameter(fact: Fact) -> bool:
    return fact.constant and dtype_of(fact) not in _ARGUMENT_DTYPES


def _step(node: NodeProto, results: Mapping[str, Fact], inner: Body | None) -> Step:
    captured = graphs.free_names(node) - set(node.input) if inner else ()
    return Step(
        kind=node.op_type,
        reads=(*node.input, *captured),
        writes=tuple((name, fact.n_bytes) for name, fact in results.items() if name and not fact.fixed and fact.value is None),
        inner_bytes=inner.peak_bytes if inner else 0,
    )


def _op(node: NodeProto, operands: Sequence[Fact | None], results: Sequence[Fact], place: _Place, inner: Body | None) -> Op:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name not in dict(graphs.subgraphs(node))}
    shown = {name: _shown(attributes[name]) for name in _SHOWN_ATTRIBUTES if name in attributes}
    flop: float | None = None
    try:
        flops = _count(node, operands, results, attributes, place, inner)
        flop = flops.total
        shown |= {"matrix_flop": f"{flops.matrix:.0f}"} if flops.matrix else {}
    except Uncounted as exc:
        shown["uncounted"] = str(exc)
    if inner and inner.note:
        shown["counted"] = inner.note
    elif _at_load(results):
        shown["counted"] = "once, when the model is loaded"
    times = 1 if place.trips is None else place.trips
    weight_bytes, input_bytes, output_bytes = (0.0, 0.0, 0.0) if inner else _traffic(node.op_type, operands, results)
    return Op(
        name=place.label,
        kind=node.op_type,
        flop=flop,
        weight_bytes=weight_bytes * times,
        input_bytes=None if input_bytes is None else input_bytes * times,
        output_bytes=None if output_bytes is None else output_bytes * times,
        params=0,
        dtype=dtype_of(results[0]) if results else "unknown",
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        output_shapes=tuple(fact.shape for fact in results),
        attributes=shown,
    )


def _count(
    node: NodeProto,
    operands: Sequence[Fact | None],
    results: Sequence[Fact],
    attributes: Mapping[str, Any],
    place: _Place,
    inner: Body | None,
) -> Flops:
    if inner and not inner.note:
        raise Uncounted("its body could not be analysed")
    if _at_load(results):
        return Flops()
    call = Call(kind=node.op_type, domain=graphs.domain(node.domain), inputs=operands, outputs=results, attributes=attributes)
    flops = count(call)
    if place.trips is None and flops.total:
        raise Uncounted("the number of iterations is known only when it runs")
    times = place.trips or 0
    return Flops(matrix=flops.matrix * times, other=flops.other * times)


def _at_load(results: Sequence[Fact]) -> bool:
    """Whether an operator works on constants alone, so that it runs once and not in every call."""
    return bool(results) and all(fact.fixed for fact in results)


def _traffic(kind: str, operands: Sequence[Fact | None], results: Sequence[Fact]) -> tuple[float, float | None, float | None]:
    """Bytes of constants read, activations read, and results written.

    An operand computed from constants counts by the bytes these take in the file, where they are fewer: a weight that is
    dequantised in front of its operator is read in its quantised form.
    """
    if kind in _READS_NOTHING or _at_load(results):
        return 0.0, 0.0, 0.0
    written = _sum(fact.n_bytes for fact in results)
    weights = 0
    inputs: list[int | None] = []
    for index, fact in enumerate(operands):
        if fact is None:
            continue
        n_bytes = written if index == 0 and kind in _READS_WHAT_IT_WRITES else fact.n_bytes
        if fact.fixed:
            weights += fact.stored_bytes if n_bytes is None else min(n_bytes, fact.stored_bytes)
        else:
            inputs.append(n_bytes)
    return float(weights), _sum(inputs), written


def _sum(sizes: Iterable[int | None]) -> int | None:
    known = list(sizes)
    return None if None in known else sum(filter(None, known))


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
