"""Static 8-bit quantisation: what ONNX Runtime runs, and how well."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import version_converter
from quant_samples import Samples, accuracy, apply, cifar, folded, kinds, resnet, run, sequences, sqnr_db, transformer

from dovetail.compress.bias_correction import corrected
from dovetail.compress.calibrated import calibrate
from dovetail.compress.calibration import EMPTY, HALF_BINS, chosen, open_session
from dovetail.compress.quantize_static import Config, QuantizeStatic
from dovetail.compress.ranges import tensor_range
from dovetail.core.errors import DataError, InputError, ModelError
from dovetail.core.protocols import Model

FLOAT_KINDS = {"Conv", "FusedConv", "Relu", "Add", "AveragePool", "Gemm", "DequantizeLinear"}


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), min_size=1, max_size=5))
def test_a_histogram_keeps_every_value_and_the_extrema(chunks: list[list[float]]) -> None:
    histogram = EMPTY
    for chunk in chunks:
        histogram = histogram.added(np.array(chunk, np.float32))
    values = np.concatenate([np.array(c, np.float32) for c in chunks])
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    assert histogram.counts.sum() == (values.size if histogram.limit else 0) or 0 in values
    assert histogram.limit >= np.abs(values).max()


def test_a_histogram_widens_without_moving_values() -> None:
    small, large = np.linspace(-1, 1, 1001, dtype=np.float32), np.linspace(-7, 7, 1001, dtype=np.float32)
    histogram = EMPTY.added(small).added(large)
    center = float(np.dot(histogram.counts, np.abs(histogram.centers)) / histogram.counts.sum())
    expected = float(np.abs(np.concatenate([small, large])).mean())
    assert center == pytest.approx(expected, abs=2 * histogram.limit / HALF_BINS)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_ranges_hold_zero_and_stay_within_what_was_seen(method: str, symmetric: bool) -> None:
    values = np.maximum(np.random.default_rng(0).normal(0, 1, 20_000), -0.5).astype(np.float32)
    histogram = EMPTY.added(values)
    low, high = tensor_range(histogram, method, symmetric=symmetric)  # type: ignore[arg-type]
    assert low <= 0 <= high <= np.abs(values).max()
    assert high - low >= 1.0
    assert not symmetric or low == -high


def test_a_clipped_range_beats_the_full_one_when_there_is_an_outlier() -> None:
    values = np.append(np.random.default_rng(0).normal(0, 1, 50_000), 60.0).astype(np.float32)
    for method in ("percentile", "entropy"):
        assert tensor_range(EMPTY.added(values), method)[1] < 40  # type: ignore[arg-type]


def test_samples_spread_over_the_whole_set() -> None:
    indices = chosen(Samples([{}] * 100), 10)
    assert indices == sorted(set(indices)) and indices[0] == 0 and indices[-1] >= 90
    assert chosen(Samples([{}] * 3), 10) == [0, 1, 2]


@pytest.mark.parametrize(
    ("network", "method"),
    [("resnet8", "minmax"), ("resnet8", "percentile"), ("resnet8", "mse"), ("resnet8", "entropy"), ("resnet20", "mse")],
)
def test_accuracy_survives_each_method(shared_data: Path, tmp_path: Path, network: str, method: str) -> None:
    model, evaluation = resnet(shared_data, network, tmp_path), cifar(shared_data, network, 0, 500)
    quantised = apply(QuantizeStatic(), model, tmp_path, cifar(shared_data, network, 9000, 48), method=method)
    drop = accuracy(run(model, evaluation), evaluation) - accuracy(run(quantised, evaluation), evaluation)
    assert drop <= 0.03
    assert quantised.size_bytes() < 0.4 * model.size_bytes()


def test_the_whole_chain_runs_in_8_bits(shared_data: Path, tmp_path: Path) -> None:
    model, samples = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 9000, 8)
    run(apply(QuantizeStatic(), model, tmp_path, samples), samples, tmp_path / "optimised.onnx")
    ran = kinds(tmp_path / "optimised.onnx")
    assert not FLOAT_KINDS & set(ran)
    assert ran.count("QLinearConv") == 9 and ran.count("QLinearAdd") == 3 and "QGemm" in ran


def test_excluded_layers_really_run_in_float(shared_data: Path, tmp_path: Path) -> None:
    model, samples = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 9000, 8)
    quantised = apply(QuantizeStatic(), model, tmp_path, samples, exclude=("conv2d_1", "dense"))
    run(quantised, samples, tmp_path / "optimised.onnx")
    ran = kinds(tmp_path / "optimised.onnx")
    assert ran.count("Conv") == 1 and ran.count("QLinearConv") == 8
    assert "Gemm" in ran and "QGemm" not in ran


def test_calibration_is_deterministic(shared_data: Path, tmp_path: Path) -> None:
    model, samples = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 9000, 16)
    first = apply(QuantizeStatic(), model, tmp_path, samples).path.read_bytes()
    assert apply(QuantizeStatic(), model, tmp_path, samples).path.read_bytes() == first


def test_reduced_range_keeps_weights_in_7_bits(shared_data: Path, tmp_path: Path) -> None:
    model, samples = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 9000, 8)
    quantised = onnx.load(apply(QuantizeStatic(), model, tmp_path, samples, reduce_range=True).path)
    weights = [onnx.numpy_helper.to_array(t) for t in quantised.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert max(np.abs(w.astype(int)).max() for w in weights) <= 64


def test_bias_correction_restores_the_mean_output_of_a_layer(shared_data: Path, tmp_path: Path) -> None:
    model, samples = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 9000, 32)
    plain = calibrate(model, Config(samples=32, per_channel=False, reduce_range=True), samples, lambda share, text: None)
    others = {node.name for node in plain.proto.graph.node} - {"conv2d"}
    repaired = replace(plain, proto=corrected(plain.proto, plain.quantised(others), samples, 32))
    made = next(node.output[0] for node in plain.proto.graph.node if node.name == "conv2d")

    def shift(quantised: onnx.ModelProto) -> float:
        before, after = (open_session(proto, [made]) for proto in (plain.proto, quantised))
        rows = [after.run([made], f)[0] - before.run([made], f)[0] for f in samples.feeds]
        return float(np.abs(np.mean(np.concatenate(rows), axis=(0, 2, 3))).mean())

    assert shift(repaired.quantised(others)) < 0.3 * shift(plain.quantised(others))


def test_smoothing_helps_where_channels_have_outliers(tmp_path: Path) -> None:
    model, samples = transformer(tmp_path / "block.onnx"), sequences()
    reference = run(model, samples)
    plain = sqnr_db(reference, run(apply(QuantizeStatic(), model, tmp_path, samples), samples))
    smooth = sqnr_db(reference, run(apply(QuantizeStatic(), model, tmp_path, samples, smooth=0.5), samples))
    assert smooth > plain + 6


def test_attention_is_quantised_by_products_and_masks_survive(tmp_path: Path) -> None:
    model, samples = transformer(tmp_path / "block.onnx"), sequences()
    quantised = apply(QuantizeStatic(), model, tmp_path, samples)
    run(quantised, samples, tmp_path / "optimised.onnx")
    ran = kinds(tmp_path / "optimised.onnx")
    assert ran.count("MatMulIntegerToFloat") + ran.count("QLinearMatMul") == 6
    chain = apply(QuantizeStatic(), model, tmp_path, samples, scheme="chain", smooth=0.5)
    assert sqnr_db(run(model, samples), run(chain, samples)) > 10


def test_super_resolution_after_an_opset_upgrade(shared_data: Path, tmp_path: Path) -> None:
    old = onnx.load(shared_data / "onnx_models/super_resolution_x3_espcn.onnx")
    onnx.save(version_converter.convert_version(old, 17), tmp_path / "upgraded.onnx")
    model = folded(tmp_path / "upgraded.onnx", (tmp_path / "folded").mkdir() or tmp_path / "folded")
    rng = np.random.default_rng(0)
    name = old.graph.input[0].name
    ramp = np.linspace(0, 1, 224, dtype=np.float32)
    samples = Samples([{name: (ramp[None, None, :, None] * ramp[::-1] * rng.random()).astype(np.float32)} for _ in range(3)])
    quantised = apply(QuantizeStatic(), model, tmp_path, samples, bias_correction=True)
    assert sqnr_db(run(model, samples), run(quantised, samples)) > 20


def test_weights_in_external_data(shared_data: Path, tmp_path: Path) -> None:
    model, samples = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 9000, 8)
    (tmp_path / "external").mkdir()
    path = tmp_path / "external/model.onnx"
    onnx.save_model(onnx.load(model.path), path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    expected = apply(QuantizeStatic(), model, tmp_path, samples).path.read_bytes()
    assert apply(QuantizeStatic(), Model(path=path), tmp_path, samples).path.read_bytes() == expected


def test_wrong_shape_annotations_are_ignored(tmp_path: Path) -> None:
    model, samples = transformer(tmp_path / "block.onnx"), sequences()
    proto = onnx.load(model.path)
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("hidden", onnx.TensorProto.FLOAT, [1, 2, 3, 4]))
    onnx.save(proto, model.path)
    assert run(apply(QuantizeStatic(), model, tmp_path, samples), samples)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"activation": "int4"}, "'int4' is not one of uint8, int8, int16"),
        ({"samples": 0}, "0 lies outside 1 to 512"),
        ({"samples": "many"}, "'many' is not a int"),
        ({"per_channel": 1}, "1 is not a bool"),
        ({"smooth": 2.0}, "2.0 lies outside 0 to 1"),
        ({"exclude": "q"}, "'q' is not a list of names"),
        ({"exclude": ("nobody",)}, "no operator is named 'nobody'"),
    ],
)
def test_wrong_parameters_are_refused(tmp_path: Path, config: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        apply(QuantizeStatic(), transformer(tmp_path / "block.onnx"), tmp_path, sequences(), **config)


def test_what_cannot_be_quantised_is_refused(shared_data: Path, tmp_path: Path) -> None:
    samples = cifar(shared_data, "resnet8", 9000, 4)
    with pytest.raises(ModelError, match="needs opset 13 or newer, this model has 10"):
        apply(QuantizeStatic(), Model(path=shared_data / "onnx_models/super_resolution_x3_espcn.onnx"), tmp_path, samples)
    with pytest.raises(ModelError, match="quantised already"):
        apply(QuantizeStatic(), Model(path=shared_data / "mlperf_tiny/resnet8_cifar10_int8_qdq.onnx"), tmp_path, samples)
    with pytest.raises(ModelError, match="nothing to smooth"):
        apply(QuantizeStatic(), resnet(shared_data, "resnet8", tmp_path), tmp_path, samples, smooth=0.5)
    with pytest.raises(DataError, match="needs calibration samples"):
        apply(QuantizeStatic(), resnet(shared_data, "resnet8", tmp_path), tmp_path)


def test_values_that_are_not_finite_are_reported(tmp_path: Path) -> None:
    samples = sequences(2)
    samples.feeds[1]["x"][0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="NaN or infinite"):
        apply(QuantizeStatic(), transformer(tmp_path / "block.onnx"), tmp_path, samples)


def test_every_operator_stands_behind_what_it_reads(tmp_path: Path) -> None:
    float_model, data = transformer(tmp_path / "float.onnx"), sequences()
    quantised = onnx.load(apply(QuantizeStatic(), float_model, tmp_path, data).path)
    known = {"", *(value.name for value in (*quantised.graph.input, *quantised.graph.initializer))}
    for node in quantised.graph.node:
        assert known.issuperset(node.input), node.name
        known.update(node.output)


def test_bias_correction_of_what_has_no_biases_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no bias to correct"):
        apply(QuantizeStatic(), transformer(tmp_path / "float.onnx"), tmp_path, sequences(), bias_correction=True)
