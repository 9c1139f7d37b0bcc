"""The ONNX graph as the lowering reads it: static shapes, constants computed, attributes as Python values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Array
from dovetail.core.sizes import only_shape
from dovetail.lowering import precision, standard
from dovetail.lowering.names import free_name

MAX_ROUNDS = 8
FOLDED_ELEMENTS = 1 << 24
"""Constants up to this size are computed in advance."""
KEPT = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "If", "Loop", "Scan",
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
})  # fmt: skip
"""Never computed in advance: what they hold is needed as it is, or is different each time."""
OLDEST_OPSET = 13
MAX_RANK = 6
"""Axes that the runtime's kernels take."""
_TYPES = frozenset({
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float16", "bfloat16", "float32", "float64",
})  # fmt: skip
"""Of values at run time; the reals among them that are not float32 occur at the border alone."""
_OF_SHAPES = frozenset({"Shape", "Size", "EyeLike"})
"""Operators whose result depends on the shape and type of the operand alone."""
_IN_ADVANCE = _OF_SHAPES | {"CastLike", "ConstantOfShape", "Range"}
"""Operators that are computed in advance where shapes are known."""
_ALIKE = frozenset({"GroupNormalization"})
"""Operators whose result has the shape of the operand, which onnx does not infer."""
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
        notes: what reading changed, one phrase each.
    """

    nodes: list[Node]
    constants: dict[str, Array]
    infos: dict[str, Info]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int
    notes: list[str] = field(default_factory=list)

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
        name = free_name(name, self.infos)
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


def read(path: Path, dims: Mapping[str, int], covered: Collection[str]) -> Source:
    """Reads a model and gives every value one shape.

    Args:
        path: an ONNX file of opset 13 or newer.
        dims: symbolic dimension, or ``input:axis``, → size; leading dimensions not named become 1.
        covered: operators that are lowered, or rewritten before.

    Raises:
        InputError: a size is given for a dimension that the model does not have.
        ModelError: not readable, operators that are not covered, a size that stays unknown, or nested graphs.
    """
    try:
        model = onnx.load(str(path))
    except Exception as exc:  # protobuf and the file system raise unrelated types
        raise ModelError(f"cannot read the model: {exc}", where=str(path)) from exc
    opset = _opsets(model).get("", 0)
    if opset < OLDEST_OPSET:
        raise ModelError(f"the model has opset {opset}; the lowering takes {OLDEST_OPSET} and newer", where=str(path))
    _require_places(model, dims)
    fixed = _fix_sizes(model, dims)
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    for value in [v for v in model.graph.input if v.name in constants]:
        model.graph.input.remove(value)
    del model.graph.initializer[:]  # the arrays hold what is needed of it
    nodes = standard.expand(_light(model, constants)).graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _sort(model, constants)
    _fold(model, constants)
    _require_covered(model, covered)
    infos = _infos(model, constants)
    _require_known(model, infos)
    notes = precision.to_single(model, constants, {name: info.dtype for name, info in infos.items()})
    if notes:
        infos = _infos(model, constants)
    source = Source(
        nodes=[_node(n) for n in model.graph.node],
        constants=constants,
        infos=infos,
        inputs=tuple(v.name for v in model.graph.input),
        outputs=tuple(v.name for v in model.graph.output),
        opset=opset,
        notes=[*([only_shape(fixed)] if fixed else []), *notes],
    )
    _join_nothing_empty(source)
    source.drop_dead()
    _require_static(source)
    return source


def _name(proto: onnx.NodeProto) -> str:
    return proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"


def _node(proto: onnx.NodeProto) -> Node:
    attributes = {a.name: _attribute(a) for a in proto.attribute}
    return Node(op=_name(proto), inputs=tuple(proto.input), outputs=tuple(proto.output), attributes=attributes)


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


def _require_places(model: onnx.ModelProto, dims: Mapping[str, int]) -> None:
    """Checks that every given size is one of a free dimension; an axis may also be given the size that it has."""
    constants = {i.name for i in model.graph.initializer}
    free: list[str] = []
    places: set[str] = set()
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim if value.name not in constants else ()):
            place = f"{value.name}:{axis}"
            if not dim.HasField("dim_value") or dim.dim_value <= 0:
                free.append(dim.dim_param or place)
                places |= {dim.dim_param, place}
            elif dims.get(place) == dim.dim_value:
                places.add(place)
    unknown = sorted(set(dims) - places)
    if unknown:
        hint = f"symbolic: {', '.join(dict.fromkeys(free))}" if free else "all of its input sizes are fixed already"
        raise InputError(f"the model has no symbolic dimension {', '.join(map(repr, unknown))}", hint=hint)


def _fix_sizes(model: onnx.ModelProto, dims: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Gives every input one shape; returns those that were free."""
    fixed: dict[str, tuple[int, ...]] = {}
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
            fixed[value.name] = ()
        if value.name in fixed:
            fixed[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    del model.graph.value_info[:]
    for value in model.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    return fixed


# -- constants -----------------------------------------------------------------------------------------------------------


def _fold(model: onnx.ModelProto, constants: dict[str, Array]) -> None:
    """Computes what depends on constants and static shapes alone, until nothing more is found."""
    for _ in range(MAX_ROUNDS):
        infos = _infos(model, constants, strict=False)
        left: list[onnx.NodeProto] = []
        changed = False
        for node in model.graph.node:
            simpler = _simpler(node, constants, infos)
            folded = simpler is None and _folded(node, model, constants, infos)
            changed = changed or folded or simpler is not None
            left += simpler if simpler is not None else [] if folded else [node]
        if not changed:
            return
        left = [onnx.NodeProto.FromString(node.SerializeToString()) for node in left]
        del model.graph.node[:]
        model.graph.node.extend(left)


def _simpler(node: onnx.NodeProto, constants: dict[str, Array], infos: Mapping[str, Info]) -> list[onnx.NodeProto] | None:
    """The nodes of the branch that a constant condition takes, a cast to a type by its name, or pooling with plain padding.

    ``None`` for anything else.
    """
    if node.input and node.input[0] in infos:
        pooling = standard.exact_windows(node, infos[node.input[0]].shape)
        if pooling is not None:
            return [pooling]
    if node.op_type == "CastLike" and node.input[1] in infos:
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(infos[node.input[1]].dtype))
        return [onnx.helper.make_node("Cast", node.input[:1], node.output, to=kind)]
    if node.op_type != "If" or node.input[0] not in constants:
        return None
    chosen = "then_branch" if constants[node.input[0]].reshape(()) else "else_branch"
    graph = next(attribute.g for attribute in node.attribute if attribute.name == chosen)
    constants.update({tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer})
    ends = [
        onnx.helper.make_node("Identity", [inner.name], [outer])
        for inner, outer in zip(graph.output, node.output, strict=True)
        if outer
    ]
    return [*graph.node, *ends]


def _folded(node: onnx.NodeProto, model: onnx.ModelProto, constants: dict[str, Array], infos: Mapping[str, Info]) -> bool:
    """Whether the node's outputs became constants."""
    if node.op_type in _OF_SHAPES and node.input[0] in infos:
        info = infos[node.input[0]]
        # A view of one element: the shape and type alone matter.
        feeds = {node.input[0]: np.broadcast_to(np.zeros((), info.dtype), info.shape)}
    elif node.op_type in KEPT or node.domain not in ("", "ai.onnx") or any(a.type == a.GRAPH for a in node.attribute):
        return False
    elif all(name in constants for name in node.input if name) and (node.input or node.op_type.startswith("Constant")):
        feeds = {name: constants[name] for name in node.input if name}
        if any(name in infos and np.prod(infos[name].shape, dtype=float) > FOLDED_ELEMENTS for name in node.output):
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
    """Static shapes and dtypes by onnx's inference."""
    light = _light(model, constants)
    graph = _inferred(light, strict)
    while _alike(light.graph, graph):
        graph = _inferred(light, strict)
    found = {name: Info(shape=value.shape, dtype=value.dtype.name) for name, value in constants.items()}
    for info in _values(graph):
        kind = info.type.tensor_type
        if not info.type.HasField("tensor_type") or not kind.HasField("shape") or info.name in found:
            continue
        sizes = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
        if min(sizes, default=0) >= 0:
            found[info.name] = Info(shape=sizes, dtype=np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name)
    return found


def _inferred(light: onnx.ModelProto, strict: bool) -> onnx.GraphProto:
    try:
        return onnx.shape_inference.infer_shapes(light, data_prop=True, strict_mode=strict).graph
    except Exception as exc:
        raise ModelError(f"shapes do not fit together: {str(exc).strip().splitlines()[-1]}") from exc


def _alike(light: onnx.GraphProto, inferred: onnx.GraphProto) -> bool:
    """Notes the shapes of results that onnx does not infer though they are those of the operand; whether any was new."""
    waiting = [node for node in light.node if node.op_type in _ALIKE]
    if not waiting:
        return False
    known = {value.name: value.type for value in _values(inferred) if value.type.tensor_type.HasField("shape")}
    outputs = {value.name: value for value in light.output}
    found = False
    for node in waiting:
        if node.input[0] in known and node.output[0] not in known:
            value = outputs.get(node.output[0]) or light.value_info.add(name=node.output[0])
            value.type.CopyFrom(known[node.input[0]])
            found = True
    return found


def _light(model: onnx.ModelProto, constants: Mapping[str, Array]) -> onnx.ModelProto:
    """The graph for native code of onnx: constants are shown where they may be shapes, and are inputs otherwise."""
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
    return light


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.input
    yield from graph.value_info
    yield from graph.output


def _join_nothing_empty(source: Source) -> None:
    """Concat leaves out operands that have no elements."""

    def full(name: str) -> bool:
        return 0 not in source.shape(name)

    source.nodes = [
        replace(node, inputs=tuple(filter(full, node.inputs))) if node.op == "Concat" and full(node.output) else node
        for node in source.nodes
    ]


def _require_covered(model: onnx.ModelProto, covered: Collection[str]) -> None:
    """Names all operators without a form at once, before one of them leaves a shape unknown."""
    needed = {value.name for value in model.graph.output}
    missing = set()
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            missing.add(_name(node))
    # What is computed in advance stands here only behind one of the others, which hides a shape from it.
    missing -= set(covered) | _IN_ADVANCE
    if missing:
        raise ModelError(f"no LiteRT form for {', '.join(sorted(missing))}")


def _require_known(model: onnx.ModelProto, infos: Mapping[str, Info]) -> None:
    for node in model.graph.node:
        for name in node.output:
            if name and name not in infos:
                raise ModelError(f"the shape of {name!r}, made by {node.op_type}, is not known in advance")


def _require_static(source: Source) -> None:
    made = (name for node in source.nodes for name in node.outputs if name)
    for name in dict.fromkeys((*source.inputs, *made, *source.outputs)):
        shape, dtype = source.shape(name), source.dtype(name)
        if dtype not in _TYPES:
            raise ModelError(f"{name!r} has the type {dtype}, which LiteRT does not compute with")
        if len(shape) > MAX_RANK:
            raise ModelError(f"{name!r} has {len(shape)} axes; LiteRT takes up to {MAX_RANK}")
        if 0 in shape:
            raise ModelError(f"{name!r} is empty: its shape is {list(shape)}")


def without_unused_outputs(node: Node, used: Mapping[str, int]) -> Node:
    """The node with the outputs that nobody reads left empty."""
    return replace(node, outputs=tuple(name if used.get(name) else "" for name in node.outputs))
