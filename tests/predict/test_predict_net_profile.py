"""Sums of analysed ONNX models: each operator counts as PyTorch would run it."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dovetail.pipeline.describe import analyze_file
from dovetail.predict.nets.profile import profile
from dovetail.predict.nets.quantities import QUANTITIES


def _sums(path: Path) -> dict[str, float]:
    return dict(zip(QUANTITIES, profile(analyze_file(path, {})).tolist(), strict=True))


def _saved(folder: Path, nodes: list[onnx.NodeProto], shape: list[int], weights: dict[str, np.ndarray]) -> Path:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    path = folder / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_convolutions_go_by_kernel_and_groups(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["p"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Conv", ["p", "b"], ["q"], kernel_shape=[3, 3], pads=[1] * 4, group=16),
        helper.make_node("Conv", ["q", "c", "bias"], ["r"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["r", "d"], ["s"], kernel_shape=[3, 3], pads=[1] * 4, group=4),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    weights = {
        "a": np.ones((16, 3, 3, 3)), "b": np.ones((16, 1, 3, 3)), "c": np.ones((32, 16, 1, 1)), "bias": np.ones(32),
        "d": np.ones((32, 8, 3, 3)),
    }  # fmt: skip
    found = _sums(_saved(tmp_path, nodes, [4, 3, 10, 10], weights))
    assert [found[f"count_{kind}"] for kind in ("conv", "dw", "pw", "grp", "ew")] == [1, 1, 1, 1, 1]
    assert found["flop_conv"] == 2 * 1600 * 27 and found["flop_odd"] == found["flop_conv"]
    assert found["flop_grp"] == 2 * 3200 * 72 and found["moved_dw"] == 3200 and found["moved_ew"] == 6400
    assert found["params"] == 16 * 27 + 16 * 9 + 32 * 16 + 32 + 32 * 72


def test_a_sigmoid_times_its_operand_is_one_operator(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"])]
    assert _sums(_saved(tmp_path, nodes, [1, 8, 4, 4], {}))["count_ew"] == 1
