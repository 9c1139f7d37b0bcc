"""Bodies of ``If``, ``Loop`` and ``Scan``: which of them count, how often, and what they put out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from onnx import GraphProto, NodeProto, TensorProto, TypeProto

from dovetail.core.workload import Op
from dovetail.workloads import graphs
from dovetail.workloads.shapes import Fact, tensor_fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """An analysed graph.

    Attributes:
        ops: its operators, each counted as often as the graph runs.
        outputs: facts about its outputs.
        peak_bytes: greatest memory of its activations; ``None`` when unknown.
        note: how it was counted, for the attributes of the node that holds it.
    """

    ops: tuple[Op, ...] = ()
    outputs: tuple[Fact, ...] = ()
    peak_bytes: int | None = 0
    note: str = ""

    @property
    def flop(self) -> float:
        """Operations of all that could be counted."""
        return sum(op.flop for op in self.ops if op.flop is not None)


Walk = Callable[[str, GraphProto, Mapping[str, Fact], int | None], Body]
"""(attribute name, graph, facts about its inputs, how often it runs per run of the node or ``None``) → analysed graph."""


def run(node: NodeProto, inputs: Sequence[Fact | None], walk: Walk) -> Body:
    """Analyses the nested graphs of a node; its outputs are those of the node."""
    bodies = dict(graphs.subgraphs(node))
    if node.op_type == "If" and {"then_branch", "else_branch"} <= bodies.keys():
        return _run_if(inputs, bodies, walk)
    if node.op_type == "Loop" and "body" in bodies:
        return _run_loop(inputs, bodies["body"], walk)
    if node.op_type == "Scan" and "body" in bodies:
        return _run_scan(node, inputs, bodies["body"], walk)
    return Body(outputs=tuple(Fact() for _ in node.output), peak_bytes=None)


def _run_if(inputs: Sequence[Fact | None], bodies: Mapping[str, GraphProto], walk: Walk) -> Body:
    """The branch that a fixed condition takes; else the larger one, whose shapes then stand for both."""
    condition = inputs[0].value if inputs and inputs[0] is not None else None
    if condition is not None:
        name = "then_branch" if condition.all() else "else_branch"
        return replace(walk(name, bodies[name], {}, 1), note=f"{name}, the only one that runs")
    branches = {name: walk(name, graph, {}, 1) for name, graph in bodies.items()}
    name = max(branches, key=lambda branch: branches[branch].flop)
    chosen = branches[name]
    outputs = tuple(Fact(type=fact.type) for fact in chosen.outputs)
    return replace(chosen, outputs=outputs, note=f"{name}, the larger one")


def _run_loop(inputs: Sequence[Fact | None], graph: GraphProto, walk: Walk) -> Body:
    """The body times a trip count that is fixed and that no condition can cut short."""
    limit = inputs[0].value if inputs and inputs[0] is not None else None
    start = inputs[1] if len(inputs) > 1 else None
    always = start is None or (start.value is not None and bool(start.value.all()))
    trips = int(limit.item()) if limit is not None and limit.size == 1 and always else None
    initial = [Fact(type=fact.type if fact is not None else None) for fact in inputs[2:]]
    carried = initial
    body = Body()
    for _ in range(2):  # once more when the first pass shows that shapes change or that the condition can end the loop
        bound = [tensor_fact(TensorProto.INT64, []), _flag(start if always else None), *carried]
        body = walk("body", graph, dict(zip((value.name for value in graph.input), bound, strict=False)), trips)
        found = body.outputs[1 : 1 + len(carried)]
        widened = [_common(before, after) for before, after in zip(carried, found, strict=False)]
        ends = trips is not None and not _is_true(body.outputs[0])
        if not ends and widened == carried:
            break
        carried, trips = widened, None if ends else trips
    stacked = [_stacked(fact, trips, 0) for fact in body.outputs[1 + len(carried) :]]
    note = "body, iterations known only when it runs" if trips is None else f"body × {trips}"
    return replace(body, outputs=(*carried, *stacked), note=note)


def _run_scan(node: NodeProto, inputs: Sequence[Fact | None], graph: GraphProto, walk: Walk) -> Body:
    """The body times the length of the scanned axis (form of opset 9 and later)."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    n_scanned = attributes["num_scan_inputs"].i
    states, scanned = inputs[: len(inputs) - n_scanned], inputs[len(inputs) - n_scanned :]
    axes = list(attributes["scan_input_axes"].ints) if "scan_input_axes" in attributes else [0] * n_scanned
    slices = [_sliced(fact, axis) for fact, axis in zip(scanned, axes, strict=True)]
    lengths = [length for _, length in slices if length is not None]
    if len(graph.input) != len(inputs) or not lengths:
        return Body(outputs=tuple(Fact() for _ in node.output), peak_bytes=None)
    carried = [Fact(type=fact.type if fact is not None else None) for fact in states]
    bound = [*carried, *(fact for fact, _ in slices)]
    body = walk("body", graph, dict(zip((value.name for value in graph.input), bound, strict=True)), lengths[0])
    n_states = len(states)
    out_axes = list(attributes["scan_output_axes"].ints) if "scan_output_axes" in attributes else []
    stacked = [
        _stacked(fact, lengths[0], out_axes[index] if out_axes else 0) for index, fact in enumerate(body.outputs[n_states:])
    ]
    outputs = (*(Fact(type=fact.type) for fact in body.outputs[:n_states]), *stacked)
    return replace(body, outputs=outputs, note=f"body × {lengths[0]}")


def _flag(start: Fact | None) -> Fact:
    known = start.value if start is not None else None
    return tensor_fact(TensorProto.BOOL, [], value=known, fixed=known is not None)


def _is_true(fact: Fact) -> bool:
    return fact.value is not None and bool(fact.value.all())


def _common(before: Fact, after: Fact) -> Fact:
    """What holds of a carried value in every iteration."""
    if before.type is None or after.type is None or before.type == after.type:
        return Fact(type=before.type if after.type is not None else None)
    if before.elem_type != after.elem_type or before.shape is None or after.shape is None:
        return Fact()
    if len(before.shape) != len(after.shape):
        return tensor_fact(before.elem_type, None)
    sizes = [a if a == b else None for a, b in zip(before.shape, after.shape, strict=True)]
    return tensor_fact(before.elem_type, sizes)


def _stacked(fact: Fact, length: int | None, axis: int) -> Fact:
    if fact.type is None or not fact.type.tensor_type.HasField("shape"):
        return Fact(type=fact.type)
    sizes: list[int | None] = [dim.dim_value if dim.HasField("dim_value") else None for dim in fact.type.tensor_type.shape.dim]
    sizes.insert(axis if axis >= 0 else len(sizes) + 1 + axis, length)
    return tensor_fact(fact.elem_type, sizes)


def _sliced(fact: Fact | None, axis: int) -> tuple[Fact, int | None]:
    if fact is None or fact.shape is None or not -len(fact.shape) <= axis < len(fact.shape):
        return Fact(type=TypeProto()), None
    axis %= len(fact.shape)
    return tensor_fact(fact.elem_type, fact.shape[:axis] + fact.shape[axis + 1 :]), fact.shape[axis]
