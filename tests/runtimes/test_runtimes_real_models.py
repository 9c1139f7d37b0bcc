"""The runtimes on published networks: equal outputs, kernels that say what they are, sources that run alone."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Feeds, Model, Runtime
from dovetail.runtimes.onnxruntime import OnnxRuntime
from dovetail.runtimes.openvino import OpenVino
from dovetail.runtimes.torch import TorchRuntime

needs_torch = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the torch extra"),
]
IMAGES = {"resnet8": "mlperf_tiny/resnet8_cifar10.onnx", "resnet8_int8": "mlperf_tiny/resnet8_cifar10_int8_qdq.onnx"}
AUTOENCODERS = {"ad": "mlperf_tiny/ad_toycar_autoencoder.onnx", "ad_int8": "mlperf_tiny/ad_toycar_autoencoder_int8_qdq.onnx"}
MODELS = {**IMAGES, **AUTOENCODERS}
RUNTIMES = [OpenVino(), pytest.param(TorchRuntime(), marks=needs_torch)]


def feeds_for(name: str, shared_data: Path) -> Feeds:
    rng = np.random.default_rng(0)
    if name.startswith("ad"):
        frames = rng.normal(scale=10, size=(1, 640))
        return {"input_1": frames.astype(np.int8)} if name == "ad_int8" else {"input": frames.astype(np.float32)}
    image = np.load(shared_data / "cifar10/cifar10_test_mini1000.npz", allow_pickle=False)["x"][:1]
    if name == "resnet8_int8":
        return {"input_1_int8": (image.astype(np.int16) - 128).astype(np.int8)}
    return {"input": image.astype(np.float32).transpose(0, 3, 1, 2)}


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda r: r.name)
@pytest.mark.parametrize("name", MODELS)
def test_runtimes_agree(name: str, runtime: Runtime, shared_data: Path) -> None:
    """Float networks to 1e-4 of the greatest output; int8 networks to two steps: their kernels round in different places."""
    model, feeds = Model(path=shared_data / MODELS[name]), feeds_for(name, shared_data)
    expected = OnnxRuntime().build(model, {"threads": 1}).run(feeds)
    got = runtime.build(model, {"threads": 1}).run(feeds)
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == e.dtype
        limit = 2 if e.dtype == np.int8 else 1e-4 * np.abs(e).max()
        assert np.abs(g.astype(np.float64) - e).max() <= limit


@needs_torch[0]
@needs_torch[1]
def test_torch_takes_the_old_opset_of_the_super_resolution_network(shared_data: Path) -> None:
    model = Model(path=shared_data / "onnx_models/super_resolution_x3_espcn.onnx")
    feeds = {"input": np.random.default_rng(0).random((1, 1, 224, 224), dtype=np.float32)}
    expected = OnnxRuntime().build(model, {}).run(feeds)[0]
    np.testing.assert_allclose(TorchRuntime().build(model, {}).run(feeds)[0], expected, atol=1e-5)


@needs_torch[0]
@needs_torch[1]
def test_torch_names_operators_that_it_lacks(shared_data: Path) -> None:
    with pytest.raises(ModelError, match="has no operator If"):
        TorchRuntime().build(Model(path=shared_data / "onnx_models/silero_vad_16k_op15.onnx"), {})


def test_openvino_reads_large_inputs_in_place_and_awkward_ones_by_copy(shared_data: Path) -> None:
    model = Model(path=shared_data / "onnx_models/super_resolution_x3_espcn.onnx")
    images = np.random.default_rng(0).random((2, 1, 1, 224, 224), dtype=np.float32)
    reference, session = OnnxRuntime().build(model, {}), OpenVino().build(model, {})
    expected = [reference.run({"input": image})[0] for image in images]
    frozen = images[1].copy()
    frozen.flags.writeable = False
    first = session.run({"input": images[0]})[0]
    second = session.run({"input": frozen})[0]
    images[0] = 0
    np.testing.assert_allclose(first, expected[0], atol=1e-4)
    np.testing.assert_allclose(second, expected[1], atol=1e-4)
    np.testing.assert_allclose(session.run({"input": images[1]})[0], expected[1], atol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda r: r.name)
def test_bfloat16_is_close_but_not_equal(runtime: Runtime, shared_data: Path) -> None:
    model, feeds = Model(path=shared_data / MODELS["resnet8"]), feeds_for("resnet8", shared_data)
    exact = runtime.build(model, {"precision": "f32"}).run(feeds)[0]
    coarse = runtime.build(model, {"precision": "bf16"}).run(feeds)[0]
    assert coarse.dtype == np.float32
    assert coarse.argmax() == exact.argmax()
    assert np.abs(coarse - exact).max() < 0.1


def test_onnxruntime_profile_names_unfused_quantisation(shared_data: Path) -> None:
    model, feeds = Model(path=shared_data / MODELS["resnet8_int8"]), feeds_for("resnet8_int8", shared_data)
    profile = OnnxRuntime().build(model, {"threads": 1}).profile(feeds, repeats=20)
    assert profile is not None
    kinds = profile.by_kind()
    assert {"QLinearConv", "DequantizeLinear", "Conv"} <= kinds.keys()
    assert profile.kernel_s <= profile.call_s * 1.001
    convolutions = [kernel for kernel in profile.kernels if kernel.kind == "QLinearConv"]
    assert all(kernel.dtype == "uint8" for kernel in convolutions)


def test_onnxruntime_profile_does_not_count_a_body_twice(shared_data: Path) -> None:
    model = Model(path=shared_data / "onnx_models/silero_vad_16k_op15.onnx")
    feeds = {
        "input": np.zeros((1, 576), np.float32),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000, np.int64),
    }
    profile = OnnxRuntime().build(model, {"threads": 1}).profile(feeds, repeats=20)
    assert profile is not None
    assert "If" in profile.by_kind() and profile.kernel_s <= profile.call_s * 1.001


def test_openvino_profile_names_kernels_and_what_was_fused(shared_data: Path) -> None:
    model, feeds = Model(path=shared_data / MODELS["resnet8"]), feeds_for("resnet8", shared_data)
    profile = OpenVino().build(model, {"threads": 1}).profile(feeds, repeats=20)
    assert profile is not None and profile.threads == 1
    convolutions = [kernel for kernel in profile.kernels if kernel.kind == "Convolution"]
    assert len(convolutions) == 9
    assert all(kernel.implementation and kernel.dtype == "f32" for kernel in convolutions)
    assert any(len(kernel.sources) > 1 for kernel in convolutions)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_openvino_profile_leaves_out_what_ran_once_when_the_model_was_compiled(precision: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = [helper.make_tensor("w", TensorProto.FLOAT, (512, 256), rng.normal(size=512 * 256).astype(np.float32))]
    nodes = [
        helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [32, size]) for name, size in (("x", 256), ("y", 512)))
    proto = helper.make_model(helper.make_graph(nodes, "g", [x], [y], weights), opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 8
    onnx.save(proto, str(tmp_path / "m.onnx"))
    session = OpenVino().build(Model(path=tmp_path / "m.onnx"), {"threads": 1, "precision": precision})
    profile = session.profile({"x": np.ones((32, 256), np.float32)}, repeats=5)
    assert profile is not None
    assert "FullyConnected" in profile.by_kind()
    assert not any(kernel.outputs and kernel.outputs[0] in ((512, 256), (256, 512)) for kernel in profile.kernels)


def test_openvino_reads_its_own_format(shared_data: Path, tmp_path: Path) -> None:
    import openvino

    path, feeds = shared_data / MODELS["ad"], feeds_for("ad", shared_data)
    openvino.save_model(openvino.Core().read_model(path), tmp_path / "model.xml", compress_to_fp16=False)
    session = OpenVino().build(Model(path=tmp_path / "model.xml", format="openvino"), {"threads": 1})
    assert [spec.name for spec in session.inputs] == ["input"]
    expected = OnnxRuntime().build(Model(path=path), {}).run(feeds)[0]
    np.testing.assert_allclose(session.run(feeds)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("runtime", [OnnxRuntime(), OpenVino()], ids=lambda r: r.name)
def test_a_deployed_session_loads_nothing_of_ours_and_opens_no_socket(
    runtime: Runtime, shared_data: Path, tmp_path: Path
) -> None:
    script = tmp_path / "run.py"
    script.write_text(runtime.run_source({"threads": 1}))
    code = f"""
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("a socket was opened")
socket.socket = socket.create_connection = refuse
sys.path.insert(0, {str(tmp_path)!r})
import numpy as np, run
session = run.Session({str(shared_data / MODELS["ad"])!r})
(name, dtype, shape), = session.inputs
print(name, dtype, shape[1], session.run({{name: np.zeros((1, 640), dtype)}})[0].shape)
assert not [m for m in sys.modules if m.startswith(("dovetail", "torch", "onnx."))]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["input", "float32", "640", "(1,", "640)"], done.stderr


def test_options_are_checked(shared_data: Path) -> None:
    model = Model(path=shared_data / MODELS["ad"])
    for wrong in ({"threads": 0}, {"threads": True}, {"threads": "2"}, {"spinning": 1}, {"graph_opt": "most"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            OnnxRuntime().build(model, wrong)
