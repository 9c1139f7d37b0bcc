"""Analysed models as arrays: families, fusion, types, and what whole-network models are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dovetail.predict.family import Family
from dovetail.predict.op_table import OpTable, op_table
from dovetail.workloads.analyze import analyze


def test_activations_and_additions_run_behind_their_convolution(shared_data: Path) -> None:
    table = op_table(analyze(shared_data / "mlperf_tiny" / "resnet8_cifar10.onnx"))
    products = table.family == Family.PRODUCT
    assert products.sum() == 10 and table.network.layers == 10 and table.network.pixels == 32 * 32
    assert table.flop[products].sum() > 0.98 * table.flop.sum() and table.dtype == "fp32"
    assert not table.fused[products].any() and table.fused[table.family == Family.ELEMENTWISE].all()
    assert table.params == pytest.approx(table.weights.sum(), rel=0.02)


def test_a_quantised_model_computes_in_int8(shared_data: Path) -> None:
    plain = op_table(analyze(shared_data / "mlperf_tiny" / "resnet8_cifar10.onnx"))
    quantised = op_table(analyze(shared_data / "mlperf_tiny" / "resnet8_cifar10_int8_qdq.onnx"))
    assert quantised.dtype == "int8" and quantised.batch == plain.batch == 1
    assert quantised.weights.sum() == pytest.approx(plain.weights.sum(), rel=0.05)


def _convolution(groups: int, channels: int = 8) -> OpTable:
    weights = numpy_helper.from_array(np.ones((channels, channels // groups, 3, 3), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], group=groups),
        helper.make_node("Relu", ["y"], ["z"]),
        helper.make_node("Reshape", ["z", "s"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"]),
    ]
    shape = numpy_helper.from_array(np.array([channels, -1]), "s")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, channels, 16, 16])
    t = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [t], [weights, shape])
    return op_table(analyze(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)))


@pytest.mark.parametrize(
    ("groups", "family", "depthwise"), [(1, Family.PRODUCT, 0), (2, Family.PRODUCT, 0), (8, Family.DEPTHWISE, 1)]
)
def test_a_convolution_of_single_channels_is_depthwise(groups: int, family: Family, depthwise: float) -> None:
    table = _convolution(groups)
    assert list(table.family) == [family, Family.ELEMENTWISE, Family.MOVE] and list(table.fused) == [False, True, False]
    assert table.network.tags["depthwise"] == depthwise and table.batch == 2


def test_what_is_fused_moves_only_what_the_operator_before_did_not_hold() -> None:
    table = _convolution(1)
    elements = 2 * 8 * 16 * 16
    assert list(table.activations) == [2 * elements, 0, 2 * elements] and list(table.weights) == [8 * 8 * 9, 0, 0]


def test_an_output_as_large_as_the_input_is_dense(shared_data: Path) -> None:
    larger = op_table(analyze(shared_data / "onnx_models" / "super_resolution_x3_espcn.onnx"))
    smaller = op_table(analyze(shared_data / "mlperf_tiny" / "resnet8_cifar10.onnx"))
    assert (larger.network.tags["dense"], smaller.network.tags["dense"]) == (1.0, 0.0)
