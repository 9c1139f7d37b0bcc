"""Quantised graphs: values of ONNX Runtime, straight-through gradients, learned scales, and integers in the file."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_samples import difference, images, model, node, reference, tensors
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
sys.path.append(str(Path(__file__).resolve().parents[1] / "compress"))

from quant_samples import apply, cifar, resnet  # noqa: E402

from dovetail import plugins  # noqa: E402
from dovetail.compress.quantize_static import QuantizeStatic  # noqa: E402
from dovetail.core.protocols import Model  # noqa: E402
from dovetail.lowering.lower import lower  # noqa: E402
from dovetail.train.graph import TrainableGraph  # noqa: E402
from dovetail.train.ops.quantization import fake_quantize  # noqa: E402

RNG = np.random.default_rng(0)
QDQ = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z")]
KINDS = {"uint8": np.uint8, "int8": np.int8, "int16": np.int16, "uint16": np.uint16}


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 10**6), axis=st.sampled_from([None, 0, 1, -1]))
def test_fake_quantisation_equals_onnxruntime_bit_for_bit(kind: str, seed: int, axis: int | None) -> None:
    rng = np.random.default_rng(seed)
    info, wide = np.iinfo(KINDS[kind]), kind.endswith("16")
    x = rng.normal(scale=rng.choice([0.1, 1, 100]), size=(3, 3, 3)).astype(np.float32)
    x.flat[:4] = 0, 0.5, -0.5, 1e6
    shape = () if axis is None else (3,)
    scale = np.asarray(rng.choice([0.25, 0.5, 0.013, 0.77], shape), np.float32)
    zero = np.asarray(rng.integers(info.min, info.max, shape, endpoint=True), KINDS[kind])
    extra = {} if axis is None else {"axis": axis}
    extra |= {"domain": "com.microsoft"} if wide else {}
    nodes = [node("QuantizeLinear", "x s z", "q", **extra), node("DequantizeLinear", "q s z", **extra)]
    proto = model(nodes, {"x": x}, {"s": scale, "z": zero})
    graph = TrainableGraph(proto, frozen=True)
    got = graph({"x": torch.from_numpy(x)})["y"].numpy()
    np.testing.assert_array_equal(got, reference(proto, {"x": x})["y"])


@pytest.mark.parametrize("zero", [0, 100])
def test_the_gradient_passes_on_the_grid_and_stops_where_it_saturates(zero: int) -> None:
    x = torch.tensor([-40.0, -3.2, 0.0, 0.7, 31.0, 90.0], requires_grad=True)
    low, high = (0 - zero) * 0.25, (255 - zero) * 0.25
    y = fake_quantize(x, torch.tensor(0.25), (-zero, 255 - zero))
    (y * torch.arange(1.0, 7.0)).sum().backward()
    inside = (x.detach() >= low - 0.125) & (x.detach() <= high + 0.125)
    torch.testing.assert_close(x.grad, inside * torch.arange(1.0, 7.0))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_learned_scale_has_the_gradient_of_learned_step_sizes(channels: int) -> None:
    """Esser 2020, equation 3: -v/s + round(v/s) where that is a level of the grid, else the limit; times 1/sqrt(n * Qmax)."""
    rng = np.random.default_rng(1)
    v = torch.from_numpy(rng.normal(scale=30, size=(channels, 50)).astype(np.float32)).requires_grad_()
    s = torch.from_numpy(rng.uniform(0.2, 0.4, (channels, 1)).astype(np.float32)).requires_grad_()
    g = torch.from_numpy(rng.normal(size=(channels, 50)).astype(np.float32))
    (fake_quantize(v, s, (-128, 127)) * g).sum().backward()
    ratio = (v / s).detach()
    nearest = ratio.round()
    each = torch.where(nearest < -128, -128.0, torch.where(nearest > 127, 127.0, nearest - ratio))
    want = (each * g).sum(1, keepdim=True) / np.sqrt(50 * 127)
    torch.testing.assert_close(s.grad, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(v.grad, g * ((nearest >= -128) & (nearest <= 127)))


def quantised(network: str, data: Path, folder: Path, **config: object) -> onnx.ModelProto:
    made = apply(QuantizeStatic(), resnet(data, network, folder), folder, cifar(data, network, 0, 16), **config)
    return onnx.load(made.path)


@pytest.mark.parametrize(("network", "learn_scales"), [("resnet8", False), ("resnet8", True), ("resnet20", False)])
def test_our_quantised_graphs_agree_within_one_step(
    network: str, learn_scales: bool, shared_data: Path, tmp_path: Path
) -> None:
    """Every quantised activation, of which at most 0.1 % may be more than one step off: sums round in another order."""
    proto = quantised(network, shared_data, tmp_path)
    feeds = {"input": images(shared_data, 8, standard=network == "resnet20")}
    scales = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    stored = set(scales)
    pairs = [n for n in proto.graph.node if n.op_type == "DequantizeLinear" and n.input[0] not in stored]
    names = [n.output[0] for n in pairs]
    graph = TrainableGraph(proto, learn_scales=learn_scales).eval()
    assert graph.to_proto().SerializeToString() == proto.SerializeToString()
    with torch.no_grad():
        found = graph(tensors(feeds), taps=names)
    want, off, count = reference(proto, feeds, names), 0, 0
    for n in pairs:
        apart = np.abs(found[n.output[0]].numpy() - want[n.output[0]]) / scales[n.input[1]].min()
        off, count = off + int((apart > 1.01).sum()), count + apart.size
    assert len(pairs) >= 15 and off <= 1e-3 * count


def test_grids_of_sixteen_bits_agree(shared_data: Path, tmp_path: Path) -> None:
    """In ONNX Runtime's own domain at this opset. A step is as small here as float32 sums are exact, so values are compared."""
    proto = quantised("resnet8", shared_data, tmp_path, activation="int16")
    feeds = {"input": images(shared_data, 8, standard=False)}
    assert difference(TrainableGraph(proto).eval()(tensors(feeds))["output"], reference(proto, feeds)["output"]) < 1e-3


def test_training_a_quantised_graph_writes_integers_that_run_alike(shared_data: Path, tmp_path: Path) -> None:
    proto = quantised("resnet8", shared_data, tmp_path)
    feeds = {"input": images(shared_data, 16, standard=False)}
    graph = TrainableGraph(proto, learn_scales=True, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(graph.parameters(), lr=1e-4)
    labels, losses = torch.arange(16) % 10, []
    for _ in range(4):
        optimizer.zero_grad()
        loss = torch.nn.functional.nll_loss(graph(tensors(feeds))["output"].clamp_min(1e-6).log(), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    trained = graph.eval().to_proto()
    before, after = ({t.name: t for t in p.graph.initializer} for p in (proto, trained))
    assert all(before[name].data_type == tensor.data_type for name, tensor in after.items())
    changed = {name for name in after if after[name] != before[name]}
    kinds = {before[name].data_type for name in changed}
    assert {onnx.TensorProto.INT8, onnx.TensorProto.INT32, onnx.TensorProto.FLOAT} <= kinds
    values = {name: onnx.numpy_helper.to_array(tensor) for name, tensor in after.items()}
    assert all((value > 0).all() for name, value in values.items() if name.endswith("_scale"))
    found, want = graph(tensors(feeds))["output"].detach().numpy(), reference(trained, feeds)["output"]
    assert (found.argmax(1) == want.argmax(1)).all() and np.abs(found - want).mean() < 0.01


def test_litert_computes_what_was_trained(shared_data: Path, tmp_path: Path) -> None:
    """Every quantised activation of a trained network, of which at most 0.1 % may be more than one step off."""
    pytest.importorskip("ai_edge_litert")
    graph = TrainableGraph(quantised("resnet8", shared_data, tmp_path), learn_scales=True)
    feeds = {"input": images(shared_data, 16, standard=False)}
    optimizer = torch.optim.Adam(graph.parameters(), lr=1e-3)
    for _ in range(4):
        optimizer.zero_grad()
        graph(tensors(feeds))["output"].square().mean().backward()
        optimizer.step()
    trained = graph.eval().to_proto()
    scales = {t.name: onnx.numpy_helper.to_array(t) for t in trained.graph.initializer}
    pairs = [n for n in trained.graph.node if n.op_type == "DequantizeLinear" and n.input[0] not in scales]
    shapes = {value.name: value for value in onnx.shape_inference.infer_shapes(trained).graph.value_info}
    del trained.graph.output[:]
    trained.graph.output.extend(shapes[n.output[0]] for n in pairs)
    onnx.save(trained, tmp_path / "trained.onnx")
    lower(tmp_path / "trained.onnx", tmp_path / "trained.tflite", {"N": 1})
    session = plugins.runtime("litert").build(Model(path=tmp_path / "trained.tflite", format="litert"), {})
    with torch.no_grad():
        want = graph(tensors(feeds), taps=[n.output[0] for n in pairs])
    answers = [session.run({session.inputs[0].name: image[None]}) for image in feeds["input"]]
    found = {spec.name: np.concatenate(parts) for spec, parts in zip(session.outputs, zip(*answers, strict=True), strict=True)}
    apart = [np.abs(found[n.output[0]] - want[n.output[0]].numpy()) / scales[n.input[1]].min() for n in pairs]
    assert len(pairs) >= 15 and np.mean(np.concatenate([a.ravel() for a in apart]) > 1.01) <= 1e-3


def test_scales_of_biases_follow_their_layer(shared_data: Path, tmp_path: Path) -> None:
    proto = quantised("resnet8", shared_data, tmp_path)
    graph = TrainableGraph(proto, learn_scales=True)
    with torch.no_grad():
        for name in graph.trainable_names():
            if name.endswith("_scale"):
                graph.parameter(name).mul_(1.5)
    trained = graph.to_proto()
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in trained.graph.initializer}
    makers = {n.output[0]: n for n in trained.graph.node}
    layers = [n for n in trained.graph.node if n.op_type in ("Conv", "Gemm") and len(n.input) == 3]
    assert len(layers) == 10
    for layer in layers:
        x, w, b = (stored[makers[name].input[1]] for name in layer.input)
        np.testing.assert_allclose(b, (x * w).reshape(b.shape), rtol=1e-6)


def test_real_weights_can_be_given_for_stored_integers() -> None:
    x = RNG.normal(size=(2, 4)).astype(np.float32)
    stored = {"w": RNG.integers(-127, 127, (4, 3)).astype(np.int8), "s": np.array([0.1, 0.2, 0.3], np.float32)}
    proto = model([node("DequantizeLinear", "w s", "d", axis=1), node("MatMul", "x d")], {"x": x}, stored)
    real = RNG.normal(scale=8, size=(4, 3)).astype(np.float32)
    graph = TrainableGraph(proto, values={"w": real}).eval()
    written = {t.name: onnx.numpy_helper.to_array(t) for t in graph.to_proto().graph.initializer}["w"]
    np.testing.assert_array_equal(written, np.clip(np.round(real / stored["s"]), -128, 127).astype(np.int8))
    assert difference(graph(tensors({"x": x}))["y"], reference(graph.to_proto(), {"x": x})["y"]) < 1e-6


@pytest.mark.parametrize(("kind", "levels"), [("int8", (-64, 64)), ("int8", (-127, 127)), ("uint8", (0, 127))])
def test_weights_of_narrow_grids_stay_within_them(kind: str, levels: tuple[int, int]) -> None:
    """Beyond 7 bits the 16-bit sums of machines without VNNI would saturate, and -128 is no weight for LiteRT."""
    x = RNG.normal(size=(2, 4)).astype(np.float32)
    stored = {"w": RNG.integers(*levels, (4, 3)).astype(KINDS[kind]), "s": np.float32(0.1)}
    stored["w"].flat[:2] = levels
    proto = model([node("DequantizeLinear", "w s", "d"), node("MatMul", "x d")], {"x": x}, stored)
    graph = TrainableGraph(proto).eval()
    with torch.no_grad():
        graph.parameter("w").mul_(10)
    got = graph(tensors({"x": x}))["y"]
    after = {t.name: onnx.numpy_helper.to_array(t) for t in graph.to_proto().graph.initializer}["w"]
    assert after.max() == levels[1]
    assert difference(got, reference(graph.to_proto(), {"x": x})["y"]) < 1e-6


def test_large_biases_keep_every_bit() -> None:
    """A float32 cannot tell neighbouring integers of 2^30 apart."""
    bias = np.array([2**30 + 1, -(2**30) - 3, 5], np.int32)
    stored = {"w": np.ones((4, 3), np.float32), "b": bias, "s": np.array(1e-9, np.float32)}
    nodes = [node("DequantizeLinear", "b s", "d"), node("MatMul", "x w", "h"), node("Add", "h d")]
    proto = model(nodes, {"x": np.ones((2, 4), np.float32)}, stored)
    graph = TrainableGraph(proto)
    assert set(graph.trainable_names()) == {"w", "b"}
    assert graph.to_proto().SerializeToString() == proto.SerializeToString()


def test_levels_come_as_floats_in_training_and_as_integers_otherwise() -> None:
    x = RNG.normal(size=(2, 4)).astype(np.float32)
    stored = {"w": np.eye(4, dtype=np.float32), "s": np.array(0.1, np.float32), "z": np.array(3, np.int8)}
    nodes = [node("MatMul", "x w", "h"), node("QuantizeLinear", "h s z")]
    proto = model(nodes, {"x": x}, stored, types={"y": "int8"})
    graph = TrainableGraph(proto)
    levels = graph(tensors({"x": x}))["y"]
    levels.sum().backward()
    assert levels.dtype == torch.float32 and graph.parameter("w").grad.abs().sum() > 0
    np.testing.assert_array_equal(graph.eval()(tensors({"x": x}))["y"].numpy(), reference(proto, {"x": x})["y"])


def test_a_repeated_scale_follows_its_source() -> None:
    """Exporters store one scale for QuantizeLinear and another for DequantizeLinear."""
    x = RNG.normal(size=(2, 4)).astype(np.float32)
    stored = {"w": np.eye(4, dtype=np.float32), "s": np.array(0.1, np.float32), "z": np.array(3, np.uint8)}
    stored |= {"s2": np.full(4, 0.1, np.float32), "z2": np.full(4, 3, np.uint8)}
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s2 z2", "d"), node("MatMul", "d w")]
    graph = TrainableGraph(model(nodes, {"x": x}, stored), learn_scales=True)
    assert set(graph.trainable_names()) == {"w", "s"}
    with torch.no_grad():
        graph.parameter("s").fill_(-0.2)
    trained = graph.eval().to_proto()
    after = {t.name: onnx.numpy_helper.to_array(t) for t in trained.graph.initializer}
    np.testing.assert_array_equal(after["s2"], np.full(4, 0.2, np.float32))
    assert difference(graph(tensors({"x": x}))["y"], reference(trained, {"x": x})["y"]) < 1e-6
