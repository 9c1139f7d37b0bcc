"""Every family of operators agrees with ONNX Runtime on small random graphs, and lets gradients through."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from graph_samples import difference, model, node, reference, tensors
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from dovetail.core.errors import ModelError  # noqa: E402
from dovetail.train.graph import TrainableGraph  # noqa: E402

RNG = np.random.default_rng(0)
EXAMPLES = settings(max_examples=25, deadline=None)


def f(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return RNG.uniform(low, high, shape).astype(np.float32)


def i(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def check(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], limit: float = 1e-5) -> dict[str, np.ndarray]:
    """Compares all outputs, and the bytes that come back."""
    frozen = TrainableGraph(proto, frozen=True)
    want = reference(proto, feeds)
    found = frozen(tensors(feeds))
    for name, value in want.items():
        assert difference(found[name], value) <= limit, name
    assert frozen.to_proto().SerializeToString() == proto.SerializeToString()
    return want


X4 = f(2, 4, 9, 7)
ERF = [node("Mul", "x r", "a"), node("Erf", "a", "e"), node("Add", "e one", "p")]
HALVES = {"r": np.float32(np.sqrt(0.5)), "one": np.float32(1), "h": np.float32(0.5)}
CASES: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray], dict[str, Any]]] = {
    "hard swish of mobilenets": ([node("HardSigmoid", "x", "h", alpha=1 / 6), node("Mul", "x h")], {"x": f(2, 3)}, {}),
    "hard swish, one operator": ([node("HardSwish", "x")], {"x": f(2, 3, low=-5, high=5)}, {}),
    "squeeze and excite": (
        [node("GlobalAveragePool", "x", "p"), node("Conv", "p w b", "s"), node("Sigmoid", "s", "g"), node("Mul", "x g")],
        {"x": X4}, {"w": f(4, 4, 1, 1), "b": f(4)},
    ),
    "clip of six": ([node("Clip", "x lo hi")], {"x": f(3, 4, low=-9, high=9)}, {"lo": np.float32(0), "hi": np.float32(6)}),
    "clip above": ([node("Clip", "x - hi")], {"x": f(3, 4)}, {"hi": np.float32(0.5)}),
    "prelu": ([node("PRelu", "x s")], {"x": X4}, {"s": f(4, 1, 1)}),
    "batch norm": ([node("BatchNormalization", "x s b m v")], {"x": X4},
                   {"s": f(4), "b": f(4), "m": f(4), "v": f(4, low=0.5)}),
    "instance norm": ([node("InstanceNormalization", "x s b")], {"x": X4}, {"s": f(4), "b": f(4)}),
    "layer norm over two axes": ([node("LayerNormalization", "x s b", axis=-2)], {"x": X4}, {"s": f(9, 7), "b": f(9, 7)}),
    "layer norm with statistics": ([node("LayerNormalization", "x s b", "y m v")], {"x": f(2, 3, 8)}, {"s": f(8), "b": f(8)}),
    "response normalisation": ([node("LRN", "x", size=3, alpha=0.1, beta=0.7, bias=1.5)], {"x": X4}, {}),
    "product and bias": ([node("MatMul", "x w", "h"), node("Add", "b h")], {"x": f(2, 3, 4)}, {"w": f(4, 5), "b": f(5)}),
    "gemm of all settings": (
        [node("Gemm", "x w c", transA=1, transB=1, alpha=0.5, beta=2.0)], {"x": f(4, 3)}, {"w": f(5, 4), "c": f(3, 1)}),
    "gemm without bias": ([node("Gemm", "x w")], {"x": f(3, 4)}, {"w": f(4, 2)}),
    "einsum": ([node("Einsum", "x w", equation="bij, jk -> bik")], {"x": f(2, 3, 4)}, {"w": f(4, 5)}),
    "attention": (
        [node("Transpose", "k", "t", perm=[0, 2, 1]), node("MatMul", "q t", "s"), node("Add", "s m", "a"),
         node("Softmax", "a", "p", axis=-1), node("MatMul", "p v")],
        {"q": f(2, 5, 4), "k": f(2, 5, 4), "v": f(2, 5, 4), "m": np.where(f(2, 1, 5) > 0, 0, -1e9).astype(np.float32)}, {},
    ),
    "gelu by erf, divided": (
        [node("Div", "x r", "a"), *ERF[1:], node("Mul", "x p", "m"), node("Mul", "m h")],
        {"x": f(3, 5)}, {**HALVES, "r": np.float32(np.sqrt(2))},
    ),
    "gelu by erf, halved first": (
        [*ERF, node("Mul", "h x", "m"), node("Mul", "m p")], {"x": f(3, 5)}, HALVES,
    ),
    "erf that is no gelu": (
        [*ERF, node("Mul", "x p", "m"), node("Mul", "m m")], {"x": f(3, 5)}, HALVES,
    ),
    "erf times another sum": (
        [*ERF, node("Add", "x h", "m"), node("Mul", "m p")], {"x": f(3, 5)}, HALVES,
    ),
    "erf that divides": (
        [*ERF, node("Div", "x p", "m"), node("Mul", "m h")], {"x": f(3, 5)}, HALVES,
    ),
    "shape chain": (
        [node("Shape", "x", "n"), node("Gather", "n zero", "b"), node("Concat", "b rest", "to", axis=0),
         node("Reshape", "x to", "r"), node("Slice", "r from until along by")],
        {"x": f(3, 4, 6)},
        {"zero": i(0), "rest": i(-1), "from": i(1, -1), "until": i(3, -20), "along": i(0, 1), "by": i(1, -3)},
    ),
    "positions by range": (
        [node("Shape", "x", "n"), node("Gather", "n one", "l"), node("Range", "zero l one", "p"), node("Gather", "w p", "e"),
         node("Add", "x e")], {"x": f(2, 3, 4)}, {"w": f(8, 4), "zero": np.int64(0), "one": np.int64(1)},
    ),
    "mask by where": (
        [node("Equal", "t pad", "m"), node("Unsqueeze", "m one", "u"), node("Where", "u low x")],
        {"t": np.array([[1, 0, 2]]), "x": f(1, 2, 3)}, {"pad": np.int64(0), "one": i(1), "low": np.float32(-3)},
    ),
    "fill and expand": (
        [node("ConstantOfShape", "to", "c"), node("Add", "c x", "a"), node("Expand", "a wide")],
        {"x": f(3, 1)}, {"to": i(3, 1), "wide": i(2, 3, 4)},
    ),
    "split and concat": (
        [node("Split", "x at", "a b c", axis=1), node("Concat", "c a b", axis=1)], {"x": X4}, {"at": i(1, 2, 1)}),
    "tile and pad": (
        [node("Tile", "x by", "t"), node("Pad", "t pads", mode="reflect")], {"x": f(1, 2, 4, 4)},
        {"by": i(1, 1, 2, 1), "pads": i(0, 0, 1, 2, 0, 0, 3, 0)},
    ),
    "pad with edges": ([node("Pad", "x pads", mode="edge")], {"x": X4}, {"pads": i(1, 0, 0, 2, 0, 1, 3, 0)}),
    "depth to space": ([node("DepthToSpace", "x", "d", blocksize=2), node("SpaceToDepth", "d", blocksize=2)], {"x": X4}, {}),
    "gather elements": ([node("GatherElements", "x at", axis=1)], {"x": f(2, 4)}, {"at": np.array([[0, -1], [2, 1]])}),
    "gather nd": ([node("GatherND", "x at")], {"x": f(2, 3, 4)}, {"at": np.array([[0, 1], [1, -1]])}),
    "scatter nd": ([node("ScatterND", "x at u")], {"x": f(4, 3)}, {"at": np.array([[1], [3]]), "u": f(2, 3)}),
    "scatter elements": ([node("ScatterElements", "x at u", axis=1)], {"x": f(2, 4)}, {"at": i(1, 3)[None], "u": f(1, 2)}),
    "triangle": ([node("Trilu", "x k", upper=0)], {"x": f(4, 4)}, {"k": np.int64(-1)}),
    "running sum": ([node("CumSum", "x axis", reverse=1, exclusive=1)], {"x": f(3, 4)}, {"axis": np.int64(1)}),
    "norm of embeddings": ([node("ReduceL2", "x", "n", axes=[-1]), node("Div", "x n")], {"x": f(3, 5)}, {}),
    "mean over axes": ([node("ReduceMean", "x", axes=[2, 3], keepdims=0)], {"x": X4}, {}),
    "log softmax": ([node("LogSoftmax", "x", axis=1)], {"x": X4}, {}),
    "other activations": (
        [node("Elu", "x", "a", alpha=0.7), node("Selu", "a", "b"), node("Softplus", "b", "c"), node("Softsign", "c", "d"),
         node("LeakyRelu", "d", "e"), node("ThresholdedRelu", "e", "g", alpha=0.1), node("Celu", "g", alpha=2.0)],
        {"x": f(3, 4)}, {},
    ),
    "powers": ([node("Pow", "x two", "a"), node("Sqrt", "a", "b"), node("Pow", "b third")], {"x": f(3, 4, low=0.1)},
               {"two": np.float32(2), "third": np.float32(1 / 3)}),
    "greatest of several": ([node("Max", "x a b", "h"), node("Min", "h c", "k"), node("Sum", "k x a")], {"x": f(2, 3)},
                            {"a": f(3), "b": f(2, 1), "c": f(1)}),
    "casts": ([node("Cast", "x", "n", to=7), node("Cast", "n", to=1)], {"x": f(3, 4, low=-9, high=9)}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_patterns_of_exporters(name: str) -> None:
    nodes, feeds, stored = CASES[name]
    last = nodes[-1].output[:1]
    check(model(nodes, feeds, stored, outputs=last), feeds)


GRADIENTS = [name for name in CASES if name not in ("casts", "fill and expand", "triangle", "running sum")]


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_of_weights_agree_with_differences(name: str) -> None:
    """Along a random direction in the weights and in the inputs, in double precision where the graph allows."""
    nodes, feeds, stored = CASES[name]
    proto = model(nodes, feeds, stored, outputs=nodes[-1].output[:1])
    graph = TrainableGraph(proto, frozen=True)
    inputs = tensors(feeds)
    moving = {key: value.requires_grad_() for key, value in inputs.items() if value.is_floating_point()}
    graph.double()
    doubles = {key: value.detach().double().requires_grad_() for key, value in moving.items()}
    whole = {key: value for key, value in inputs.items() if key not in moving}
    result = graph({**doubles, **whole})[proto.graph.output[0].name]
    pull = torch.randn(result.shape, dtype=result.dtype, generator=torch.Generator().manual_seed(0))
    gradients = torch.autograd.grad((result * pull).sum(), list(doubles.values()))
    push = {key: torch.randn(value.shape, dtype=value.dtype, generator=torch.Generator().manual_seed(1))
            for key, value in doubles.items()}  # fmt: skip
    step = 1e-6

    def at(sign: int) -> Any:
        moved = {key: value.detach() + sign * step * push[key] for key, value in doubles.items()}
        return (graph({**moved, **whole})[proto.graph.output[0].name] * pull).sum()

    slope = float((at(1) - at(-1)) / (2 * step))
    found = float(sum((g * push[key]).sum() for g, key in zip(gradients, doubles, strict=True)))
    assert found == pytest.approx(slope, rel=1e-3, abs=1e-4)


@EXAMPLES
@given(
    data=st.data(), kernel=st.integers(1, 4), stride=st.integers(1, 3), dilation=st.integers(1, 2),
    group=st.sampled_from([1, 2, 4]), axes=st.integers(1, 3),
    auto=st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
)  # fmt: skip
def test_convolutions(
    data: st.DataObject, kernel: int, stride: int, dilation: int, group: int, auto: str, axes: int
) -> None:
    dilation = dilation if auto in ("NOTSET", "VALID") else 1
    pads = [data.draw(st.integers(0, 3)) for _ in range(2 * axes)] if auto == "NOTSET" else None
    settings_ = {"strides": [stride] * axes, "dilations": [dilation] * axes, "group": group, "auto_pad": auto}
    settings_ |= {} if pads is None else {"pads": pads}
    x = {"x": f(2, 4, *(9, 8, 7)[:axes])}
    stored = {"w": f(8, 4 // group, *[kernel] * axes), "b": f(8)}
    check(model([node("Conv", "x w b", **settings_)], x, stored), x)


@EXAMPLES
@given(
    data=st.data(), kernel=st.integers(1, 4), stride=st.integers(1, 3), group=st.sampled_from([1, 2]), uneven=st.booleans(),
)  # fmt: skip
def test_transposed_convolutions(data: st.DataObject, kernel: int, stride: int, group: int, uneven: bool) -> None:
    extra = data.draw(st.integers(0, stride - 1))
    before = data.draw(st.integers(0, (kernel - 1) // 2))
    after = data.draw(st.integers(0, (kernel - 1) // 2)) if uneven else before
    pads = [before, before, after, after]
    feeds, stored = {"x": f(2, 4, 5, 4)}, {"w": f(4, 3, kernel, kernel), "b": f(3 * group)}
    attributes = {"strides": [stride] * 2, "pads": pads, "output_padding": [extra] * 2, "group": group}
    check(model([node("ConvTranspose", "x w b", **attributes)], feeds, stored), feeds)


@EXAMPLES
@given(
    kind=st.sampled_from(["MaxPool", "AveragePool"]), kernel=st.integers(2, 4), stride=st.integers(1, 3),
    pads=st.lists(st.integers(0, 1), min_size=4, max_size=4), ceil=st.booleans(), counted=st.booleans(),
)  # fmt: skip
def test_pooling(kind: str, kernel: int, stride: int, pads: list[int], ceil: bool, counted: bool) -> None:
    attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads, "ceil_mode": int(ceil)}
    attributes |= {"count_include_pad": int(counted)} if kind == "AveragePool" else {}
    x = f(2, 3, 9, 8)
    proto = model([node(kind, "x", **attributes)], {"x": x}, opset=22)
    check(proto, {"x": x})


@EXAMPLES
@given(
    mode=st.sampled_from(["nearest", "linear", "cubic"]), transform=st.sampled_from(
        ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]),
    nearest=st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    target=st.tuples(st.integers(2, 14), st.integers(2, 14)), by_scale=st.booleans(),
)  # fmt: skip
def test_resizing(mode: str, transform: str, nearest: str, target: tuple[int, int], by_scale: bool) -> None:
    x = f(1, 2, 6, 5)
    scales = np.array([1, 1, *(t / 4 for t in target)], np.float32)
    name, stored = ("x - s", {"s": scales}) if by_scale else ("x - - s", {"s": i(1, 2, *target)})
    attributes = {"mode": mode, "coordinate_transformation_mode": transform, "nearest_mode": nearest}
    check(model([node("Resize", name, **attributes)], {"x": x}, stored), {"x": x}, 1e-4)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("kind", "gates", "attributes"), [("LSTM", 4, {}), ("GRU", 3, {"linear_before_reset": 1}), ("GRU", 3, {}), ("RNN", 1, {})]
)
@pytest.mark.parametrize("ragged", [False, True])
def test_recurrent_networks(kind: str, gates: int, attributes: dict[str, int], direction: str, ragged: bool) -> None:
    directions, hidden, x = (2 if direction == "bidirectional" else 1), 5, f(6, 3, 4)
    stored = {"w": f(directions, gates * hidden, 4), "r": f(directions, gates * hidden, hidden)}
    stored |= {"b": f(directions, 2 * gates * hidden), "h": f(directions, 3, hidden)}
    stored |= {"n": np.array([6, 2, 4], np.int32)} if ragged else {}
    stored |= {"c": f(directions, 3, hidden)} if kind == "LSTM" else {}
    names = f"x w r b {'n' if ragged else '-'} h" + (" c" if kind == "LSTM" else "")
    outputs = ["y", "last", "cell"] if kind == "LSTM" else ["y", "last"]
    proto = model(
        [node(kind, names, " ".join(outputs), hidden_size=hidden, direction=direction, **attributes)], {"x": x}, stored,
        outputs=outputs,
    )  # fmt: skip
    check(proto, {"x": x})
    graph = TrainableGraph(proto)
    assert set(graph.trainable_names()) == {"w", "r", "b"}
    graph({"x": torch.from_numpy(x)})["y"].square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in graph.parameters())


REDUCTIONS = [f"Reduce{kind}" for kind in ("Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp", "Mean")]


@EXAMPLES
@given(
    kind=st.sampled_from(REDUCTIONS), keep=st.booleans(), axes=st.lists(st.sampled_from([0, 1, 2]), unique=True),
)  # fmt: skip
def test_reductions(kind: str, keep: bool, axes: list[int]) -> None:
    x = f(2, 3, 4)
    attributes = {"keepdims": int(keep)} | ({"axes": axes} if axes else {})
    check(model([node(kind, "x", **attributes)], {"x": x}), {"x": x})


TORCH_NETWORKS: dict[str, Callable[[], Any]] = {
    "depthwise": lambda: torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(8), torch.nn.ReLU6(),
        torch.nn.Conv2d(8, 8, 3, 1, 1, groups=8), torch.nn.Hardswish(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    ),
    "upsampling": lambda: torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Upsample(scale_factor=2), torch.nn.MaxPool2d(3, 2, 1),
        torch.nn.ConvTranspose2d(8, 4, 2, 2), torch.nn.GroupNorm(2, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize("name", TORCH_NETWORKS)
def test_networks_exported_by_torch_train_as_in_torch(name: str, opset: int, tmp_path: Any) -> None:
    import warnings

    torch.manual_seed(0)
    network, x = TORCH_NETWORKS[name]().eval(), torch.randn(4, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(network, (x,), tmp_path / "m.onnx", dynamo=False, opset_version=opset, input_names=["x"],
                          training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)  # fmt: skip
    proto = onnx.load(tmp_path / "m.onnx")
    graph = TrainableGraph(proto, memory_format=torch.channels_last)
    output = proto.graph.output[0].name
    torch.testing.assert_close(graph.eval()({"x": x})[output], network(x), rtol=1e-4, atol=1e-5)
    graph.train()
    network.train()
    graph({"x": x})[output].square().mean().backward()
    network(x).square().mean().backward()
    assert set(graph.trainable_names()) >= set(dict(network.named_parameters()))
    for key, parameter in network.named_parameters():
        torch.testing.assert_close(graph.parameter(key).grad, parameter.grad, rtol=1e-3, atol=1e-5)


def test_a_use_without_a_kernel_is_named() -> None:
    x = {"x": f(1, 1, 4, 4)}
    proto = model([node("Resize", "x - s", mode="linear", antialias=1)], x, {"s": np.ones(4, np.float32)}, opset=19)
    with pytest.raises(ModelError, match="Resize with antialiasing"):
        TrainableGraph(proto, frozen=True)
