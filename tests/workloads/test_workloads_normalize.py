"""Normalisation changes how a graph is written, never what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from dovetail.core.errors import InputError, ModelError
from dovetail.workloads import normalize as module
from dovetail.workloads.load import load_onnx, signature
from dovetail.workloads.normalize import NormalizeReport, normalize
from dovetail.workloads.ort_limits import runtime_limits

Arrays = dict[str, NDArray[np.generic]]
RNG = np.random.default_rng(5)


def run(path: Path, feeds: Arrays) -> list[NDArray[np.generic]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def check_same(source: Path, out: Path, feeds: Arrays, **options: object) -> tuple[NormalizeReport, onnx.ModelProto]:
    """Normalises and compares interface and outputs on both files."""
    report = normalize(source, out, **options)  # type: ignore[arg-type]
    before, after = load_onnx(source), load_onnx(out)
    for old, new in zip(signature(before), signature(after), strict=True):
        assert [(s.name, s.dtype) for s in old] == [(s.name, s.dtype) for s in new]
    for expected, found in zip(run(source, feeds), run(out, feeds), strict=True):
        assert expected.shape == found.shape and expected.dtype == found.dtype
        np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=1e-5, atol=1e-6)
    onnx.checker.check_model(after, full_check=True)
    names = [node.name for node in after.graph.node]
    assert all(names) and len(set(names)) == len(names)
    return report, after


def value(name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def write(
    path: Path,
    opset: int,
    nodes: list[NodeProto],
    x: Sequence[int | str],
    y: Sequence[int | str],
    **weights: NDArray[np.generic],
) -> Path:
    """A model with input x and output y, and IR version 3, where initialisers must be listed as inputs."""
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    listed = [value(tensor.name, tensor.dims, tensor.data_type) for tensor in stored]
    graph = helper.make_graph(nodes, "g", [value("x", x), *listed], [value("y", y)], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3), path)
    return path


def floats(*shape: int) -> NDArray[np.float32]:
    return RNG.random(shape, dtype=np.float32) + np.float32(0.1)


node = helper.make_node
BN = {name: floats(3) for name in "sbmv"}
OLD: dict[str, tuple[int, list[NodeProto], tuple[int | str, ...], tuple[int | str, ...], Arrays]] = {
    "batchnorm7": (7, [node("BatchNormalization", ["x", *"sbmv"], ["y"])], ("N", 3, 4, 4), ("N", 3, 4, 4), dict(BN)),
    "batchnorm9_training_outputs": (
        9, [node("BatchNormalization", ["x", *"sbmv"], ["y", *"cdef"])], ("N", 3, 4, 4), ("N", 3, 4, 4), dict(BN),
    ),
    "dropout7_mask": (7, [node("Dropout", ["x"], ["d", "mask"]), node("Relu", ["d"], ["y"])], ("N", 4), ("N", 4), {}),
    "upsample7": (7, [node("Upsample", ["x"], ["y"], scales=[1.0, 1.0, 2.0, 2.0])], (1, 3, 4, 4), (1, 3, 8, 8), {}),
    "upsample9": (
        9, [node("Upsample", ["x", "scales"], ["y"])], (1, 3, 4, 4), (1, 3, 8, 8), {"scales": np.float32([1, 1, 2, 2])},
    ),
    "slice_squeeze9": (
        9,
        [node("Slice", ["x"], ["s"], starts=[1], ends=[2], axes=[1]), node("Squeeze", ["s"], ["q"], axes=[1]),
         node("Unsqueeze", ["q"], ["u"], axes=[0]), node("ReduceSum", ["u"], ["y"], axes=[0], keepdims=0)],
        ("N", 3, 4), ("N", 4), {},
    ),
    "gemm7_softmax": (
        7, [node("Gemm", ["x", "w", "c"], ["h"], transB=1), node("Softmax", ["h"], ["y"])], ("N", 4), ("N", 3),
        {"w": floats(3, 4), "c": floats(3)},
    ),
    "pad_clip7": (
        7, [node("Pad", ["x"], ["p"], pads=[0, 1, 0, 2]), node("Clip", ["p"], ["y"], min=0.2, max=0.6)], ("N", 4), ("N", 7), {},
    ),
    "add_broadcast7_split": (
        7,
        [node("Add", ["x", "c"], ["a"]), node("Split", ["a"], ["l", "r"], axis=1, split=[1, 3]),
         node("Concat", ["r", "l"], ["y"], axis=1)],
        ("N", 4), ("N", 4), {"c": floats(4)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_old_operator_sets(tmp_path: Path, name: str) -> None:
    opset, nodes, x, y, weights = OLD[name]
    source = write(tmp_path / "old.onnx", opset, nodes, x, y, **weights)
    feeds: Arrays = {"x": floats(*(2 if dim == "N" else int(dim) for dim in x))}
    report, model = check_same(source, tmp_path / "model.onnx", feeds)
    in_training = name == "batchnorm9_training_outputs"  # five outputs mean batch statistics: nothing newer computes the same
    assert report.opset == (opset, 9 if in_training else 17) and bool(report.notes) == in_training
    assert [value.name for value in model.graph.input] == ["x"]


def test_stale_annotations_are_replaced(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["h"]), node("Shape", ["h"], ["n"]), node("Reshape", ["x", "n"], ["y"])]
    model = load_onnx(write(tmp_path / "old.onnx", 13, nodes, ["N", 4], [1, 4]))
    model.graph.value_info.append(value("h", [1, 4]))
    onnx.save(model, tmp_path / "stale.onnx")
    normalize(tmp_path / "stale.onnx", tmp_path / "model.onnx")
    x = floats(3, 4)
    np.testing.assert_array_equal(run(tmp_path / "model.onnx", {"x": x})[0], x)
    assert signature(load_onnx(tmp_path / "model.onnx"))[1][0].shape == ("N", 4)


def test_shape_arithmetic_is_folded_and_dimensions_can_be_fixed(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"]), node("Concat", ["n", "minus"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["y"]),
    ]  # fmt: skip
    weights: Arrays = {"zero": np.int64([0]), "minus": np.int64([-1])}
    source = write(tmp_path / "old.onnx", 11, nodes, ["N", 2, 3], ["N", 6], **weights)
    _, after = check_same(source, tmp_path / "model.onnx", {"x": floats(4, 2, 3)}, fixed_dims={"N": 4})
    assert [n.op_type for n in after.graph.node] == ["Reshape"]
    assert signature(after)[0][0].shape == (4, 2, 3) and signature(after)[1][0].shape == (4, 6)
    with pytest.raises(InputError, match="no symbolic dimension 'M'"):
        normalize(source, tmp_path / "other.onnx", fixed_dims={"M": 1})


def test_control_flow_keeps_its_captures(tmp_path: Path) -> None:
    branch = [
        helper.make_graph([node(kind, ["x", "c"], [f"{kind}_out"])], kind, [], [value(f"{kind}_out", ["N", 4])])
        for kind in ("Add", "Mul")
    ]
    nodes = [
        node("ReduceSum", ["x"], ["sum"], keepdims=0), node("Greater", ["sum", "zero"], ["cond"]),
        node("If", ["cond"], ["y"], then_branch=branch[0], else_branch=branch[1]),
    ]  # fmt: skip
    source = write(tmp_path / "old.onnx", 12, nodes, ["N", 4], ["N", 4], c=floats(4), zero=np.float32(0))
    for sign in (1, -1):
        _, after = check_same(source, tmp_path / "model.onnx", {"x": np.float32(sign) * floats(2, 4)})
        assert any(n.op_type == "If" for n in after.graph.node)


def test_a_scan_of_opset_8_is_left_alone(tmp_path: Path) -> None:
    body = helper.make_graph(
        [node("Add", ["s", "e"], ["s2"]), node("Identity", ["s2"], ["o"])],
        "body", [value("s", [3]), value("e", [3])], [value("s2", [3]), value("o", [3])],
    )  # fmt: skip
    nodes = [node("Scan", ["", "first", "x"], ["last", "y"], body=body, num_scan_inputs=1)]
    source = write(tmp_path / "old.onnx", 8, nodes, [2, 4, 3], [2, 4, 3], first=floats(2, 3))
    report, _ = check_same(source, tmp_path / "model.onnx", {"x": floats(2, 4, 3)})
    assert report.opset == (8, 8) and "Scan" in report.notes[0]


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], opsets[:1])
    graph = helper.make_graph([node("Twice", ["x"], ["y"], domain="local")], "g", [value("x", ["N"])], [value("y", ["N"])])
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8), tmp_path / "f.onnx")
    _, after = check_same(tmp_path / "f.onnx", tmp_path / "model.onnx", {"x": floats(3)})
    assert [n.op_type for n in after.graph.node] == ["Add"] and not after.functions


def test_versions_are_capped_at_what_the_runtime_takes(tmp_path: Path) -> None:
    model = helper.make_model(
        helper.make_graph([node("Relu", ["x"], ["y"])], "g", [value("x", [2])], [value("y", [2])]),
        opset_imports=[helper.make_opsetid("", onnx.defs.onnx_opset_version())],
        ir_version=onnx.IR_VERSION,
    )
    onnx.save(model, tmp_path / "new.onnx")
    normalize(tmp_path / "new.onnx", tmp_path / "model.onnx")
    after, limits = load_onnx(tmp_path / "model.onnx"), runtime_limits()
    assert after.ir_version <= limits.ir_version and after.opset_import[0].version <= limits.opset
    assert run(tmp_path / "model.onnx", {"x": np.float32([-1, 1])})[0].tolist() == [0, 1]


def test_large_weights_go_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INLINE_LIMIT_BYTES", 2000)
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    source = write(tmp_path / "old.onnx", 17, nodes, ["N", 32], ["N", 32], w=floats(32, 32))
    report, _ = check_same(source, tmp_path / "model.onnx", {"x": floats(2, 32)})
    assert (tmp_path / "model.onnx.data").stat().st_size >= 4096 and report.notes


def test_graphs_that_onnx_refuses(tmp_path: Path) -> None:
    source = write(tmp_path / "bad.onnx", 17, [node("Relu", ["x", "x"], ["y"])], ["N"], ["N"])
    with pytest.raises(ModelError, match="not valid"):
        normalize(source, tmp_path / "model.onnx")


REAL = {
    "cifar10_resnets/resnet20_cifar10.onnx": (2, 3, 32, 32),
    "cifar10_resnets/resnet56_cifar10.onnx": (1, 3, 32, 32),
    "mlperf_tiny/ad_toycar_autoencoder.onnx": (3, 640),
    "mlperf_tiny/ad_toycar_autoencoder_fp32tflite.onnx": (3, 640),
    "mlperf_tiny/ad_toycar_autoencoder_int8_qdq.onnx": (3, 640),
    "mlperf_tiny/resnet8_cifar10.onnx": (2, 3, 32, 32),
    "mlperf_tiny/resnet8_cifar10_int8_qdq.onnx": (2, 32, 32, 3),
    "onnx_models/super_resolution_x3_espcn.onnx": (1, 1, 224, 224),
}


@pytest.mark.parametrize("name", REAL)
def test_real_models(tmp_path: Path, shared_data: Path, name: str) -> None:
    spec = signature(load_onnx(shared_data / name))[0][0]
    scale = 100 if spec.dtype == "int8" else 1
    feeds: Arrays = {spec.name: (RNG.standard_normal(REAL[name]).clip(-1.2, 1.2) * scale).astype(spec.dtype)}
    _, after = check_same(shared_data / name, tmp_path / "model.onnx", feeds)
    kinds = {n.op_type for n in after.graph.node}
    assert not kinds & {"Constant", "ConstantOfShape", "Concat", "Cast", "Shape"}
    if "qdq" in name:
        assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_a_recurrent_model_with_branches(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "onnx_models/silero_vad_16k_op15.onnx"
    feeds: Arrays = {
        "input": RNG.standard_normal((2, 576)).astype(np.float32),
        "state": RNG.standard_normal((2, 2, 128)).astype(np.float32),
        "sr": np.array(16000),
    }
    report, after = check_same(source, tmp_path / "model.onnx", feeds)
    assert report.opset == (15, 17) and any(n.op_type == "If" for n in after.graph.node)
