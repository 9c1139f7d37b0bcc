"""Draws random small graphs of covered operators, for property tests."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = helper.make_opsetid("", 22)


@dataclass(frozen=True)
class Value:
    """A value of the graph.

    Attributes:
        exact: whether it was only moved, so that both runtimes hold the same bits and jumps of a function are no matter.
    """

    name: str
    shape: tuple[int, ...]
    exact: bool

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass
class Graph:
    """A graph being drawn; every helper adds nodes and gives back the value they make."""

    random: random.Random
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    count: int = 0
    dtype: str = "float32"

    # -- drawing -----------------------------------------------------------------------------------------------------

    def number(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def flag(self) -> bool:
        return self.random.random() < 0.5

    def pick(self, options: Sequence[Any]) -> Any:
        return self.random.choice(options)

    def order(self, n: int) -> list[int]:
        return self.random.sample(range(n), n)

    def array(self, *shape: int, low: float = -1.0, high: float = 1.0) -> np.ndarray:
        random = np.random.default_rng(self.number(0, 2**32 - 1))
        if np.dtype(self.dtype).kind in "iu":
            return random.integers(0 if self.dtype[0] == "u" else -5, 6, shape).astype(self.dtype)
        return random.uniform(low, high, shape).astype(self.dtype)

    # -- building ----------------------------------------------------------------------------------------------------

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def input(self, *shape: int) -> Value:
        value = Value(self.name(), shape, True)
        self.inputs.append(value)
        return value

    def constant(self, value: np.ndarray) -> str:
        name = self.name()
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))
        return name

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, self.dtype))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def node(self, op: str, inputs: Sequence[str], shape: Sequence[int], exact: bool = False, **attributes: object) -> Value:
        value = Value(self.name(), tuple(int(s) for s in shape), exact)
        self.nodes.append(helper.make_node(op, list(inputs), [value.name], **attributes))
        return value

    def inferred(self, op: str, x: Value, **attributes: object) -> Value:
        """A node with one input, whose shape onnx finds."""
        value = self.node(op, [x.name], (), **attributes)
        before, after = helper.make_tensor_value_info(x.name, 1, x.shape), helper.make_empty_tensor_value_info(value.name)
        alone = helper.make_model(helper.make_graph([self.nodes[-1]], "one", [before], [after]), opset_imports=[OPSET])
        shape = onnx.shape_inference.infer_shapes(alone, strict_mode=True).graph.output[0].type.tensor_type.shape
        return Value(value.name, tuple(dim.dim_value for dim in shape.dim), False)

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        """The model, with the shapes of its outputs left to inference."""
        made = [helper.make_empty_tensor_value_info(name) for name in outputs]
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        given = [helper.make_tensor_value_info(v.name, kind, v.shape) for v in self.inputs]
        graph = helper.make_graph(self.nodes, "random", given, made, self.constants)
        model = helper.make_model(graph, opset_imports=[OPSET], ir_version=10)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)


Step = Callable[[Graph, Value], "Value | None"]
"""Adds an operator behind a value; ``None`` where it does not apply."""
