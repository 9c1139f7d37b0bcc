"""Operations, bytes, shapes and memory of operators and whole models."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from dovetail.core.errors import InputError
from dovetail.core.workload import Op, Workload
from dovetail.report.analysis import matrix_flop
from dovetail.workloads.analyze import analyze

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
node = helper.make_node


def value(name: str, shape: Sequence[int | str] | None, dtype: int = FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    nodes: list[NodeProto],
    inputs: dict[str, Sequence[int | str]],
    outputs: Sequence[str],
    opset: int = 18,
    **stored: NDArray[np.generic],
) -> onnx.ModelProto:
    weights = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "g", [value(n, s) for n, s in inputs.items()], [value(n, None) for n in outputs], weights)
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=9)


def zeros(*shape: int) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


def only(workload: Workload, kind: str) -> Op:
    (found,) = [op for op in workload.ops if op.kind == kind]
    return found


def test_a_convolution_is_counted_by_hand() -> None:
    nodes = [node("Conv", ["x", "w", "b"], ["y"], "c", strides=[2, 2], pads=[1, 1, 1, 1], group=2)]
    work = analyze(model(nodes, {"x": ["N", 4, 8, 8]}, ["y"], w=zeros(6, 2, 3, 3), b=zeros(6)), shapes={"x": (3, 4, 8, 8)})
    op = only(work, "Conv")
    assert op.output_shapes == ((3, 6, 4, 4),)
    assert op.flop == 2 * (3 * 6 * 4 * 4) * (2 * 3 * 3) == matrix_flop(work)
    assert op.params == 6 * 2 * 9 + 6 and op.weight_bytes == 4 * op.params
    assert op.input_bytes == 4 * 3 * 4 * 64 and op.output_bytes == 4 * 3 * 6 * 16
    assert op.attributes is not None and op.attributes["group"] == "2" and op.dtype == "float32"
    assert work.assumed_dims == {} and work.uncounted == {}


@pytest.mark.parametrize(
    ("kind", "attributes", "operations"),
    [("Relu", {}, 1), ("Sigmoid", {}, 4), ("Softmax", {"axis": 1}, 5), ("Transpose", {}, 0), ("ReduceSum", {}, 1)],
)  # fmt: skip
def test_simple_operators(kind: str, attributes: dict[str, int], operations: int) -> None:
    work = analyze(model([node(kind, ["x"], ["y"], **attributes)], {"x": [5, 7]}, ["y"]))
    assert work.flop == operations * 35 and matrix_flop(work) == 0


def test_einsum_counts_like_matrix_products() -> None:
    shapes: dict[str, Sequence[int | str]] = {"a": [2, 3, 4], "b": [2, 4, 5]}
    work = analyze(model([node("Einsum", ["a", "b"], ["y"], equation="...ij,...jk->...ik")], shapes, ["y"]))
    assert work.flop == 2 * 2 * 3 * 4 * 5
    work = analyze(model([node("Einsum", ["a", "a"], ["y"], equation="bij,bij->bij")], {"a": [2, 3, 4]}, ["y"]))
    assert work.flop == 24 and matrix_flop(work) == 0


def test_a_recurrent_layer() -> None:
    steps, batch, size, hidden = 5, 2, 3, 4
    nodes = [node("LSTM", ["x", "w", "r"], ["y"], hidden_size=hidden)]
    work = analyze(model(nodes, {"x": [steps, batch, size]}, ["y"], w=zeros(1, 16, size), r=zeros(1, 16, hidden)))
    assert matrix_flop(work) == 2 * steps * batch * 4 * hidden * (size + hidden)


def test_fused_operators_of_a_runtime() -> None:
    nodes = [node("FusedConv", ["x", "w"], ["y"], domain="com.microsoft", activation="Relu"), node("Relu", ["y"], ["z"])]
    work = analyze(model(nodes, {"x": [1, 2, 4, 4]}, ["z"], w=zeros(3, 2, 1, 1)))
    assert only(work, "FusedConv").flop == 2 * 48 * 2 + 48 and only(work, "Relu").flop == 48


def test_shapes_computed_at_run_time_are_followed() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"]), node("Concat", ["n", "rest"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["r"]), node("MatMul", ["r", "w"], ["y"]),
    ]  # fmt: skip
    stored = {"zero": np.int64([0]), "rest": np.int64([-1]), "w": zeros(6, 2)}
    work = analyze(model(nodes, {"x": ["N", 2, 3]}, ["y"], **stored))
    assert work.input_shapes == {"x": (1, 2, 3)} and work.assumed_dims == {"N": 1}
    assert only(work, "MatMul").output_shapes == ((1, 2),) and work.params == 12


def test_what_cannot_be_counted_is_listed_and_not_zero() -> None:
    nodes = [node("NonZero", ["x"], ["i"]), node("Cast", ["i"], ["f"], to=FLOAT), node("Relu", ["f"], ["y"])]
    work = analyze(model([*nodes, node("TopK", ["x", "k"], ["v", "j"])], {"x": [4, 4]}, ["y", "v"], k=np.int64([2])))
    assert set(work.uncounted) == {"Relu", "TopK"} and "shape" in work.uncounted["Relu"]
    assert only(work, "Relu").flop is None and only(work, "Relu").bytes is None
    assert work.peak_activation_bytes is None


def test_quantised_weights_are_read_in_their_stored_form() -> None:
    nodes = [node("DequantizeLinear", ["q", "s", "z"], ["w"]), node("MatMul", ["x", "w"], ["y"])]
    stored = {"q": np.zeros((64, 64), np.int8), "s": np.float32(0.1), "z": np.int8(0)}
    work = analyze(model(nodes, {"x": [1, 64]}, ["y"], **stored))
    assert only(work, "DequantizeLinear").flop == 0 and only(work, "MatMul").weight_bytes == 64 * 64 + 5
    assert work.params == 64 * 64 + 2 and work.flop == 2 * 64 * 64


def test_shared_parameters_count_once() -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("MatMul", ["h", "w"], ["y"])]
    work = analyze(model(nodes, {"x": [1, 4]}, ["y"], w=zeros(4, 4)))
    assert work.params == 16 and work.weight_bytes == 2 * 64


def test_peak_memory_frees_after_the_last_reader() -> None:
    chain = [
        node("Relu", ["x"], ["a"]),
        node("Reshape", ["a", "s"], ["v"]),
        node("Relu", ["v"], ["b"]),
        node("Relu", ["b"], ["y"]),
    ]
    work = analyze(model(chain, {"x": [100]}, ["y"], s=np.int64([10, 10])))
    assert work.peak_activation_bytes == 2 * 400
    residual = [node("Relu", ["x"], ["a"]), node("Relu", ["a"], ["b"]), node("Add", ["x", "b"], ["y"])]
    assert analyze(model(residual, {"x": [100]}, ["y"])).peak_activation_bytes == 3 * 400


def branches(condition: str) -> list[NodeProto]:
    small = helper.make_graph([node("Relu", ["x"], ["p"])], "small", [], [value("p", None)])
    large = helper.make_graph([node("MatMul", ["x", "w"], ["q"])], "large", [], [value("q", None)])
    return [node("If", [condition], ["y"], "if", then_branch=small, else_branch=large)]


def test_the_larger_branch_counts_and_says_so() -> None:
    test = [node("ReduceMax", ["x"], ["m"], keepdims=0), node("Greater", ["m", "t"], ["c"])]
    work = analyze(model([*test, *branches("c")], {"x": [4, 4]}, ["y"], w=zeros(4, 4), t=np.float32(0)))
    assert only(work, "MatMul").name.startswith("if/else_branch/") and only(work, "MatMul").flop == 128
    assert not [op for op in work.ops if op.kind == "Relu"]
    assert (only(work, "If").attributes or {})["counted"] == "else_branch, the larger one"


def test_a_fixed_condition_takes_its_branch() -> None:
    work = analyze(model(branches("c"), {"x": [4, 4]}, ["y"], w=zeros(4, 4), c=np.bool_(True)))
    assert work.flop == 16 and work.params == 0


@pytest.mark.parametrize(("trips", "flop"), [(np.int64(7), 7 * 2 * 64), (None, None)])
def test_a_loop_counts_as_often_as_it_runs(trips: np.int64 | None, flop: int | None) -> None:
    body = helper.make_graph(
        [node("MatMul", ["h", "w"], ["h2"], "mm"), node("Identity", ["on"], ["on2"])],
        "body",
        [value("i", [], INT64), value("on", [], TensorProto.BOOL), value("h", [4, 4])],
        [value("on2", [], TensorProto.BOOL), value("h2", None)],
    )
    stored: dict[str, NDArray[np.generic]] = {"w": zeros(4, 4), "true": np.bool_(True)}  # type: ignore[dict-item]
    if trips is not None:
        stored["n"] = trips  # type: ignore[assignment]
    made = model([node("Loop", ["n", "true", "x"], ["y"], "loop", body=body)], {"x": [4, 4]}, ["y"], **stored)
    if trips is None:
        made.graph.input.append(value("n", [], INT64))
    work = analyze(made)
    assert only(work, "MatMul").flop == flop and only(work, "MatMul").output_shapes == ((4, 4),)
    assert ("MatMul" in work.uncounted) == (flop is None) and work.params == 16


def test_a_scan_runs_along_its_axis() -> None:
    body = helper.make_graph(
        [node("Add", ["s", "e"], ["s2"]), node("Identity", ["s2"], ["o"])],
        "body", [value("s", [3]), value("e", [3])], [value("s2", [3]), value("o", [3])],
    )  # fmt: skip
    scan = node("Scan", ["s0", "x"], ["last", "y"], "scan", body=body, num_scan_inputs=1)
    work = analyze(model([scan], {"s0": [3], "x": [5, 3]}, ["last", "y"]))
    assert only(work, "Add").flop == 15 and only(work, "Scan").output_shapes == ((3,), (5, 3))


def test_local_functions_are_counted_inside() -> None:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], opsets[:1])
    graph = helper.make_graph([node("Twice", ["x"], ["y"], domain="local")], "g", [value("x", [6])], [value("y", [6])])
    assert analyze(helper.make_model(graph, opset_imports=opsets, functions=[function])).flop == 6


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"z": (1, 4)}, "no input 'z'"),
        ({"x": (1, 4, 1)}, "declares 2 dimensions"),
        ({"x": (1, 5)}, "is 4, not 5"),
        ({"x": (1, 4), "u": (2, 4)}, "N is 1, not 2"),
        ({"x": (-1, 4)}, "negative"),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        analyze(model([node("Add", ["x", "u"], ["y"])], {"x": ["N", 4], "u": ["N", 4]}, ["y"]), shapes=shapes)


def test_assumed_sizes_follow_the_names_of_dimensions() -> None:
    work = analyze(model([node("Relu", ["x"], ["y"])], {"x": ["batch", "seq_len", "height", "k"]}, ["y"]))
    assert work.assumed_dims == {"batch": 1, "seq_len": 128, "height": 224, "k": 224}


def test_every_node_model_of_the_standard_is_handled() -> None:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the standard's own reference computations overflow on purpose
        cases = load_model_tests(kind="node")
    partly = {case.name for case in cases if analyze(case.model).uncounted}
    print(f"{len(cases)} node models: {len(cases) - len(partly)} counted in full, {len(partly)} with uncounted operators")
    assert len(cases) > 1000 and len(partly) < 0.2 * len(cases)


REAL = {  # (parameters, operations in convolutions and matrix products)
    "cifar10_resnets/resnet20_cifar10.onnx": (269_722 + 2 * 688, 81_102_080),
    "cifar10_resnets/resnet56_cifar10.onnx": (853_018 + 2 * 2032, 250_971_392),
    "mlperf_tiny/resnet8_cifar10.onnx": (78_666, 25_003_264),
    "mlperf_tiny/resnet8_cifar10_int8_qdq.onnx": (78_611, 25_003_264),
    "mlperf_tiny/ad_toycar_autoencoder.onnx": (269_992, 528_384),
    "onnx_models/silero_vad_16k_op15.onnx": (309_635, 616_448),
    "onnx_models/super_resolution_x3_espcn.onnx": (59_657, 5_969_739_776),
}


@pytest.mark.parametrize("name", REAL)
def test_real_models(shared_data: Path, name: str) -> None:
    work = analyze(shared_data / name)
    assert (work.params, matrix_flop(work)) == REAL[name]
    assert not work.uncounted and work.peak_activation_bytes is not None
    assert len({op.name for op in work.ops}) == len(work.ops)
