"""Real networks lowered: what is left of them, and that they compute the same."""

import contextlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper

from dovetail.compress.clean import Clean
from dovetail.compress.quantize_static import QuantizeStatic
from dovetail.core.errors import InputError, ModelError
from dovetail.core.measurement import Environment
from dovetail.core.protocols import Feeds, Model, PassContext, TensorSpec
from dovetail.data.dataset import write_split
from dovetail.lowering.check import Difference, compare
from dovetail.lowering.lower import Report, lower
from dovetail.lowering.lower_litert import LowerLitert
from dovetail.runtimes.litert import LiteRt
from dovetail.runtimes.onnxruntime import OnnxRuntime
from dovetail.testing.models import unknown_operator
from dovetail.testing.pass_suite import PassConformance
from dovetail.testing.samples import MemoryDataset
from dovetail.workloads.normalize import normalize

HERE = Environment(fingerprint="", cpu="", cores=1, isa=("avx512f", "avx512_vnni"), memory_bytes=1e9, os="", python="")


def prepared(path: Path, folder: Path) -> Path:
    """The model as the search hands it on: normalised and cleaned."""
    normalize(path, folder / "normal.onnx")
    (folder / "clean").mkdir()
    context = PassContext(workdir=folder / "clean", environment=HERE)
    return Clean().apply(Model(path=folder / "normal.onnx"), context).path


def images(shared_data: Path, count: int, offset: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pixels as float NCHW, and labels."""
    with np.load(shared_data / "cifar10" / "cifar10_test_mini1000.npz") as file:
        x, y = file["x"][offset : offset + count], file["y"][offset : offset + count]
    return x.transpose(0, 3, 1, 2).astype(np.float32), y


def answers(model: Path, feeds: list[Feeds]) -> np.ndarray:
    """First output on each feed, by the runtime of the file."""
    lowered = model.suffix == ".tflite"
    runtime = LiteRt() if lowered else OnnxRuntime()
    session = runtime.build(Model(path=model, format="litert" if lowered else "onnx"), {"threads": 1})
    found = np.concatenate([session.run(f)[0] for f in feeds])
    session.close()
    return found


def kinds(report: Report) -> Counter[str]:
    return Counter(report.operators)


# -- float -----------------------------------------------------------------------------------------------------------------


def test_resnet8_is_its_convolutions_additions_and_head(shared_data: Path, tmp_path: Path) -> None:
    model = prepared(shared_data / "mlperf_tiny" / "resnet8_cifar10.onnx", tmp_path)
    report = lower(model, tmp_path / "model.tflite")
    assert kinds(report) == {
        "TRANSPOSE": 1, "CONV_2D": 9, "ADD": 3, "MEAN": 1, "RESHAPE": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1,
    }  # fmt: skip
    x, _ = images(shared_data, 1)
    assert compare(model, tmp_path / "model.tflite", {"input": x}).relative < 1e-5


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("cifar10_resnets/resnet20_cifar10.onnx", (1, 3, 32, 32), {"CONV_2D": 21, "ADD": 9, "TRANSPOSE": 1, "PAD": 2}),
        ("cifar10_resnets/resnet56_cifar10.onnx", (1, 3, 32, 32), {"CONV_2D": 57, "ADD": 27, "TRANSPOSE": 1, "PAD": 2}),
        ("mlperf_tiny/ad_toycar_autoencoder.onnx", (1, 640), {"FULLY_CONNECTED": 10}),
        ("onnx_models/super_resolution_x3_espcn.onnx", (1, 1, 224, 224), {"CONV_2D": 4, "DEPTH_TO_SPACE": 1, "RESHAPE": 2}),
    ],
)
def test_networks_lower_without_moves_inside(
    name: str, shape: tuple[int, ...], expected: dict[str, int], shared_data: Path, tmp_path: Path
) -> None:
    model = prepared(shared_data / name, tmp_path)
    report = lower(model, tmp_path / "model.tflite")
    found = kinds(report)
    assert {kind: found[kind] for kind in ("TRANSPOSE", *expected)} == {"TRANSPOSE": 0} | expected
    (port,) = onnx.load(str(model)).graph.input
    feeds = {port.name: np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    assert compare(model, tmp_path / "model.tflite", feeds).relative < 1e-4


# -- integers --------------------------------------------------------------------------------------------------------------


def test_the_published_qdq_file_becomes_the_published_litert_file(shared_data: Path, tmp_path: Path) -> None:
    """The same operators, and the same answers on nearly every image as the file its authors converted themselves."""
    folder = shared_data / "mlperf_tiny"
    model = prepared(folder / "resnet8_cifar10_int8_qdq.onnx", tmp_path)
    report = lower(model, tmp_path / "model.tflite")
    assert kinds(report) == {
        "CONV_2D": 9, "ADD": 3, "AVERAGE_POOL_2D": 1, "RESHAPE": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1,
    }  # fmt: skip
    x, y = images(shared_data, 500)
    pixels = [(i.transpose(1, 2, 0)[None] - 128).astype(np.int8) for i in x]
    ours = answers(tmp_path / "model.tflite", [{"input_1_int8": p} for p in pixels])
    theirs = answers(folder / "pretrainedResnet_quant.tflite", [{"input_1_int8": p} for p in pixels])
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    assert (ours.argmax(1) == y).mean() == pytest.approx((theirs.argmax(1) == y).mean(), abs=0.002)


def test_our_own_quantisation_lowers_and_keeps_its_answers(shared_data: Path, tmp_path: Path) -> None:
    model = prepared(shared_data / "mlperf_tiny" / "resnet8_cifar10.onnx", tmp_path)
    x, _ = images(shared_data, 300)
    feeds = [{"input": image[None]} for image in x]
    (tmp_path / "int8").mkdir()
    context = PassContext(workdir=tmp_path / "int8", environment=HERE, calibration=MemoryDataset(feeds[:64]))
    quantised = QuantizeStatic().apply(Model(path=model), context)
    report = lower(quantised.path, tmp_path / "model.tflite")
    assert report.quantised and kinds(report)["DEQUANTIZE"] == 1 and kinds(report)["QUANTIZE"] == 1
    expected, found = answers(quantised.path, feeds[64:]), answers(tmp_path / "model.tflite", feeds[64:])
    assert (expected.argmax(1) == found.argmax(1)).mean() >= 0.99


def test_every_tensor_between_quantised_operators_is_an_integer(shared_data: Path, tmp_path: Path) -> None:
    model = prepared(shared_data / "mlperf_tiny" / "ad_toycar_autoencoder_int8_qdq.onnx", tmp_path)
    lower(model, tmp_path / "model.tflite")
    interpreter = Interpreter(str(tmp_path / "model.tflite"))
    assert {tensor["dtype"].__name__ for tensor in interpreter.get_tensor_details()} == {"int8", "int32"}


# -- the pass --------------------------------------------------------------------------------------------------------------


class TestLowerLitert(PassConformance):
    compression_pass = LowerLitert()
    config = {"dims": ["x:0=1"]}
    refuses = (unknown_operator,)


def single(node: onnx.NodeProto, shape: list[int], out: list[int], *constants: onnx.TensorProto) -> onnx.ModelProto:
    """A graph of one operator on ``x``."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", out))]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def apply(model: onnx.ModelProto, folder: Path, **config: object) -> Model:
    onnx.save(model, str(folder / "source.onnx"))
    (folder / "made").mkdir()
    context = PassContext(workdir=folder / "made", environment=HERE, config=config)
    return LowerLitert().apply(Model(path=folder / "source.onnx"), context)


def test_the_pass_fixes_a_batch_and_compares_on_batches_of_samples(tmp_path: Path, digits: Path) -> None:
    with np.load(digits / "digits.npz") as file:
        images = file["image"][:10]
    image = TensorSpec(name="image", dtype="float32", shape=("N", 1, 16, 16))
    data = write_split(tmp_path / "data", (({"image": x[None]}, i, None) for i, x in enumerate(images)), [image])
    (tmp_path / "made").mkdir()
    notes: list[str] = []
    context = PassContext(
        workdir=tmp_path / "made", environment=HERE, config={"dims": ["N=4"]}, calibration=data, note=notes.append
    )
    made = LowerLitert().apply(Model(path=prepared(digits / "digits.onnx", tmp_path)), context)
    assert notes[0] == "takes only shape image [4, 1, 16, 16]"
    assert Interpreter(str(made.path)).get_input_details()[0]["shape"].tolist() == [4, 1, 16, 16]


def test_the_pass_names_every_operator_without_a_form(tmp_path: Path) -> None:
    node = helper.make_node("Det", ["x"], ["y"])
    with pytest.raises(ModelError, match="no LiteRT form for Det"):
        apply(single(node, [2, 2], []), tmp_path)


def test_an_unknown_size_is_named_and_can_be_given(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    model = single(node, ["batch", "tokens"], ["batch", "tokens"])  # type: ignore[list-item]
    with pytest.raises(ModelError, match="tokens=SIZE"):
        apply(model, tmp_path)
    (tmp_path / "made").rmdir()
    made = apply(model, tmp_path, dims=["tokens=7"])
    assert [spec.shape for spec in LiteRt().build(made, {}).inputs] == [(1, 7)]


@pytest.mark.parametrize("dims", [["tokens"], ["tokens=0"], ["=3"], "tokens=3"])
def test_sizes_of_the_wrong_form_are_refused(dims: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name=size"):
        apply(single(helper.make_node("Relu", ["x"], ["y"]), [1, 2], [1, 2]), tmp_path, dims=dims)


@pytest.mark.parametrize(
    ("quantised", "apart", "own", "accepted"),
    [
        (True, 0.04, 0.0, True), (True, 0.09, 0.05, True), (True, 0.09, 0.04, False), (True, 0.6, 0.5, False),
        (True, float("nan"), 0.5, False), (False, 0.04, 0.05, False),
    ],
)  # fmt: skip
def test_integers_may_lie_as_far_apart_as_those_of_onnx_runtime_itself(
    quantised: bool, apart: float, own: float, accepted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given how far outputs lie apart, which no small model does by itself."""
    monkeypatch.setattr("dovetail.lowering.check.differences", lambda *_: [Difference(output="y", relative=apart)])
    monkeypatch.setattr("dovetail.lowering.check.own_differences", lambda *_: [Difference(output="y", relative=own)])
    scale, zero = numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.int8(0), "z")
    model = single(helper.make_node("Relu", ["x"], ["y"]), [1, 4], [1, 4])
    if quantised:
        model = single(helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]), [1, 4], [1, 4], scale, zero)
        model.graph.node.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]))
    with contextlib.nullcontext() if accepted else pytest.raises(ModelError, match="differs from ONNX Runtime's"):
        apply(model, tmp_path)


def test_integers_at_the_border_are_compared_as_what_they_stand_for(tmp_path: Path) -> None:
    x = np.array([0.0, 0.9], np.float32)
    for name, shift in (("near", 0.0), ("far", 8 / 256)):
        parts = {"k": np.float32(shift), "s": np.float32(1 / 256), "z": np.int8(-128)}
        stored = [numpy_helper.from_array(np.asarray(value), key) for key, value in parts.items()]
        model = single(helper.make_node("Add", ["x", "k"], ["a"]), [2], [2], *stored)
        model.graph.node.append(helper.make_node("QuantizeLinear", ["a", "s", "z"], ["y"]))
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT8
        onnx.save(model, str(tmp_path / f"{name}.onnx"))
    lower(tmp_path / "far.onnx", tmp_path / "far.tflite")
    found = compare(tmp_path / "near.onnx", tmp_path / "far.tflite", {"x": x})
    assert found.relative == pytest.approx(8 / 230)  # not 8 / 128, the greatest of the integers themselves


def test_scales_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    scale = numpy_helper.from_array(np.float32(-1.0), "s")
    zero = numpy_helper.from_array(np.int8(0), "z")
    model = single(helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]), [1, 4], [1, 4], scale, zero)
    model.graph.node.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]))
    with pytest.raises(ModelError, match="positive"):
        apply(model, tmp_path)
