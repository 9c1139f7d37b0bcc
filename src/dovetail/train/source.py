"""An ONNX graph as a list of nodes and the tensors stored in its file; a branch that is always taken is inlined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from dovetail.core.errors import ModelError
from dovetail.train.ops import TABLE
from dovetail.train.ops.node import NodeView, Unsupported
from dovetail.train.ops.types import NARROW, from_proto
from dovetail.train.unshare import unshare

DOMAINS = ("", "ai.onnx")
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
WITHOUT_TRAINING = (
    "what needs no training still works on it: float16, static and dynamic quantisation, weight-only, other runtimes"
)
"""What remains possible for a model that cannot be trained."""
_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One node: its type with the domain where it is not ONNX's own, and tensor names (empty for one left out)."""

    name: str
    kind: str
    opset: int
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    branches: tuple[Branch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """What an If runs when its condition holds (the first of two) or does not, and the tensors it then puts out."""

    items: tuple[Item, ...]
    results: tuple[str, ...]


class Source:
    """A model's own copy.

    Attributes:
        proto: the model; its tensors are those in ``stored``.
        stored: initialisers, and values of Constant nodes by the name of their output.
        items: all other nodes in order.
        inputs: names of the inputs that are not stored.
        outputs: output name → ONNX element type.
    """

    def __init__(self, proto: ModelProto) -> None:
        if proto.functions:
            raise ModelError("the model has local functions", hint="normalise it first: that replaces calls by their bodies")
        self.proto = ModelProto()
        self.proto.CopyFrom(proto)
        self.stored: dict[str, TensorProto] = {}
        self.items: list[Item] = []
        self._opsets = {entry.domain: entry.version for entry in proto.opset_import}
        self._control: Counter[str] = Counter()
        self._producers: dict[str, Item] = {}
        graph = self.proto.graph
        unshare(graph)
        if graph.sparse_initializer:
            raise ModelError("the model stores sparse tensors, which are not trained", hint=WITHOUT_TRAINING)
        narrow = [value.name for value in graph.input if value.type.tensor_type.elem_type in NARROW]
        if narrow:
            raise ModelError(f"the input {narrow[0]!r} has a type of less than 8 bits, which torch lacks")
        self._flatten(graph, {}, "")
        if self._control:
            raise ModelError(
                f"control flow cannot be trained: {counted(self._control)}, whose length is known only when it runs",
                hint=f"{WITHOUT_TRAINING}; or export the model without control flow",
            )
        self.inputs = [value.name for value in graph.input if value.name not in self.stored]
        self.outputs = {value.name: value.type.tensor_type.elem_type for value in graph.output}

    def _flatten(self, graph: GraphProto, scope: Mapping[str, str], prefix: str) -> None:
        """Appends the nodes of a graph; names of inlined branches get a prefix, names from outside keep theirs."""
        for tensor in graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                raise ModelError(f"the weights of {tensor.name!r} were not loaded with the model")
            self.stored[scope.get(tensor.name, tensor.name)] = tensor
        for node in _sorted(graph.node):
            inputs = tuple(scope.get(name, name) for name in node.input)
            outputs = tuple(scope.get(name, name) for name in node.output)
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self.stored[outputs[0]] = node.attribute[0].t
            elif node.op_type in _CONTROL_FLOW and node.domain in DOMAINS:
                self._control_flow(node, inputs, outputs, scope, prefix)
            else:
                self._append(node, inputs, outputs)

    def _append(self, node: NodeProto, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        own = node.domain in DOMAINS or (node.domain == "com.microsoft" and node.op_type in _QUANTISERS)
        item = Item(
            name=node.name,
            kind=node.op_type if own else f"{node.domain}.{node.op_type}",
            opset=self._opsets.get(node.domain, self._opsets.get("", 1)) if node.domain in DOMAINS else 1,
            attributes={attribute.name: _decoded(attribute) for attribute in node.attribute},
            inputs=inputs,
            outputs=outputs,
        )
        self.items.append(item)
        self._producers.update(dict.fromkeys((name for name in outputs if name), item))

    def _control_flow(
        self, node: NodeProto, inputs: tuple[str, ...], outputs: tuple[str, ...], scope: Mapping[str, str], prefix: str
    ) -> None:
        if node.op_type != "If":
            self._control[node.op_type] += 1
            return
        condition = self._value(inputs[0])
        graphs = {attribute.name: attribute.g for attribute in node.attribute}
        if condition is not None:
            chosen = graphs["then_branch" if bool(condition) else "else_branch"]
            for result, name in zip(self._inlined(chosen, scope, f"{prefix}{outputs[0]}/"), outputs, strict=True):
                self._append(helper.make_node("Identity", [result], [name]), (result,), (name,))
            return
        branches, outside = [], self.items
        for side in ("then", "else"):
            self.items = []
            results = self._inlined(graphs[f"{side}_branch"], scope, f"{prefix}{outputs[0]}/{side}/")
            branches.append(Branch(items=tuple(self.items), results=results))
        self.items = outside
        self.items.append(
            Item(name=node.name, kind="If", opset=1, attributes={}, inputs=inputs, outputs=outputs, branches=tuple(branches))
        )

    def _inlined(self, graph: GraphProto, scope: Mapping[str, str], prefix: str) -> tuple[str, ...]:
        """Appends the nodes of a branch under names of their own; returns those of its outputs."""
        made = {name for step in graph.node for name in step.output if name} | {tensor.name for tensor in graph.initializer}
        scope = {**scope, **{name: f"{prefix}{name}" for name in made}}
        self._flatten(graph, scope, prefix)
        return tuple(scope.get(value.name, value.name) for value in graph.output)

    def _value(self, name: str) -> Tensor | None:
        """What a tensor always is, ``None`` when it depends on the inputs."""
        if name in self.stored:
            return from_proto(self.stored[name])
        item = self._producers.get(name)
        if item is None or item.kind not in TABLE:
            return None
        values = [self._value(source) if source else None for source in item.inputs]
        if any(source and value is None for source, value in zip(item.inputs, values, strict=True)):
            return None
        try:
            result = TABLE[item.kind](view(item, values))(*values)
        except Unsupported:
            return None
        found: Tensor = result if isinstance(result, Tensor) else result[item.outputs.index(name)]
        return found


def expanded(items: Iterable[Item]) -> Iterator[Item]:
    """All nodes, those of branches in front of the one that chooses between them."""
    for item in items:
        for branch in item.branches:
            yield from expanded(branch.items)
        yield item


def _sorted(nodes: Sequence[NodeProto]) -> Iterator[NodeProto]:
    """The nodes behind what they read; quantisers append theirs at the end of the file.

    Raises:
        ModelError: the graph has a cycle.
    """
    unmade = {name for node in nodes for name in node.output if name}
    waiting = list(nodes)
    while waiting:
        later = []
        for node in waiting:
            if unmade.isdisjoint(_reads(node)):
                unmade.difference_update(node.output)
                yield node
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise ModelError(f"the graph has a cycle through {later[0].output[0]!r}")
        waiting = later


def _reads(node: NodeProto) -> Iterator[str]:
    """Names that a node reads, those that its nested graphs take from outside among them."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _reads(inner)
        yield from (value.name for value in attribute.g.output)


def view(item: Item, known: Iterable[Tensor | None], **more: Any) -> NodeView:
    """The node as kernels see it."""
    return NodeView(
        name=item.name, kind=item.kind, opset=item.opset, attributes=item.attributes, inputs=item.inputs,
        outputs=item.outputs, known=tuple(known), **more,
    )  # fmt: skip


def counted(kinds: Mapping[str, int]) -> str:
    """``3 × Loop, Scan``."""
    return ", ".join(kind if count == 1 else f"{count} × {kind}" for kind, count in sorted(kinds.items()))


def _decoded(attribute: AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    if attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS):
        return tuple(value)
    return [text.decode() for text in value] if attribute.type == AttributeProto.STRINGS else value
