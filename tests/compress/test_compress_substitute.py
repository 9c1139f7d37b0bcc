"""Cheaper structures: valid graphs that start near the original, and a note that they need training."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from quant_samples import ENVIRONMENT, Samples, apply, cifar, kinds, resnet, run, sqnr_db

from dovetail.compress.substitute import SWAPS, Substitute
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Array, Model, PassContext
from dovetail.testing.models import conv_net, mlp, unknown_operator
from dovetail.testing.pass_suite import PassConformance


class TestSeparable(PassConformance):
    compression_pass = Substitute()
    config = {"separable": ("*",), "pooling": ("*",)}
    refuses = (lambda: mlp().proto, unknown_operator)


def normal(*shape: int) -> Array:
    return np.random.default_rng([0, *shape]).normal(size=shape).astype(np.float32)


def graph(body: str, folder: Path, opset: int = 17, shape: str = "N,4,9,9", **weights: Array) -> Model:
    text = f'<ir_version: 8, opset_import: ["": {opset}]> g (float[{shape}] x) => (float[{shape}] y) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(a, np.float32), name) for name, a in weights.items())
    onnx.save(proto, folder / "source.onnx")
    return Model(path=folder / "source.onnx")


GELU = "a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)"
NUMBERS = {"r": np.sqrt(2), "one": 1.0, "half": 0.5}
X = np.linspace(-6, 6, 4 * 81).reshape(1, 4, 9, 9).astype(np.float32)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def tanh_gelu(x: Array) -> Array:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize(
    ("swap", "body", "opset", "expected"),
    [
        ("gelu=relu", GELU, 17, np.maximum(X, 0)),
        ("gelu=tanh_gelu", GELU, 17, tanh_gelu(X)),
        ("gelu=quick_gelu", GELU, 17, X * sigmoid(1.702 * X)),
        ("gelu=tanh_gelu", "y = Gelu(x)", 20, tanh_gelu(X)),
        ("gelu=relu", "y = Gelu(x)", 20, np.maximum(X, 0)),
        ("silu=relu", "s = Sigmoid(x) y = Mul(x, s)", 17, np.maximum(X, 0)),
        ("silu=hard_swish", "s = Sigmoid(x) y = Mul(s, x)", 17, X * np.clip(X / 6 + 0.5, 0, 1)),
        ("silu=hard_swish", "s = Sigmoid(x) y = Mul(s, x)", 13, X * np.clip(X / 6 + 0.5, 0, 1)),
        ("hard_swish=relu", "y = HardSwish(x)", 17, np.maximum(X, 0)),
        ("hard_swish=relu", "s = HardSigmoid<alpha=0.16666667>(x) y = Mul(x, s)", 17, np.maximum(X, 0)),
        ("sigmoid=hard_sigmoid", "y = Sigmoid(x)", 17, np.clip(X / 6 + 0.5, 0, 1)),
    ],
)
def test_activations_become_what_was_asked_for(swap: str, body: str, opset: int, expected: Array, tmp_path: Path) -> None:
    numbers = NUMBERS if "Erf" in body else {}
    made = apply(Substitute(), graph(body, tmp_path, opset, **numbers), tmp_path, activations=(swap,))
    onnx.checker.check_model(onnx.load(made.path), full_check=True)
    np.testing.assert_allclose(run(made, Samples([{"x": X}]))[0], expected, atol=2e-6)


def test_every_swap_that_is_offered_is_tested_here() -> None:
    marks = test_activations_become_what_was_asked_for.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in marks[0].args[1]} == {f"{old}={new}" for old, news in SWAPS.items() for new in news}


def test_chains_of_activations_are_all_swapped(tmp_path: Path) -> None:
    body = "a = Gelu(x) s = Sigmoid(a) b = Mul(a, s) c = Sigmoid(b) y = Gelu(c)"
    swaps = ("gelu=relu", "silu=relu", "sigmoid=hard_sigmoid")
    made = apply(Substitute(), graph(body, tmp_path, 20), tmp_path, activations=swaps)
    assert kinds(made.path) == ["Relu", "Relu", "HardSigmoid", "Relu"]


def test_the_gate_of_a_silu_is_no_sigmoid_of_its_own(tmp_path: Path) -> None:
    model = graph("s = Sigmoid(x) y = Mul(x, s)", tmp_path)
    with pytest.raises(ModelError, match="nothing of what is to be substituted"):
        apply(Substitute(), model, tmp_path, activations=("sigmoid=hard_sigmoid",))


def test_only_the_operators_that_are_named(tmp_path: Path) -> None:
    model = graph("a = Gelu(x) b = Gelu(a) y = Gelu(b)", tmp_path, 20)
    proto = onnx.load(model.path)
    for node, name in zip(proto.graph.node, "one two three".split(), strict=True):
        node.name = name
    onnx.save(proto, model.path)
    made = apply(Substitute(), model, tmp_path, activations=("gelu=relu",), at=("two",))
    assert kinds(made.path) == ["Gelu", "Relu", "Gelu"]


def test_convolutions_become_separable_and_near(shared_data: Path, tmp_path: Path) -> None:
    model, samples = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 9000, 8)
    reference, noise = run(model, samples), []
    for multiplier in (1, 3, 6):
        made = apply(Substitute(), model, tmp_path, separable=("*",), multiplier=multiplier)
        onnx.checker.check_model(onnx.load(made.path), full_check=True)
        noise.append(sqnr_db(reference, run(made, samples)))
        assert made.size_bytes() < model.size_bytes()
    assert noise == sorted(noise) and noise[-1] > 10


def test_a_separable_convolution_keeps_stride_padding_and_bias(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    depth, point = rng.normal(size=(4, 3, 3)), rng.normal(size=(16, 4))
    exact = np.einsum("oi,ihw->oihw", point, depth)
    text = "g (float[1,4,11,12] x) => (float[1,16,H,W] y) { y = Conv<strides=[2,1], pads=[1,0,0,2]>(x, w, b) }"
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    arrays = {"w": exact.astype(np.float32), "b": normal(16)}
    proto.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in arrays.items())
    onnx.save(proto, tmp_path / "m.onnx")
    model, samples = Model(path=tmp_path / "m.onnx"), Samples([{"x": normal(1, 4, 11, 12)}])
    made = apply(Substitute(), model, tmp_path, separable=("*",))
    np.testing.assert_allclose(run(made, samples)[0], run(model, samples)[0], atol=1e-4)
    assert [len(t.dims) for t in onnx.load(made.path).graph.initializer if "wise" in t.name] == [4, 4]


def test_max_pooling_becomes_average_pooling(tmp_path: Path) -> None:
    model = conv_net().save(tmp_path)
    made = apply(Substitute(), model, tmp_path, pooling=("MaxPool_5",))
    assert Counter(kinds(made.path)) == Counter(["AveragePool" if k == "MaxPool" else k for k in kinds(model.path)])


def test_the_need_for_training_is_told(tmp_path: Path) -> None:
    notes: list[str] = []
    workdir = tmp_path / "told"
    workdir.mkdir()
    config = {"separable": ("Conv_0",), "pooling": ("*",)}
    context = PassContext(workdir=workdir, environment=ENVIRONMENT, config=config, note=notes.append)
    Substitute().apply(conv_net().save(tmp_path), context)
    (note,) = notes
    assert note.startswith("1 convolutions are separable, keeping ") and "1 max poolings are averages" in note
    assert note.endswith("to be trained, best by distillation")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "nothing is to be substituted"),
        ({"activations": ("relu=gelu",)}, "'relu=gelu' is not one of gelu=relu"),
        ({"activations": ("gelu=relu", "gelu=quick_gelu")}, "named twice"),
        ({"multiplier": 0}, "less than 1"),
        ({"separable": ("absent",)}, "no operator is named 'absent'"),
        ({"separable": ("Relu_2",)}, "Relu 'Relu_2' cannot be substituted so"),
        ({"separable": ("Conv_3",)}, "cannot be substituted so"),
        ({"pooling": ("Conv_0",)}, "cannot be substituted so"),
        ({"activations": ("gelu=relu",), "at": ("Conv_0",)}, "cannot be substituted so"),
        ({"activations": ("gelu=relu",)}, "nothing of what is to be substituted"),
    ],
)
def test_wrong_parameters_are_named(tmp_path: Path, config: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        apply(Substitute(), conv_net().save(tmp_path), tmp_path, **config)
