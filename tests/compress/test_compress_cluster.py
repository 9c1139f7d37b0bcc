"""Weight sharing: what it holds, what it costs, and how small its packed file is."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from quant_samples import Samples, accuracy, apply, cifar, kinds, resnet, run, sequences, sqnr_db, transformer

from dovetail.compress import packed
from dovetail.compress.cluster import ClusterWeights, clusters
from dovetail.compress.quantize_static import QuantizeStatic
from dovetail.compress.shared_values import with_values
from dovetail.core.errors import DataError, InputError, ModelError
from dovetail.core.protocols import Array, Model
from dovetail.testing.models import scalar_input, unknown_operator, wide_mlp
from dovetail.testing.pass_suite import PassConformance


class TestClusterWeights(PassConformance):
    compression_pass = ClusterWeights()
    config = {"values": 8, "min_elements": 32, "weighting": "none"}
    refuses = (lambda: scalar_input().proto, unknown_operator)


class TestCompensated(PassConformance):
    compression_pass = ClusterWeights()
    config = {"values": 8, "min_elements": 32, "weighting": "activations"}


def weights(model: Model) -> dict[str, Array]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(model.path).graph.initializer}


def resnet20(data: Path) -> Model:
    return Model(path=data / "cifar10_resnets" / "resnet20_cifar10.onnx")


@pytest.mark.slow
def test_resnet20_with_sixteen_values_per_layer_packs_six_times_smaller(shared_data: Path, tmp_path: Path) -> None:
    model = resnet20(shared_data)
    shared = apply(ClusterWeights(), model, tmp_path, cifar(shared_data, "resnet20", 9000, 32), samples=32)
    assert "BatchNormalization" not in kinds(shared.path)
    big = [w for w in weights(shared).values() if w.ndim >= 2]
    assert len(big) == 20 and all(len(np.unique(w)) <= 16 for w in big)
    made = packed.pack(shared.path, tmp_path / "m.dtvw")
    assert model.size_bytes() / made.size_bytes >= 6
    assert packed.unpack(made.path, tmp_path / "again.onnx").read_bytes() == shared.path.read_bytes()
    evaluation = cifar(shared_data, "resnet20", 0, 500)
    assert accuracy(run(model, evaluation), evaluation) - accuracy(run(shared, evaluation), evaluation) <= 0.015


@pytest.mark.slow
def test_resnet20_loses_at_most_half_a_point_on_images_that_did_not_choose(shared_data: Path, tmp_path: Path) -> None:
    model = resnet20(shared_data)
    shared = apply(ClusterWeights(), model, tmp_path, cifar(shared_data, "resnet20", 0, 512), samples=512)
    evaluation = cifar(shared_data, "resnet20", 2000, 8000)
    assert accuracy(run(model, evaluation), evaluation) - accuracy(run(shared, evaluation), evaluation) <= 0.005


@pytest.mark.slow
def test_samples_make_sixteen_values_cost_less(shared_data: Path, tmp_path: Path) -> None:
    model, samples = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 9000, 32)
    reference = run(model, samples)
    plain = sqnr_db(reference, run(apply(ClusterWeights(), model, tmp_path), samples))
    weighted = sqnr_db(reference, run(apply(ClusterWeights(), model, tmp_path, samples, samples=32), samples))
    assert weighted > plain + 2


def test_more_values_come_nearer(shared_data: Path, tmp_path: Path) -> None:
    model, samples = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 9000, 8)
    reference = run(model, samples)
    noise = [sqnr_db(reference, run(apply(ClusterWeights(), model, tmp_path, values=k), samples)) for k in (4, 16, 64)]
    assert noise == sorted(noise) and noise[-1] > 20


def test_matrix_products_and_sequences(tmp_path: Path) -> None:
    model, samples = transformer(tmp_path / "block.onnx"), sequences()
    reference = run(model, samples)
    plain = sqnr_db(reference, run(apply(ClusterWeights(), model, tmp_path, values=64), samples))
    shared = apply(ClusterWeights(), model, tmp_path, samples, values=64, samples=12)
    assert all(len(np.unique(w)) <= 64 for w in weights(shared).values() if w.ndim == 2)
    assert sqnr_db(reference, run(shared, samples)) > max(18, plain + 6)  # some of the channels are outliers


def test_only_the_layers_that_are_named(tmp_path: Path) -> None:
    model = transformer(tmp_path / "block.onnx")
    names = [n.name for n in onnx.load(apply(ClusterWeights(), model, tmp_path).path).graph.node if n.op_type == "MatMul"]
    one = apply(ClusterWeights(), model, tmp_path, layers=(names[0],))
    assert sum(len(np.unique(w)) <= 16 for w in weights(one).values() if w.ndim == 2) == 1
    rest = apply(ClusterWeights(), model, tmp_path, exclude=(names[0],))
    assert sum(len(np.unique(w)) <= 16 for w in weights(rest).values() if w.ndim == 2) == 5


def test_pruned_weights_stay_zero(tmp_path: Path) -> None:
    model = wide_mlp().save(tmp_path)
    proto = onnx.load(model.path)
    rng = np.random.default_rng(0)
    masks = []
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        masks.append(rng.random(array.shape) < 0.7)
        array[masks[-1]] = 0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(proto, model.path)
    feeds = Samples([wide_mlp().feeds])
    for weighting in ("none", "activations"):
        shared = weights(apply(ClusterWeights(), model, tmp_path, feeds, values=4, weighting=weighting))
        for array, mask in zip(shared.values(), masks, strict=True):
            assert not array[mask].any() and len(np.unique(array)) == 4
    made = packed.pack(tmp_path / "cluster_weights" / "model.onnx", tmp_path / "m.dtvw")
    assert made.ratio > 17  # 30 % of the weights hold 3 values: 0.88 + 0.3 · 1.58 = 1.36 bits each at most


@pytest.mark.slow
def test_the_rest_in_half_precision_packs_smaller(shared_data: Path, tmp_path: Path) -> None:
    model, samples = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 9000, 4)
    sizes = []
    for small in ("keep", "half"):
        shared = apply(ClusterWeights(), model, tmp_path, small=small)
        sizes.append(packed.pack(shared.path, tmp_path / "m.dtvw").size_bytes)
        assert sqnr_db(run(model, samples), run(shared, samples)) > 8
    assert sizes[1] < sizes[0]


def test_a_quantised_graph_packs_too(shared_data: Path, tmp_path: Path) -> None:
    model, samples = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 9000, 16)
    quantised = apply(QuantizeStatic(), model, tmp_path, samples, samples=16)
    made = packed.pack(quantised.path, tmp_path / "m.dtvw")
    assert made.ratio > 1.3
    assert packed.unpack(made.path, tmp_path / "q.onnx").read_bytes() == quantised.path.read_bytes()


def gemm_of(bias: Array, weight: Array) -> onnx.ModelProto:
    value, kind = helper.make_tensor_value_info, helper.np_dtype_to_tensor_dtype(weight.dtype)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "o"], ["y"], name="gemm")],
        "g",
        [value("x", kind, ["n", weight.shape[0]])],
        [value("y", kind, ["n", weight.shape[1]])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "o")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_a_bias_of_two_axes_stays_as_it_is(tmp_path: Path, kind: type) -> None:
    rng = np.random.default_rng(0)
    bias, weight = rng.normal(size=(1, 300)).astype(kind), (100 * rng.normal(size=(20, 300))).astype(kind)
    onnx.save(gemm_of(bias, weight), tmp_path / "m.onnx")
    samples = Samples([{"x": rng.normal(size=(4, 20)).astype(kind)}])
    shared = weights(apply(ClusterWeights(), Model(path=tmp_path / "m.onnx"), tmp_path, samples))
    np.testing.assert_array_equal(shared["o"], bias)
    assert len(np.unique(shared["w"])) <= 16


def test_samples_that_are_not_finite_are_named(tmp_path: Path) -> None:
    onnx.save(gemm_of(np.zeros(30, np.float32), np.ones((20, 30), np.float32)), tmp_path / "m.onnx")
    samples = Samples([{"x": np.full((4, 20), np.nan, np.float32)}])
    with pytest.raises(ModelError, match="'gemm' reads is NaN"):
        apply(ClusterWeights(), Model(path=tmp_path / "m.onnx"), tmp_path, samples)


# -- values that are shared ----------------------------------------------------------------------------------------------


def test_shared_values_are_found_and_put_back(tmp_path: Path) -> None:
    model = wide_mlp().save(tmp_path)
    assert clusters(model) == {}
    shared = apply(ClusterWeights(), model, tmp_path, values=5)
    found, arrays = clusters(shared), weights(shared)
    assert set(found) == set(arrays) and len(found) == 2
    for name, values in found.items():
        assert len(values.codebook) == 5 and values.indices.shape == arrays[name].shape
        np.testing.assert_array_equal(values.tensor, arrays[name])
    again = with_values(shared, found)
    assert again.SerializeToString() == onnx.load(shared.path).SerializeToString()


def test_the_gradient_of_a_value_is_the_sum_over_its_members(tmp_path: Path) -> None:
    shared = clusters(apply(ClusterWeights(), wide_mlp().save(tmp_path), tmp_path, values=3))
    values = next(iter(shared.values()))
    target = np.random.default_rng(0).normal(size=values.indices.shape)

    def loss(codebook: Array) -> float:
        return float(np.sum(codebook[values.indices] * target))

    gradient = values.summed(target)
    for index in range(3):
        step = np.zeros(3)
        step[index] = 1e-3
        slope = (loss(values.codebook + step) - loss(values.codebook - step)) / 2e-3
        assert gradient[index] == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_values_of_another_shape_are_refused(tmp_path: Path) -> None:
    shared = apply(ClusterWeights(), wide_mlp().save(tmp_path), tmp_path)
    found = clusters(shared)
    with pytest.raises(ModelError, match="no initialiser 'absent'"):
        with_values(shared, {"absent": next(iter(found.values()))})


# -- bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"values": 1}, "1 lies outside 2 to 4096"),
        ({"values": 5000}, "outside"),
        ({"min_elements": 0}, "less than 1"),
        ({"weighting": "hessian"}, "not one of"),
        ({"layers": ("absent",)}, "no operator is named 'absent'"),
        ({"bits": 4}, "unknown key 'bits'"),
    ],
)
def test_wrong_parameters_are_named(tmp_path: Path, config: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        apply(ClusterWeights(), wide_mlp().save(tmp_path), tmp_path, **config)


def test_samples_are_asked_for_where_they_are_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="calibration samples"):
        apply(ClusterWeights(), wide_mlp().save(tmp_path), tmp_path, weighting="activations")


def test_weights_that_are_not_finite_stay_as_they_are(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(20, 20)).astype(np.float32)
    array[0, 0] = np.inf
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [1, 20])],
        [value("y", TensorProto.FLOAT, [1, 20])],
        [numpy_helper.from_array(array, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="no float weights"):
        apply(ClusterWeights(), Model(path=tmp_path / "m.onnx"), tmp_path)
