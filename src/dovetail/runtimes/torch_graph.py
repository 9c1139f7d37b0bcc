"""Turns an ONNX model into a ``torch.fx`` graph, specialised to the shapes of one set of feeds.

Whatever depends on shapes and constants alone is folded while converting, so that the graph holds only tensor operators and
compiles without breaks. Loads torch: import it only where a model is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import fx

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array, Feeds

Value = Any
"""A constant (numpy array) or a traced tensor (``fx.Node`` whose ``meta["example"]`` is its value for the example feeds)."""


class Unsupported(ModelError):
    """An operator, or a way to use it, that the converter does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One node of the model with its attributes decoded and its operands resolved."""

    name: str
    kind: str
    opset: int
    attributes: Mapping[str, Any]
    operands: Sequence[Value]
    outputs: int

    def operand(self, index: int) -> Value:
        """An operand, ``None`` when it is left out."""
        return self.operands[index] if index < len(self.operands) else None

    def constant(self, index: int, attribute: str | None = None) -> Any:
        """A setting as a list: an attribute in old opsets, a constant operand in new ones; ``None`` when absent."""
        if attribute is not None and attribute in self.attributes:
            return self.attributes[attribute]
        value = self.operand(index)
        if value is None:
            return None
        if isinstance(value, fx.Node):
            raise Unsupported(f"operand {index} of {self.kind} depends on the data", where=self.name)
        return np.asarray(value).tolist()


Lowering = Callable[["Builder", Operator], Value]


class Weights:
    """The model's constants as arrays and, where they are used, as tensors; shared by the graphs of all input shapes."""

    def __init__(self, model: onnx.ModelProto, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.arrays: dict[str, Array] = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self._own = {id(array) for array in self.arrays.values()}
        self._tensors: dict[int, torch.Tensor] = {}

    def tensor(self, value: Array) -> torch.Tensor:
        """An array as a tensor; floating point in the graph's type."""
        if id(value) in self._tensors:
            return self._tensors[id(value)]
        tensor = torch.from_numpy(np.array(value))
        if tensor.is_floating_point():
            tensor = _within(tensor, self.dtype).to(self.dtype)
        if id(value) in self._own:
            self._tensors[id(value)] = tensor
        return tensor


def _within(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Finite values made to fit a narrower type: a mask's lowest float32 must not become minus infinity in bfloat16."""
    limits = torch.finfo(dtype)
    return torch.where(torch.isfinite(tensor), tensor.clamp(limits.min, limits.max), tensor)


class Builder:
    """Emits torch calls into a graph and computes each at once on the example, so that shapes are always known."""

    def __init__(self, weights: Weights) -> None:
        self.graph = fx.Graph()
        self.weights = weights
        self.dtype = weights.dtype
        self.constants: dict[str, torch.Tensor] = {}
        self._nodes: dict[int, fx.Node] = {}
        self._kept: list[Array] = []

    def input(self, name: str, value: Array) -> fx.Node:
        """A placeholder; floating-point feeds are converted to the graph's type."""
        node = self.graph.placeholder(name)
        node.meta["example"] = torch.from_numpy(np.array(value, order="C"))
        if node.meta["example"].is_floating_point() and node.meta["example"].dtype != self.dtype:
            return self.call(torch.Tensor.to, node, self.dtype)
        return node

    def tensor(self, value: Value) -> fx.Node:
        """A traced tensor for a value; a constant becomes a buffer."""
        if isinstance(value, fx.Node):
            return value
        if id(value) not in self._nodes:
            name = f"constant_{len(self.constants)}"
            self.constants[name] = self.weights.tensor(value)
            node = self.graph.create_node("get_attr", name)
            node.meta["example"] = self.constants[name]
            self._nodes[id(value)] = node
            self._kept.append(value)
        return self._nodes[id(value)]

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Emits ``function(*args, **kwargs)``; numpy operands become buffers, everything else is passed as it is."""
        args = tuple(self.tensor(arg) if isinstance(arg, np.ndarray | np.generic) else arg for arg in args)
        node = self.graph.call_function(function, args, kwargs)
        example_args, example_kwargs = fx.node.map_arg((args, kwargs), lambda n: n.meta["example"])
        node.meta["example"] = function(*example_args, **example_kwargs)
        return node

    def finish(self, outputs: Sequence[Value]) -> fx.GraphModule:
        """The module. It hands out low precision as float32, and memory that is neither an input's nor its own."""
        taken = {node.meta["example"].untyped_storage().data_ptr() for node in self.graph.nodes if node.op != "call_function"}
        results = []
        for result in (self.tensor(value) for value in outputs):
            if self.dtype != torch.float32 and result.meta["example"].dtype == self.dtype:
                result = self.call(torch.Tensor.float, result)
            storage = result.meta["example"].untyped_storage().data_ptr()
            results.append(self.call(torch.clone, result) if storage in taken else result)
            taken.add(storage)
        self.graph.output(tuple(results))
        root = torch.nn.Module()
        for name, tensor in self.constants.items():
            root.register_buffer(name, tensor)
        return fx.GraphModule(root, self.graph)


def shape_of(value: Value) -> tuple[int, ...]:
    """Shape of a constant or of a traced tensor on the example feeds."""
    return tuple(value.meta["example"].shape if isinstance(value, fx.Node) else value.shape)


def convert(model: onnx.ModelProto, feeds: Feeds, lowerings: Mapping[str, Lowering], weights: Weights) -> fx.GraphModule:
    """A module that takes the model's inputs in their order and returns a tuple of its outputs.

    Raises:
        Unsupported: names the operators that have no lowering.
    """
    check_operators(model, lowerings)
    builder = Builder(weights)
    values: dict[str, Value] = dict(weights.arrays)
    inputs = [value.name for value in model.graph.input if value.name not in values]
    values.update({name: builder.input(f"input_{index}", feeds[name]) for index, name in enumerate(inputs)})
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    with torch.no_grad():
        for node in model.graph.node:
            operands = [values[name] if name else None for name in node.input]
            results = _lower(builder, node, operands, opset, lowerings)
            values.update({name: result for name, result in zip(node.output, results, strict=False) if name})
        return builder.finish([values[output.name] for output in model.graph.output])


def check_operators(model: onnx.ModelProto, lowerings: Mapping[str, Lowering]) -> None:
    """Raises Unsupported for the operators that have no lowering and are not folded."""
    known = {*lowerings, "Constant", "ConstantOfShape", "Range", "Shape", "Size"}
    unknown = {n.op_type if n.domain in ("", "ai.onnx") else f"{n.domain}.{n.op_type}" for n in model.graph.node} - known
    if unknown:
        raise Unsupported(f"the torch runtime has no operator {', '.join(sorted(unknown))}")


def _lower(
    builder: Builder, node: onnx.NodeProto, operands: list[Value], opset: int, lowerings: Mapping[str, Lowering]
) -> Sequence[Value]:
    if node.op_type in ("Shape", "Size") and isinstance(operands[0], fx.Node):
        operands = [np.empty(shape_of(operands[0]), np.bool_)]
    if not any(isinstance(value, fx.Node) for value in operands):
        return _fold(node, operands, opset)
    if node.op_type not in lowerings:
        raise Unsupported(f"{node.op_type} depends on the data", where=node.name)
    attributes = {a.name: _attribute(a) for a in node.attribute}
    operator = Operator(
        name=node.name,
        kind=node.op_type,
        opset=opset,
        attributes=attributes,
        operands=operands,
        outputs=len(node.output),
    )
    result = lowerings[node.op_type](builder, operator)
    return result if isinstance(result, tuple | list) else (result,)


def _fold(node: onnx.NodeProto, operands: Sequence[Array | None], opset: int) -> Sequence[Array]:
    feeds = {name: value for name, value in zip(node.input, operands, strict=True) if name}
    evaluator = ReferenceEvaluator(node, opsets={"": opset})
    return [np.asarray(result) for result in evaluator.run(None, feeds)]


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return list(value) if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value
