"""Small graphs with feeds, seeded, that between them show what a plug-in must take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dovetail.core.protocols import Array, Model

_FLOAT, _INT64 = TensorProto.FLOAT, TensorProto.INT64
_OPSET = 17
_IR_VERSION = 8

Shape = Sequence[int | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A graph with two different sets of feeds that it takes."""

    proto: onnx.ModelProto
    feeds: dict[str, Array]
    others: dict[str, Array]

    def save(self, folder: Path) -> Model:
        """Writes the graph as ``model.onnx``."""
        path = folder / "model.onnx"
        onnx.save(self.proto, str(path))
        return Model(path=path)


def _weights(rng: np.random.Generator, **shapes: tuple[int, ...]) -> list[onnx.TensorProto]:
    return [
        numpy_helper.from_array((rng.normal(size=shape) / np.sqrt(max(1, shape[-1]))).astype(np.float32), name)
        for name, shape in shapes.items()
    ]


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, Shape]],
    outputs: dict[str, tuple[int, Shape]],
    constants: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    for index, node in enumerate(nodes):
        node.name = f"{node.op_type}_{index}"
    graph = helper.make_graph(
        list(nodes),
        "case",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        list(constants),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    return model


def _case(proto: onnx.ModelProto, make: Callable[[np.random.Generator], dict[str, Array]]) -> Case:
    return Case(proto=proto, feeds=make(np.random.default_rng(1)), others=make(np.random.default_rng(2)))


def conv_net() -> Case:
    """Convolutions with a residual sum, batch normalisation, pooling and a classifier; batch 1."""
    rng = np.random.default_rng(0)
    positive = [numpy_helper.from_array(np.full(8, value, np.float32), name) for name, value in (("s", 1.2), ("v", 0.7))]
    proto = _model(
        [
            helper.make_node("Conv", ["x", "w0"], ["c0"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["c0", "s", "b", "m", "v"], ["n0"]),
            helper.make_node("Relu", ["n0"], ["r0"]),
            helper.make_node("Conv", ["r0", "w1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=8),
            helper.make_node("Add", ["c1", "r0"], ["a1"]),
            helper.make_node("MaxPool", ["a1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("GlobalAveragePool", ["p1"], ["g"]),
            helper.make_node("Flatten", ["g"], ["f"]),
            helper.make_node("Gemm", ["f", "w2", "b2"], ["logits"], transB=1),
            helper.make_node("Softmax", ["logits"], ["y"], axis=-1),
        ],
        {"x": (_FLOAT, [1, 3, 16, 16])},
        {"y": (_FLOAT, [1, 10])},
        [*_weights(rng, w0=(8, 3, 3, 3), w1=(8, 1, 3, 3), w2=(10, 8), b2=(10,), b=(8,), m=(8,)), *positive],
    )
    return _case(proto, lambda r: {"x": r.normal(size=(1, 3, 16, 16)).astype(np.float32)})


def mlp() -> Case:
    """Two fully connected layers; the size of the batch may vary."""
    rng = np.random.default_rng(0)
    proto = _model(
        [
            helper.make_node("Gemm", ["x", "w0", "b0"], ["h"], transB=1),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "w1"], ["y"]),
        ],
        {"x": (_FLOAT, ["batch", 32])},
        {"y": (_FLOAT, ["batch", 16])},
        _weights(rng, w0=(64, 32), b0=(64,), w1=(64, 16)),
    )
    return _case(proto, lambda r: {"x": r.normal(size=(2, 32)).astype(np.float32)})


def wide_mlp() -> Case:
    """A network that is all weights (half a megabyte), so that its file shrinks when they do."""
    rng = np.random.default_rng(0)
    proto = _model(
        [
            helper.make_node("MatMul", ["x", "w0"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "w1"], ["y"]),
        ],
        {"x": (_FLOAT, [1, 256])},
        {"y": (_FLOAT, [1, 256])},
        _weights(rng, w0=(256, 256), w1=(256, 256)),
    )
    return _case(proto, lambda r: {"x": r.normal(size=(1, 256)).astype(np.float32)})


def two_inputs() -> Case:
    """Two inputs and two outputs of different shapes, in an order that is not alphabetical."""
    proto = _model(
        [
            helper.make_node("MatMul", ["b", "a"], ["z"]),
            helper.make_node("ReduceMean", ["z"], ["y"], axes=[1], keepdims=0),
        ],
        {"b": (_FLOAT, [2, 3]), "a": (_FLOAT, [3, 4])},
        {"z": (_FLOAT, [2, 4]), "y": (_FLOAT, [2])},
    )
    return _case(
        proto,
        lambda r: {"b": r.normal(size=(2, 3)).astype(np.float32), "a": r.normal(size=(3, 4)).astype(np.float32)},
    )


def token_input() -> Case:
    """An int64 input looked up in a table and normalised."""
    rng = np.random.default_rng(0)
    proto = _model(
        [
            helper.make_node("Gather", ["table", "ids"], ["e"], axis=0),
            helper.make_node("LayerNormalization", ["e", "scale", "bias"], ["n"], axis=-1),
            helper.make_node("ReduceMean", ["n"], ["y"], axes=[1], keepdims=0),
        ],
        {"ids": (_INT64, [1, 6])},
        {"y": (_FLOAT, [1, 12])},
        _weights(rng, table=(20, 12), scale=(12,), bias=(12,)),
    )
    return _case(proto, lambda r: {"ids": r.integers(0, 20, size=(1, 6), dtype=np.int64)})


def scalar_input() -> Case:
    """A float tensor and a scalar without dimensions."""
    proto = _model(
        [helper.make_node("Mul", ["x", "gain"], ["y"])],
        {"x": (_FLOAT, [3, 4]), "gain": (_FLOAT, [])},
        {"y": (_FLOAT, [3, 4])},
    )
    return _case(
        proto,
        lambda r: {"x": r.normal(size=(3, 4)).astype(np.float32), "gain": np.array(r.normal(), np.float32)},
    )


def with_state() -> Case:
    """One step of a recurrent network: the state comes in and goes out."""
    rng = np.random.default_rng(0)
    proto = _model(
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("MatMul", ["state", "u"], ["su"]),
            helper.make_node("Add", ["xw", "su"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["state_out"]),
            helper.make_node("MatMul", ["state_out", "v"], ["y"]),
        ],
        {"x": (_FLOAT, [1, 8]), "state": (_FLOAT, [1, 16])},
        {"y": (_FLOAT, [1, 4]), "state_out": (_FLOAT, [1, 16])},
        _weights(rng, w=(8, 16), u=(16, 16), v=(16, 4)),
    )
    return _case(
        proto,
        lambda r: {"x": r.normal(size=(1, 8)).astype(np.float32), "state": r.normal(size=(1, 16)).astype(np.float32)},
    )


CASES: dict[str, Callable[[], Case]] = {
    "conv_net": conv_net,
    "mlp": mlp,
    "two_inputs": two_inputs,
    "token_input": token_input,
    "scalar_input": scalar_input,
    "with_state": with_state,
}
"""The cases that every runtime takes, by name."""


def unknown_operator() -> onnx.ModelProto:
    """A graph with an operator that no runtime has."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["x"], ["y"], name="frob")],
        "unknown",
        [info("x", _FLOAT, [1, 4])],
        [info("y", _FLOAT, [1, 4])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
