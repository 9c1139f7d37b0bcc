"""The ONNX graph as the lowering reads it: static shapes, constants computed, attributes as Python values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array

MAX_ROUNDS = 8
FOLDED_ELEMENTS = 1 << 24
"""Constants up to this size are computed in advance."""
KEPT = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "If", "Loop", "Scan"})
"""Never computed in advance: what they hold is needed as it is."""
_BATCH = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator.

    Attributes:
        op: ONNX operator type, with its domain in front when that is not the default one.
        inputs: value names; empty for an input left out.
        attributes: Python values; tensors are arrays.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def has(self, index: int) -> bool:
        """Whether the input at ``index`` is there."""
        return index < len(self.inputs) and bool(self.inputs[index])

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """Static shape and numpy dtype of a value."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(slots=True, kw_only=True)
class Source:
    """A graph to lower. The rewriting steps before lowering change ``nodes`` and ``constants``.

    Attributes:
        nodes: in topological order.
        constants: value name → array.
        infos: of every value.
        inputs: names in the model's order.
        outputs: the same.
        opset: of the default domain.
    """

    nodes: list[Node]
    constants: dict[str, Array]
    infos: dict[str, Info]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int

    def shape(self, name: str) -> tuple[int, ...]:
        """Static shape of a value."""
        return self.infos[name].shape

    def dtype(self, name: str) -> str:
        """Numpy dtype of a value."""
        return self.infos[name].dtype

    def constant(self, node: Node, index: int) -> Array | None:
        """The constant at an input; ``None`` when it is absent or computed."""
        return self.constants.get(node.inputs[index]) if node.has(index) else None

    def add_constant(self, name: str, value: Array) -> str:
        """Files a new constant under a name that is free."""
        while name in self.infos:
            name += "_"
        self.constants[name] = value
        self.infos[name] = Info(shape=value.shape, dtype=value.dtype.name)
        return name

    def uses(self) -> Counter[str]:
        """How often each value is read; an output of the graph counts as one reader."""
        return Counter([name for node in self.nodes for name in node.inputs if name] + list(self.outputs))

    def consumers(self) -> dict[str, list[Node]]:
        """Readers of each value."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found.setdefault(name, []).append(node)
        return found

    def producers(self) -> dict[str, Node]:
        """The node that makes each value."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    def drop_dead(self) -> None:
        """Removes nodes whose outputs nobody reads."""
        needed = set(self.outputs)
        kept = []
        for node in reversed(self.nodes):
            if needed & set(node.outputs):
                kept.append(node)
                needed.update(node.inputs)
        self.nodes = kept[::-1]


def read(path: Path, dims: Mapping[str, int]) -> Source:
    """Reads a model and gives every value one shape.

    Args:
        path: an ONNX file of opset 13 or newer.
        dims: symbolic dimension, or ``input:axis``, → size; leading dimensions not named become 1.

    Raises:
        ModelError: not readable, a size that stays unknown, or nested graphs.
    """
    try:
        model = onnx.load(str(path))
    except Exception as exc:  # protobuf and the file system raise unrelated types
        raise ModelError(f"cannot read the model: {exc}", where=str(path)) from exc
    _fix_sizes(model, dims)
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    for value in [v for v in model.graph.input if v.name in constants]:
        model.graph.input.remove(value)
    _sort(model, constants)
    _fold(model, constants)
    infos = _infos(model, constants)
    source = Source(
        nodes=[_node(n) for n in model.graph.node],
        constants=constants,
        infos=infos,
        inputs=tuple(v.name for v in model.graph.input),
        outputs=tuple(v.name for v in model.graph.output),
        opset=next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")),
    )
    source.drop_dead()
    _require_static(source)
    return source


def _node(proto: onnx.NodeProto) -> Node:
    attributes = {a.name: _attribute(a) for a in proto.attribute}
    op = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
    return Node(op=op, inputs=tuple(proto.input), outputs=tuple(proto.output), attributes=attributes)


def _attribute(proto: onnx.AttributeProto) -> Any:
    if proto.type == onnx.AttributeProto.TENSOR:
        return numpy_helper.to_array(proto.t)
    value = onnx.helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode()
    return tuple(v.decode() if isinstance(v, bytes) else v for v in value) if isinstance(value, list) else value


def _sort(model: onnx.ModelProto, constants: Mapping[str, Array]) -> None:
    """Puts nodes behind those they read; quantisers append theirs at the end."""
    known = {"", *constants, *(v.name for v in model.graph.input)}
    waiting = list(model.graph.node)
    ordered: list[onnx.NodeProto] = []
    while waiting:
        later = []
        for node in waiting:
            if known.issuperset(node.input):
                ordered.append(node)
                known.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            missing = sorted({name for node in later for name in node.input} - known)
            raise ModelError(f"nothing makes {', '.join(missing[:3])}")
        waiting = later
    del model.graph.node[:]
    model.graph.node.extend(ordered)


def _fix_sizes(model: onnx.ModelProto, dims: Mapping[str, int]) -> None:
    constants = {i.name for i in model.graph.initializer}
    for value in model.graph.input:
        if value.name in constants:
            continue
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            raise ModelError(f"input {value.name!r} is not a tensor of known rank")
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                continue
            size = dims.get(dim.dim_param, dims.get(f"{value.name}:{axis}", _BATCH if axis == 0 else None))
            if size is None:
                known = dim.dim_param or f"{value.name}:{axis}"
                what = f"the size of axis {axis} of input {value.name!r} is not fixed"
                raise ModelError(what, hint=f"give {known}=SIZE")
            dim.dim_value = size
    del model.graph.value_info[:]
    for value in model.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


# -- constants -----------------------------------------------------------------------------------------------------------


def _fold(model: onnx.ModelProto, constants: dict[str, Array]) -> None:
    """Computes what depends on constants and static shapes alone, until nothing more is found."""
    for _ in range(MAX_ROUNDS):
        shapes = {name: info.shape for name, info in _infos(model, constants, strict=False).items()}
        left = []
        for node in model.graph.node:
            if not _folded(node, model, constants, shapes):
                left.append(node)
        if len(left) == len(model.graph.node):
            return
        del model.graph.node[:]
        model.graph.node.extend(left)


def _folded(
    node: onnx.NodeProto, model: onnx.ModelProto, constants: dict[str, Array], shapes: Mapping[str, tuple[int, ...]]
) -> bool:
    """Whether the node's outputs became constants."""
    if node.op_type in ("Shape", "Size") and node.input[0] in shapes:
        feeds = {node.input[0]: np.empty(shapes[node.input[0]], np.bool_)}
    elif node.op_type in KEPT or node.domain not in ("", "ai.onnx") or any(a.type == a.GRAPH for a in node.attribute):
        return False
    elif all(name in constants for name in node.input if name) and (node.input or node.op_type.startswith("Constant")):
        feeds = {name: constants[name] for name in node.input if name}
        if any(np.prod(shapes.get(name, ()), dtype=float) > FOLDED_ELEMENTS for name in node.output):
            return False
    else:
        return False
    outputs = _evaluate(node, feeds, model)
    if outputs is None:
        return False
    constants.update({name: np.asarray(value) for name, value in zip(node.output, outputs, strict=True) if name})
    return True


def _evaluate(node: onnx.NodeProto, feeds: Mapping[str, Array], model: onnx.ModelProto) -> list[Array] | None:
    from onnx.reference import ReferenceEvaluator

    try:
        return list(ReferenceEvaluator(node, opsets=_opsets(model)).run(None, dict(feeds)))
    except Exception:  # the reference lacks an operator, or refuses it: it is lowered, or named, later
        return None


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    return {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}


# -- shapes --------------------------------------------------------------------------------------------------------------


def _infos(model: onnx.ModelProto, constants: Mapping[str, Array], strict: bool = True) -> dict[str, Info]:
    """Static shapes and dtypes by onnx's inference; constants are shown to it where they may be shapes."""
    light = onnx.ModelProto()
    light.CopyFrom(onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions))
    light.graph.name = model.graph.name or "graph"
    light.graph.node.extend(model.graph.node)
    light.graph.output.extend(model.graph.output)
    light.graph.input.extend(model.graph.input)
    for name, value in constants.items():
        if value.size <= 1024:
            light.graph.initializer.append(numpy_helper.from_array(value, name))
        else:
            kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            light.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, value.shape))
    try:
        inferred = onnx.shape_inference.infer_shapes(light, data_prop=True, strict_mode=strict)
    except Exception as exc:
        raise ModelError(f"shapes do not fit together: {str(exc).strip().splitlines()[-1]}") from exc
    found = {name: Info(shape=value.shape, dtype=value.dtype.name) for name, value in constants.items()}
    for info in _values(inferred.graph):
        kind = info.type.tensor_type
        if not info.type.HasField("tensor_type") or not kind.HasField("shape") or info.name in found:
            continue
        sizes = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
        if min(sizes, default=0) >= 0:
            found[info.name] = Info(shape=sizes, dtype=np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name)
    return found


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.input
    yield from graph.value_info
    yield from graph.output


def _require_static(source: Source) -> None:
    for node in source.nodes:
        for name in node.outputs:
            if name and name not in source.infos:
                raise ModelError(f"the shape of {name!r}, made by {node.op}, is not known in advance")


def without_unused_outputs(node: Node, used: Mapping[str, int]) -> Node:
    """The node with the outputs that nobody reads left empty."""
    return replace(node, outputs=tuple(name if used.get(name) else "" for name in node.outputs))
