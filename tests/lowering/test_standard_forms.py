"""Operators on integers, other precisions and older forms are lowered by what the standard says of them, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from lowered import difference, litert, lower, reference
from onnx import TensorProto, helper, numpy_helper

from dovetail.core.errors import ModelError

CONTRIB = "com.microsoft"


def model_of(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, tuple[int, ...]]], outputs: dict[str, int],
    constants: dict[str, np.ndarray], opset: int = 17,
) -> onnx.ModelProto:  # fmt: skip
    given = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    made = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(helper.make_graph(nodes, "forms", given, made, stored), opset_imports=opsets, ir_version=9)


def scalar(value: float, dtype: type = np.float32) -> np.ndarray:
    return np.array(value, dtype)


def agree(model: onnx.ModelProto, feeds: dict[str, np.ndarray], folder: Path, steps: int = 0) -> None:
    want, lowered = reference(model, feeds), lower(model, folder)
    with litert() as runtime:
        for delegate in (True, False):
            found = runtime.run(lowered, feeds, delegate)
            assert {name: difference(want[name], found[name], steps) for name in want} == dict.fromkeys(want)


def test_convolution_on_integers(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    constants = {
        "xs": scalar(0.02), "xz": scalar(120, np.uint8), "w": random.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "ws": np.array([0.01, 0.02, 0.005, 0.01], np.float32), "wz": np.zeros(4, np.int8), "ys": scalar(0.2),
        "yz": scalar(128, np.uint8), "b": random.integers(-2000, 2000, 4).astype(np.int32),
    }  # fmt: skip
    inputs = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    node = helper.make_node("QLinearConv", inputs, ["y"], pads=[1, 1, 1, 1])
    model = model_of([node], {"x": (TensorProto.UINT8, (1, 3, 6, 5))}, {"y": TensorProto.UINT8}, constants)
    agree(model, {"x": random.integers(0, 256, (1, 3, 6, 5)).astype(np.uint8)}, tmp_path, steps=1)


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_pairs_of_integers(op: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    constants = {
        "as": scalar(0.02), "az": scalar(120, np.uint8), "bs": scalar(0.05), "bz": scalar(10, np.uint8), "cs": scalar(0.1),
        "cz": scalar(100, np.uint8),
    }  # fmt: skip
    node = helper.make_node(op, ["a", "as", "az", "b", "bs", "bz", "cs", "cz"], ["c"], domain=CONTRIB)
    shapes = {"a": (TensorProto.UINT8, (2, 5)), "b": (TensorProto.UINT8, (2, 5))}
    feeds = {name: random.integers(0, 256, (2, 5)).astype(np.uint8) for name in "ab"}
    agree(model_of([node], shapes, {"c": TensorProto.UINT8}, constants), feeds, tmp_path, steps=1)


@pytest.mark.parametrize(("kind", "dtype"), [(TensorProto.FLOAT16, np.float16), (TensorProto.DOUBLE, np.float64)])
def test_other_precisions_keep_their_type_at_the_border(kind: int, dtype: type, tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["y"])]
    model = model_of(nodes, {"x": (kind, (2, 3))}, {"y": kind}, {"w": np.array([0.5, -2, 3], dtype)})
    agree(model, {"x": np.linspace(-1, 1, 6).reshape(2, 3).astype(dtype)}, tmp_path)


def test_the_branch_of_a_constant_condition_is_taken(tmp_path: Path) -> None:
    def branch(op: str) -> onnx.GraphProto:
        name = f"{op}_y"
        return helper.make_graph([helper.make_node(op, ["x"], [name])], op, [], [helper.make_empty_tensor_value_info(name)])

    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("Neg"), else_branch=branch("Abs"))
    for chosen in (True, False):
        model = model_of([node], {"x": (TensorProto.FLOAT, (3,))}, {"y": TensorProto.FLOAT}, {"c": np.array(chosen)})
        agree(model, {"x": np.array([-1, 2, -3], np.float32)}, tmp_path)


def test_a_value_with_several_readers_is_not_overwritten(tmp_path: Path) -> None:
    """LiteRT's own kernels write into the memory of an operand that another operator reads later, unless it is copied."""
    nodes = [
        helper.make_node("Tanh", ["x"], ["t"]),
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("Mul", ["t", "a"], ["m"]),
        helper.make_node("Softmax", ["m"], ["y"], axis=0), helper.make_node("Softmax", ["m"], ["z"], axis=2),
    ]  # fmt: skip
    outputs = {"z": TensorProto.FLOAT, "y": TensorProto.FLOAT}
    model = model_of(nodes, {"x": (TensorProto.FLOAT, (1, 4, 5))}, outputs, {})
    agree(model, {"x": np.random.default_rng(0).standard_normal((1, 4, 5)).astype(np.float32)}, tmp_path)


INDICES = helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2])
REFUSED = {
    "opset": (model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, (2,))}, {"y": 1}, {}, opset=12), "opset 12"),
    "type": (model_of([helper.make_node("Add", ["x", "x"], ["y"])], {"x": (13, (2,))}, {"y": 13}, {}), "uint64"),
    "rank": (model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, (1,) * 7)}, {"y": 1}, {}), "7 axes"),
    "indices": (model_of([INDICES], {"x": (1, (1, 1, 4, 4))}, {"y": 1, "i": 7}, {}), "returns indices"),
    "operator": (model_of([helper.make_node("Det", ["x"], ["y"])], {"x": (1, (2, 2))}, {"y": 1}, {}), "Det"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_covered_is_named(case: str, tmp_path: Path) -> None:
    model, words = REFUSED[case]
    with pytest.raises(ModelError, match=words):
        lower(model, tmp_path)
