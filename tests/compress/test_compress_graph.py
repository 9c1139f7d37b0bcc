"""Rewrite rules and clean-up: every rewritten graph answers as the original does."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx.version_converter
import onnx_ir as ir
import onnxruntime as ort
import pytest

from dovetail.compress.clean import Clean
from dovetail.compress.graph import files
from dovetail.core.errors import InputError, ModelError
from dovetail.core.measurement import Environment
from dovetail.core.protocols import Array, Model, PassContext

ENVIRONMENT = Environment(fingerprint="", cpu="", cores=1, isa=(), memory_bytes=1e9, os="", python="3.11")
SIZES = {"sequence": 576}


def context(folder: Path, **config: object) -> PassContext:
    folder.mkdir(parents=True, exist_ok=True)
    return PassContext(workdir=folder, environment=ENVIRONMENT, config=config)


def parse(text: str, opset: int = 17, **weights: Array) -> onnx.ModelProto:
    """A model from ONNX's textual syntax, with arrays as initialisers."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def random_feeds(runner: ort.InferenceSession, seed: int, batch: int = 2) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in runner.get_inputs():
        shape = [d if isinstance(d, int) else SIZES.get(d, batch) for d in value.shape]
        if value.type == "tensor(float)":
            feeds[value.name] = rng.standard_normal(shape).astype(np.float32)
        elif value.type == "tensor(int64)":
            feeds[value.name] = np.full(shape, 16000, np.int64)
        else:
            feeds[value.name] = rng.integers(-128, 128, shape).astype(np.int8)
    return feeds


def interface(path: Path) -> list[tuple[str, str]]:
    runner = session(path)
    return [(v.name, v.type) for v in (*runner.get_inputs(), *runner.get_outputs())]


def assert_equal_answers(first: Path, second: Path, tolerance: float = 1e-5) -> None:
    """Outputs differ by at most ``tolerance`` times the largest value of each output, on several random feeds."""
    one, two = session(first), session(second)
    for seed in range(3):
        feeds = random_feeds(one, seed, batch=1 + seed)
        for a, b in zip(one.run(None, feeds), two.run(None, feeds), strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            np.testing.assert_allclose(b, a, rtol=0, atol=tolerance * max(float(np.abs(a.astype(np.float64)).max()), 1e-6))


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def cleaned(model: onnx.ModelProto, folder: Path, **config: object) -> Counter[str]:
    """Cleans a model, checks that it is valid, has the same interface and answers alike, and returns its operators."""
    source = folder / "source.onnx"
    onnx.save(model, source)
    result = Clean().apply(Model(path=source), context(folder / "clean", **config))
    onnx.checker.check_model(onnx.load(result.path), full_check=True)
    assert interface(result.path) == interface(source)
    assert_equal_answers(source, result.path)
    return operators(result.path)


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def batch_norm(channels: int) -> dict[str, Array]:
    gamma, beta, mean, deviation = (normal(channels, seed=s) for s in range(4))
    return {"g": gamma, "b": beta, "m": mean, "v": deviation**2 + np.float32(0.1)}


CONV = "g (float[N,4,9,9] x) => (float[N,M,H,W] y)"


@pytest.mark.parametrize(
    ("body", "weights", "expected"),
    [
        (
            "c = Conv<pads=[1,1,1,1]>(x, w) y = BatchNormalization(c, g, b, m, v)",
            {"w": normal(6, 4, 3, 3), **batch_norm(6)},
            {"Conv": 1},
        ),
        (
            "c = Conv<group=2>(x, w, o) y = BatchNormalization(c, g, b, m, v)",
            {"w": normal(6, 2, 3, 3), "o": normal(6), **batch_norm(6)},
            {"Conv": 1},
        ),
        (
            "c = ConvTranspose<group=2>(x, w) y = BatchNormalization(c, g, b, m, v)",
            {"w": normal(4, 3, 3, 3), **batch_norm(6)},
            {"ConvTranspose": 1},
        ),
        (
            "n = BatchNormalization(x, g, b, m, v) y = Conv<group=2>(n, w)",
            {"w": normal(6, 2, 3, 3), **batch_norm(4)},
            {"Conv": 1},
        ),
        (
            "n = BatchNormalization(x, g, b, m, v) y = Conv<pads=[1,1,1,1]>(n, w)",
            {"w": normal(6, 4, 3, 3), **batch_norm(4)},
            {"BatchNormalization": 1, "Conv": 1},
        ),
        (
            "n = Mul(x, s) o = Sub(n, t) y = Conv<pads=[1,1,1,1]>(o, w)",
            {"w": normal(6, 4, 3, 3), "s": normal(4, 1, 1), "t": normal(1, 4, 1, 1)},
            {"Add": 1, "Conv": 1},
        ),
        (
            "c = Conv(x, w) d = Add(c, t) e = Mul(s, d) y = Sub(k, e)",
            {"w": normal(6, 4, 3, 3), "t": normal(6, 1, 1), "s": normal(1, 6, 1, 1), "k": np.float32(3)},
            {"Conv": 1},
        ),
        (
            "c = Conv(x, w) d = Div(c, s) y = Relu(d)",
            {"w": normal(6, 4, 3, 3), "s": normal(6, 1, 1) + 5},
            {"Conv": 1, "Relu": 1},
        ),
        ("c = Conv(x, w) y = Mul(c, s)", {"w": normal(6, 4, 3, 3), "s": normal(1, 1, 7, 1)}, {"Conv": 1, "Mul": 1}),
        ("c = Conv(x, w) y = Mul(c, s)", {"w": normal(1, 4, 3, 3), "s": normal(6, 1, 1)}, {"Conv": 1, "Mul": 1}),
        (
            "c = Conv(x, w) d = Mul(c, s) y = Add(c, d)",
            {"w": normal(6, 4, 3, 3), "s": normal(6, 1, 1)},
            {"Conv": 1, "Mul": 1, "Add": 1},
        ),
    ],
)
def test_affine_operators_fold_into_convolutions(
    body: str, weights: dict[str, Array], expected: dict[str, int], tmp_path: Path
) -> None:
    assert cleaned(parse(f"{CONV} {{ {body} }}", **weights), tmp_path) == expected


@pytest.mark.parametrize(
    ("body", "weights", "expected"),
    [
        (
            "c = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, o) y = BatchNormalization(c, g, b, m, v)",
            {"w": normal(6, 5), "o": normal(6), **batch_norm(6)},
            {"Gemm": 1},
        ),
        (
            "c = MatMul(x, w) d = Add(c, o) y = BatchNormalization(d, g, b, m, v)",
            {"w": normal(5, 6), "o": normal(6), **batch_norm(6)},
            {"Gemm": 1},
        ),
        (
            "c = Mul(x, s) d = Add(c, t) y = Gemm<alpha=3.0>(d, w, o)",
            {"w": normal(5, 6), "o": normal(1, 6), "s": normal(5), "t": normal(1, 5)},
            {"Gemm": 1},
        ),
        ("c = Add(x, t) y = MatMul(c, w)", {"w": normal(5, 6), "t": normal(5)}, {"Gemm": 1}),
        ("c = MatMul(x, w) y = Add(c, o)", {"w": normal(5, 6), "o": np.float32(2)}, {"Gemm": 1}),
        ("c = MatMul(x, w) y = Add(c, o)", {"w": normal(5, 1), "o": normal(6)}, {"MatMul": 1, "Add": 1}),
    ],
)
def test_affine_operators_fold_into_matrix_products(
    body: str, weights: dict[str, Array], expected: dict[str, int], tmp_path: Path
) -> None:
    assert cleaned(parse(f"g (float[N,5] x) => (float[N,K] y) {{ {body} }}", **weights), tmp_path) == expected


def test_constants_that_spread_one_channel_over_several_stay(tmp_path: Path) -> None:
    text = "g (float[N,1,9,9] x) => (float[N,6,7,7] y) { a = Sub(x, m) b = Div(a, s) y = Conv(b, w) }"
    model = parse(text, m=normal(3, 1, 1), s=np.abs(normal(3, 1, 1)) + 1, w=normal(6, 3, 3, 3))
    assert cleaned(model, tmp_path) == {"Sub": 1, "Div": 1, "Conv": 1}


def test_integer_arithmetic_stays(tmp_path: Path) -> None:
    body = "i = Cast<to=6>(x) m = MatMul(i, w) a = Add(m, b) y = Cast<to=1>(a)"
    model = parse(f"g (float[N,4] x) => (float[N,3] y) {{ {body} }}", w=np.ones((4, 3), np.int32), b=np.ones(3, np.int32))
    assert cleaned(model, tmp_path) == {"Cast": 2, "MatMul": 1, "Add": 1}


def test_attention_scale_folds_and_bias_stays_beside_a_batched_product(tmp_path: Path) -> None:
    model = parse(
        "g (float[N,7,5] x) => (float[N,7,6] y) { c = MatMul(x, w) d = Add(c, o) y = Div(d, s) }",
        w=normal(5, 6),
        o=normal(6),
        s=np.float32(8),
    )
    assert cleaned(model, tmp_path) == {"MatMul": 1, "Add": 1}


@pytest.mark.parametrize(
    ("form", "expected"), [("matmul", {"MatMul": 1, "Add": 1}), ("keep", {"Gemm": 1}), ("gemm", {"Gemm": 1})]
)
def test_form_of_fully_connected_layers_is_a_choice(form: str, expected: dict[str, int], tmp_path: Path) -> None:
    model = parse("g (float[N,5] x) => (float[N,6] y) { y = Gemm<transB=1, alpha=0.5>(x, w, o) }", w=normal(6, 5), o=normal(6))
    assert cleaned(model, tmp_path, gemm=form) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "c = ReduceMean<axes=[2,3], keepdims=0>(x) d = Identity(c) y = Relu(d)",
            {"GlobalAveragePool": 1, "Reshape": 1, "Relu": 1},
        ),
        ("y = ReduceMean<axes=[-1,-2]>(x)", {"GlobalAveragePool": 1}),
        ("y = ReduceMean<axes=[1,2]>(x)", {"ReduceMean": 1}),
        ("y = AveragePool<kernel_shape=[8,8]>(x)", {"GlobalAveragePool": 1}),
        ("y = AveragePool<kernel_shape=[4,4]>(x)", {"AveragePool": 1}),
        (
            "p = Constant<value_ints=[0,0,1,2,0,0,1,0]>() c = Pad(x, p) y = AveragePool<kernel_shape=[3,3]>(c)",
            {"AveragePool": 1},
        ),
        ('p = @ c = Pad<mode="edge">(x, p) y = AveragePool<kernel_shape=[3,3]>(c)', {"Pad": 1, "AveragePool": 1}),
        ("p = @ c = Pad(x, p) y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(c)", {"Pad": 1, "AveragePool": 1}),
        ("p = @ c = Pad(x, p) y = MaxPool<kernel_shape=[3,3]>(c)", {"Pad": 1, "MaxPool": 1}),
        ("c = Transpose<perm=[0,2,3,1]>(x) d = Transpose<perm=[0,3,1,2]>(c) e = Cast<to=1>(d) y = Abs(e)", {"Abs": 1}),
        ("c = Abs(x) d = Abs(x) y = Add(c, d)", {"Abs": 1, "Add": 1}),
    ],
)
def test_pooling_and_rearrangement(body: str, expected: dict[str, int], tmp_path: Path) -> None:
    body = body.replace("@", "Constant<value_ints=[0,0,1,1,0,0,1,1]>()")
    rank = "K,L" if "keepdims=0" in body else "K,L,H,W"
    assert cleaned(parse(f"g (float[N,4,8,8] x) => (float[{rank}] y) {{ {body} }}"), tmp_path) == expected


@pytest.mark.parametrize(
    ("view", "perm"), [((-1, 2, 3, 3, 5, 4), (0, 1, 4, 2, 5, 3)), ((-1, 3, 3, 2, 5, 4), (0, 3, 4, 1, 5, 2))]
)
def test_pixel_shuffle_becomes_depth_to_space(view: tuple[int, ...], perm: tuple[int, ...], tmp_path: Path) -> None:
    body = f"a = Reshape(x, s) b = Transpose<perm={list(perm)}>(a) y = Reshape(b, t)"
    model = parse(f"g (float[N,18,5,4] x) => (float[N,2,15,12] y) {{ {body} }}", s=np.array(view), t=np.array([-1, 2, 15, 12]))
    assert cleaned(model, tmp_path) == {"DepthToSpace": 1}
    assert cleaned(model, tmp_path, pixel_shuffle=False) == {"Reshape": 2, "Transpose": 1}


SLICE = "one = Constant<value_ints=[0,0]>() far = Constant<value_ints=[9223372036854775807,9223372036854775807]>() "
SLICE += "axes = Constant<value_ints=[2,3]>() two = Constant<value_ints=[2,2]>() "
SLICE += "pads = Constant<value_ints=[0,1,0,0,0,3,0,0]>() "
BRANCH = "s = Slice(r, one, far, axes, two) p = Pad(s, pads) c = Conv<strides=[2,2], pads=[1,1,1,1]>(r, w) y = Add(c, p)"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("s = Slice(x, one, far, axes, two) y = Pad(s, pads)", {"Conv": 1}),
        ("s = MaxPool<kernel_shape=[1,1], strides=[2,2]>(x) y = Pad(s, pads)", {"Conv": 1}),
        (f"r = Relu(x) {BRANCH}", {"Relu": 1, "Conv": 2, "Add": 1}),
        ("s = Slice(x, axes, far, axes, two) y = Pad(s, pads)", {"Slice": 1, "Pad": 1}),
        ("y = Pad(x, pads)", {"Pad": 1}),
    ],
)
def test_parameter_free_shortcut_becomes_a_convolution(body: str, expected: dict[str, int], tmp_path: Path) -> None:
    model = parse(f"g (float[N,4,9,8] x) => (float[N,8,H,W] y) {{ {SLICE} {body} }}", w=normal(8, 4, 3, 3))
    assert cleaned(model, tmp_path) == expected


@pytest.mark.parametrize("opset", [17, 18])
def test_written_out_layer_norm_becomes_one_operator(opset: int, tmp_path: Path) -> None:
    mean = "ReduceMean<axes=[-1]>({0})" if opset == 17 else "ReduceMean({0}, last)"
    body = f"last = Constant<value_ints=[-1]>() m = {mean.format('x')} d = Sub(x, m) q = Pow(d, two) v = {mean.format('q')} "
    body += "e = Add(v, eps) s = Sqrt(e) n = Div(d, s) k = Mul(n, g) z = Add(k, b) y = MatMul(z, w)"
    weights = {"two": np.float32(2), "eps": np.float32(1e-5), "g": normal(8), "b": normal(8, seed=1), "w": normal(8, 3)}
    model = parse(f"g (float[N,5,8] x) => (float[N,5,3] y) {{ {body} }}", opset, **weights)
    assert cleaned(model, tmp_path) == {"LayerNormalization": 1, "MatMul": 1}


GELU = "a = Div(h, r) e = Erf(a) f = Add(e, one) p = Mul(h, f) q = Mul(p, half) y = MatMul(q, w)"


@pytest.mark.parametrize(("opset", "expected"), [(20, {"Gelu": 1}), (17, {"Div": 1, "Erf": 1, "Add": 1, "Mul": 2})])
def test_gelu_becomes_one_operator_or_keeps_its_form(opset: int, expected: dict[str, int], tmp_path: Path) -> None:
    weights = {"r": np.float32(np.sqrt(2)), "one": np.float32(1), "half": np.float32(0.5), "w": normal(6, 3), "u": normal(4, 6)}
    model = parse(f"g (float[N,7,4] x) => (float[N,7,3] y) {{ h = MatMul(x, u) {GELU} }}", opset, **weights)
    assert cleaned(model, tmp_path) == {**expected, "MatMul": 2}


def test_bounds_in_a_row_become_one(tmp_path: Path) -> None:
    body = "a = Relu(x) y = Clip(a, zero, six) b = Max(x, zero) c = Min(b, one) z = Neg(c) d = Clip(x, , one) w = Min(d, zero)"
    weights = {"zero": np.float32(0), "six": np.float32(6), "one": np.float32(1)}
    model = parse(f"g (float[N,4] x) => (float[N,4] y, float[N,4] z, float[N,4] w) {{ {body} }}", **weights)
    assert cleaned(model, tmp_path) == {"Clip": 3, "Neg": 1}


def test_shared_weights_and_several_readers_stay_correct(tmp_path: Path) -> None:
    body = "a = Conv(x, w) p = BatchNormalization(a, g, b, m, v) c = Conv(x, w2) q = Mul(c, s) y = Add(p, q) z = Conv(x, w)"
    weights = {"w": normal(6, 4, 3, 3), "w2": normal(6, 4, 3, 3, seed=1), "s": normal(6, 1, 1), **batch_norm(6)}
    model = parse(f"g (float[N,4,9,9] x) => (float[N,6,7,7] y, float[N,6,7,7] z) {{ {body} }}", **weights)
    assert cleaned(model, tmp_path) == {"Conv": 2, "BatchNormalization": 1, "Add": 1}


def test_branches_fold_inside_and_decided_ones_are_inlined(tmp_path: Path) -> None:
    branch = "{0} () => (float[N,6,7,7] {0}o) {{ {0}c = Conv(x, w) {0}o = BatchNormalization({0}c, g, b, {1}, v) }}"
    body = f"s = ReduceSum<keepdims=0>(x) t = Greater(s, zero) y = If(t) <then_branch = {branch.format('p', 'm')}, "
    body += f"else_branch = {branch.format('q', 'b')}> k = Constant<value_int=1>() o = Cast<to=9>(k) "
    body += f"z = If(o) <then_branch = {branch.format('u', 'm')}, else_branch = {branch.format('n', 'b')}>"
    text = f"g (float[N,4,9,9] x) => (float[N,6,7,7] y, float[N,6,7,7] z) {{ {body} }}"
    model = parse(text, w=normal(6, 4, 3, 3), zero=np.float32(0), **batch_norm(6))
    assert cleaned(model, tmp_path) == {"ReduceSum": 1, "Greater": 1, "If": 1, "Conv": 1}
    kept = next(n for n in onnx.load(tmp_path / "clean" / "model.onnx").graph.node if n.op_type == "If")
    assert [[n.op_type for n in a.g.node] for a in kept.attribute] == [["Conv"], ["Conv"]]


def test_quantised_pairs_stay(tmp_path: Path) -> None:
    body = "a = QuantizeLinear(x, s, o) b = DequantizeLinear(a, s, o) c = DequantizeLinear(w, s, z) d = Conv(b, c) "
    body += "e = QuantizeLinear(d, s, o) f = DequantizeLinear(e, s, o) y = GlobalAveragePool(f)"
    weights = {"w": normal(6, 4, 3, 3).astype(np.int8), "s": np.float32(0.05), "o": np.uint8(128), "z": np.int8(0)}
    model = parse(f"g (float[N,4,9,9] x) => (float[N,6,1,1] y) {{ {body} }}", **weights)
    assert cleaned(model, tmp_path) == {"QuantizeLinear": 2, "DequantizeLinear": 3, "Conv": 1, "GlobalAveragePool": 1}


def test_models_of_one_operator_or_none(tmp_path: Path) -> None:
    assert cleaned(parse("g (float[N] x) => (float[N] y) { y = Relu(x) }"), tmp_path) == {"Relu": 1}
    assert cleaned(parse("g (float[N] x) => (float[N] y) { y = Identity(x) }"), tmp_path) == {"Identity": 1}
    constant = parse("g (float[N] x) => (float[2] y, float[N] z) { y = Add(a, a) z = Neg(x) }", a=normal(2))
    assert cleaned(constant, tmp_path)["Neg"] == 1


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("cifar10_resnets/resnet20_cifar10.onnx", {"BatchNormalization", "Slice", "Pad", "Constant", "ReduceMean"}),
        ("cifar10_resnets/resnet56_cifar10.onnx", {"BatchNormalization", "Slice", "Pad", "Constant", "ReduceMean"}),
        ("mlperf_tiny/resnet8_cifar10.onnx", {"BatchNormalization", "AveragePool"}),
        ("mlperf_tiny/resnet8_cifar10_int8_qdq.onnx", set()),
        ("mlperf_tiny/ad_toycar_autoencoder.onnx", {"BatchNormalization"}),
        ("mlperf_tiny/ad_toycar_autoencoder_fp32tflite.onnx", {"MatMul", "Add"}),
        ("mlperf_tiny/ad_toycar_autoencoder_int8_qdq.onnx", set()),
        ("onnx_models/silero_vad_16k_op15.onnx", {"Constant"}),
    ],
)
def test_real_models_answer_alike(name: str, absent: set[str], shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / name
    result = Clean().apply(Model(path=source), context(tmp_path))
    assert interface(result.path) == interface(source)
    assert_equal_answers(source, result.path)
    assert not absent & set(operators(result.path))
    assert result.size_bytes() < 1.05 * source.stat().st_size


def test_old_opsets_are_converted_first(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "onnx_models/super_resolution_x3_espcn.onnx"
    with pytest.raises(ModelError, match="opset 10 is too old"):
        Clean().apply(Model(path=source), context(tmp_path))
    model = onnx.version_converter.convert_version(onnx.load(source), 17)
    assert cleaned(model, tmp_path) == {"Conv": 4, "Relu": 3, "DepthToSpace": 1}


def test_cleaned_model_quantises_with_onnxruntime(shared_data: Path, tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    result = Clean().apply(Model(path=shared_data / "mlperf_tiny/ad_toycar_autoencoder.onnx"), context(tmp_path))
    quantize_dynamic(str(result.path), str(tmp_path / "int8.onnx"))
    assert_equal_answers(result.path, tmp_path / "int8.onnx", tolerance=0.1)


def runnable(path: Path, inputs: list[Array]) -> tuple[dict[str, Array], list[Array]] | None:
    """Feeds and outputs of a model, ``None`` where ONNX Runtime has no kernel for it."""
    try:
        runner = session(path)
        feeds = dict(zip((v.name for v in runner.get_inputs()), inputs, strict=False))
        return feeds, runner.run(None, feeds)
    except Exception:
        return None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_node_models_of_the_onnx_package_answer_alike(tmp_path: Path) -> None:
    from onnx.backend.test.case.node import collect_testcases

    source, compared = tmp_path / "source.onnx", 0
    for case in collect_testcases(None):
        onnx.save(case.model, source)
        answers = runnable(source, case.data_sets[0][0])
        if answers is None or "random" in case.name or "bernoulli" in case.name:
            continue
        try:
            result = Clean().apply(Model(path=source), context(tmp_path / "clean"))
        except ModelError:
            continue  # an old opset, or an operator that the optimiser cannot fold
        feeds, expected = answers
        for a, b in zip(expected, session(result.path).run(None, feeds), strict=True):
            if isinstance(a, np.ndarray) and a.dtype.kind == "f":
                np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5, err_msg=case.name)
            elif isinstance(a, np.ndarray):
                np.testing.assert_array_equal(b, a, err_msg=case.name)
        compared += 1
    assert compared > 1000


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="cannot read"):
        Clean().apply(Model(path=tmp_path / "model.onnx"), context(tmp_path / "a"))
    with pytest.raises(InputError, match="unknown key 'gem'"):
        Clean().apply(Model(path=tmp_path / "model.onnx"), context(tmp_path / "a", gem="keep"))


def test_a_saved_graph_has_no_annotation_without_a_type(tmp_path):
    """Notes that a rewrite leaves on a constant are not written as a typeless annotation, which stops shape inference."""
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", None])
    pads = onnx.numpy_helper.from_array(np.array([0, 1, 0, 1]), "pads")
    nodes = [onnx.helper.make_node("Pad", ["x", "pads"], ["p"]), onnx.helper.make_node("Relu", ["p"], ["y"])]
    opset = [onnx.helper.make_opsetid("", 17)]
    proto = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [x], [y], [pads]), opset_imports=opset, ir_version=8)
    graph_model = ir.serde.deserialize_model(proto)
    graph_model.graph.initializers["pads"].metadata_props["folded_from"] = "arithmetic"
    files.save(graph_model, tmp_path)
    inferred = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "model.onnx"))
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info}
    assert shapes["p"][1] == 6
