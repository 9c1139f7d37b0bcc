"""Static shapes, folded preprocessing and half precision."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from dovetail.compress.float16 import Float16
from dovetail.compress.fold_input import FoldInput
from dovetail.compress.static_shapes import StaticShapes
from dovetail.core.errors import InputError, ModelError
from dovetail.core.measurement import Environment
from dovetail.core.protocols import Array, Feeds, Model, PassContext, Sample

ENVIRONMENT = Environment(fingerprint="", cpu="", cores=1, isa=(), memory_bytes=1e9, os="", python="3.11")


class Feeding:
    """A dataset of given feeds."""

    name = "calibration"
    content_hash = ""
    labels = None

    def __init__(self, *feeds: Feeds) -> None:
        self.feeds = feeds
        self.groups: Array = np.arange(len(feeds))

    def __len__(self) -> int:
        return len(self.feeds)

    def sample(self, index: int) -> Sample:
        return Sample(feeds=self.feeds[index])

    def batch(self, indices: list[int]) -> Feeds | None:
        return None


def context(folder: Path, **config: object) -> PassContext:
    folder.mkdir(parents=True, exist_ok=True)
    return PassContext(workdir=folder, environment=ENVIRONMENT, config=config)


def written(folder: Path, text: str, opset: int = 17, **weights: Array) -> Model:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.save(model, folder / "source.onnx")
    return Model(path=folder / "source.onnx")


def run(path: Path, **feeds: Array) -> list[Array]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return list(ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, feeds))


def in_declared_precision(path: Path, **feeds: Array) -> list[Array]:
    """Outputs of the reference implementation; ONNX Runtime computes float16 in float32 on processors without it."""
    with np.errstate(all="ignore"):
        return list(ReferenceEvaluator(str(path)).run(None, feeds))


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def input_shape(path: Path, index: int = 0) -> list[int]:
    return [d.dim_value for d in onnx.load(path).graph.input[index].type.tensor_type.shape.dim]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


FLATTEN = "g (float[N,S,6] x) => (float[N,M] y) { s = Shape<end=1>(x) m = Constant<value_ints=[-1]>() t = Concat<axis=0>(s, m) "
FLATTEN += "y = Reshape(x, t) }"


def test_static_shapes_compute_shape_arithmetic_once(tmp_path: Path) -> None:
    model = written(tmp_path, FLATTEN)
    result = StaticShapes().apply(model, context(tmp_path / "out", batch=2, dims=["S=5"]))
    assert operators(result.path) == {"Reshape": 1} and input_shape(result.path) == [2, 5, 6]
    x = normal(2, 5, 6)
    np.testing.assert_array_equal(run(result.path, x=x)[0], run(model.path, x=x)[0])


def test_static_shapes_say_that_one_shape_is_taken_where_any_was(tmp_path: Path) -> None:
    notes: list[str] = []
    ctx = replace(context(tmp_path / "out", batch=2, dims=["S=5"]), note=notes.append)
    static = StaticShapes().apply(written(tmp_path, FLATTEN), ctx)
    assert notes == ["takes only shape x [2, 5, 6]"]
    StaticShapes().apply(static, replace(context(tmp_path / "again"), note=notes.append))
    assert len(notes) == 1


def test_static_shapes_take_sizes_from_the_data(tmp_path: Path) -> None:
    ctx = replace(context(tmp_path / "out"), calibration=Feeding({"x": normal(1, 7, 6)}))
    assert input_shape(StaticShapes().apply(written(tmp_path, FLATTEN), ctx).path) == [1, 7, 6]


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({}, ModelError, r"size of 'S' \(axis 1 of input 'x'\) is unknown"),
        ({"dims": ["S"]}, InputError, "'S' is not name=size"),
        ({"dims": ["S=0"]}, InputError, "'S=0' is not name=size"),
        ({"dims": ["T=3"]}, InputError, "no symbolic dimension 'T'"),
        ({"batch": 0}, InputError, "a batch is 1 or more"),
    ],
)
def test_static_shapes_refuse(config: dict[str, object], error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        StaticShapes().apply(written(tmp_path, FLATTEN), context(tmp_path / "out", **config))


def test_static_shapes_find_a_size_that_the_graph_does_not_allow(tmp_path: Path) -> None:
    model = written(tmp_path, "g (float[N,6] x) => (float[A,B] y) { t = Constant<value_ints=[4,-1]>() y = Reshape(x, t) }")
    assert input_shape(StaticShapes().apply(model, context(tmp_path / "two", batch=2)).path) == [2, 6]
    with pytest.raises(ModelError, match="does not allow these sizes"):
        StaticShapes().apply(model, context(tmp_path / "three", batch=3))


def test_static_shapes_of_a_recurrent_model_with_branches(shared_data: Path, tmp_path: Path) -> None:
    model = Model(path=shared_data / "onnx_models/silero_vad_16k_op15.onnx")
    result = StaticShapes().apply(model, context(tmp_path, dims=["sequence=576"]))
    feeds = {"input": normal(1, 576), "state": normal(2, 1, 128), "sr": np.array(16000)}
    for a, b in zip(run(model.path, **feeds), run(result.path, **feeds), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-6)
    assert input_shape(result.path, 1) == [2, 1, 128]


PREPROCESSING = {"scale": 1 / 255, "mean": ["0.485", "0.456", "0.406"], "std": ["0.229", "0.224", "0.225"]}


def prepared(raw_NHWC: Array) -> Array:
    x = (raw_NHWC.astype(np.float64) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return x.transpose(0, 3, 1, 2).astype(np.float32)


@pytest.mark.parametrize(
    ("attributes", "fold", "expected"),
    [
        ("pads=[1,1,1,1]", True, {"Transpose": 1, "Cast": 1, "Add": 1, "Conv": 1}),
        ("pads=[0,0,0,0]", True, {"Transpose": 1, "Cast": 1, "Conv": 1}),
        ("pads=[1,1,1,1]", False, {"Transpose": 1, "Cast": 1, "Mul": 1, "Add": 1, "Conv": 1}),
    ],
)
def test_preprocessing_folds_exactly(attributes: str, fold: bool, expected: dict[str, int], tmp_path: Path) -> None:
    text = f"g (float[N,3,8,8] x) => (float[N,5,H,W] y) {{ y = Conv<{attributes}>(x, w) }}"
    model = written(tmp_path, text, w=normal(5, 3, 3, 3))
    result = FoldInput().apply(model, context(tmp_path / "out", layout="NHWC->NCHW", fold=fold, **PREPROCESSING))
    raw = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    np.testing.assert_allclose(run(result.path, x=raw)[0], run(model.path, x=prepared(raw))[0], rtol=0, atol=2e-5)
    assert operators(result.path) == expected and input_shape(result.path)[1:] == [8, 8, 3]


def test_preprocessing_of_a_real_network(shared_data: Path, tmp_path: Path) -> None:
    model = Model(path=shared_data / "cifar10_resnets/resnet20_cifar10.onnx")
    with np.load(shared_data / "cifar10/cifar10_test_mini1000.npz", allow_pickle=False) as data:
        raw, labels = data["x"][:50], data["y"][:50]
    result = FoldInput().apply(model, context(tmp_path, layout="NHWC->NCHW", **PREPROCESSING))
    (logits,), (expected,) = run(result.path, input=raw), run(model.path, input=prepared(raw))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-3)
    assert np.mean(logits.argmax(1) == labels) > 0.8


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"input": "z"}, InputError, "no input 'z'"),
        ({"std": ["0"]}, InputError, "not zero"),
        ({"mean": ["1", "2"]}, InputError, "2 numbers for 3 channels"),
        ({"mean": ["a"]}, InputError, "are not numbers"),
        ({"dtype": "uint16"}, InputError, "'uint16' is not one of"),
        ({"layout": "NHWC"}, InputError, "not two lists of axes"),
        ({"layout": "HW->HW"}, InputError, "names 3 axes of 'x', which has 4"),
        ({"layout": "NHW->NCHW"}, InputError, "lacks has length 1"),
    ],
)
def test_preprocessing_refuses(config: dict[str, object], error: type[Exception], message: str, tmp_path: Path) -> None:
    model = written(tmp_path, "g (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Relu(x) }")
    with pytest.raises(error, match=message):
        FoldInput().apply(model, context(tmp_path / "out", **config))


@pytest.mark.parametrize("config", [{}, {"compute": "float32"}, {"compute": "float32", "dtype": "bfloat16"}])
@pytest.mark.parametrize("name", ["cifar10_resnets/resnet20_cifar10.onnx", "onnx_models/silero_vad_16k_op15.onnx"])
def test_half_precision_halves_real_models(name: str, config: dict[str, object], shared_data: Path, tmp_path: Path) -> None:
    model = Model(path=shared_data / name)
    result = Float16().apply(model, context(tmp_path, **config))
    assert result.size_bytes() < 0.56 * model.size_bytes()
    if "resnet" in name:
        feeds = {"input": normal(2, 3, 32, 32)}
    else:
        feeds = {"input": normal(1, 576), "state": normal(2, 1, 128), "sr": np.array(16000)}
    tolerance = 0.05 if "dtype" in config else 0.01
    for a, b in zip(run(model.path, **feeds), run(result.path, **feeds), strict=True):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_allclose(b, a, rtol=0, atol=tolerance * float(np.abs(a).max()))


LARGE = "g (float[N,64] x) => (float[N,64] y) { a = Mul(x, k) b = MatMul(a, w) c = Div(b, k) y = MatMul(c, w) }"


def test_operators_beyond_the_range_stay_in_float32(tmp_path: Path) -> None:
    model = written(tmp_path, LARGE, k=np.float32(30000), w=normal(64, 64))
    x = normal(1, 64)
    notes: list[str] = []
    ctx = replace(context(tmp_path / "out"), calibration=Feeding({"x": x}), progress=lambda fraction, text: notes.append(text))
    careless, careful = Float16().apply(model, context(tmp_path / "a")), Float16().apply(model, ctx)
    (expected,), (overflown,), (kept,) = (in_declared_precision(m.path, x=x) for m in (model, careless, careful))
    assert not np.isfinite(overflown).all()
    np.testing.assert_allclose(kept, expected, rtol=0, atol=0.01 * float(np.abs(expected).max()))
    assert "float32 kept for 3 operators" in notes[-1]


def test_half_precision_refuses_quantised_models_and_half_measures(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="quantised already"):
        Float16().apply(Model(path=shared_data / "mlperf_tiny/resnet8_cifar10_int8_qdq.onnx"), context(tmp_path))
    with pytest.raises(InputError, match="bfloat16 needs compute"):
        Float16().apply(Model(path=tmp_path), context(tmp_path, dtype="bfloat16"))
    with pytest.raises(ModelError, match="no float32 weights"):
        model = written(tmp_path, "g (float[N] x) => (float[N] y) { y = Relu(x) }")
        Float16().apply(model, context(tmp_path, compute="float32"))
