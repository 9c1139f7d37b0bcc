"""Single weights: shares, schedule, what training has to hold, and what coding would save."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prune_graphs import context, normal, parse, saved

from dovetail.compress.prune.unstructured import PruneWeights, cubic, keep, masks
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Model, Pass
from dovetail.testing.pass_suite import PassConformance


class TestPruneWeights(PassConformance):
    compression_pass: Pass = PruneWeights()
    config = {"sparsity": 0.7}
    refuses = (lambda: parse("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"),)


def two_layers() -> onnx.ModelProto:
    text = "g (float[N,20] x) => (float[N,10] y) { a = Gemm(x, w, o) r = Relu(a) y = MatMul(r, v) }"
    return parse(text, w=normal(20, 30), o=normal(30), v=10 * normal(30, 10))


def zeros(model: Model) -> dict[str, float]:
    return {t.name: float(np.mean(onnx.numpy_helper.to_array(t) == 0)) for t in onnx.load(model.path).graph.initializer}


@given(st.floats(0.01, 0.99), st.sampled_from(["local", "global"]), st.sampled_from(["magnitude", "normalized"]))
def test_exactly_the_share_goes_and_it_is_the_least(sparsity: float, scope: str, method: str) -> None:
    weights = {"a": normal(7, 9), "b": 3 * normal(5, 4, 2)}
    kept = keep(weights, sparsity, scope, method)  # type: ignore[arg-type]
    parts = [[name] for name in weights] if scope == "local" else [list(weights)]
    for names in parts:
        scale = {name: float(weights[name].astype(np.float64).std()) if method == "normalized" else 1.0 for name in names}
        total = sum(weights[name].size for name in names)
        assert sum(int((~kept[name]).sum()) for name in names) == round(sparsity * total)
        gone = [np.abs(weights[n])[~kept[n]] / scale[n] for n in names]
        stay = [np.abs(weights[n])[kept[n]] / scale[n] for n in names]
        assert (
            max((g.max() for g in gone if g.size), default=0) <= min((s.min() for s in stay if s.size), default=np.inf) + 1e-6
        )


def test_sparsity_is_by_layer_or_over_all(tmp_path: Path) -> None:
    model = saved(two_layers(), tmp_path / "source")
    local = zeros(PruneWeights().apply(model, context(tmp_path / "local", sparsity=0.5, scope="local")))
    assert local == {"w": 0.5, "v": 0.5, "o": 0.0}
    over_all = zeros(PruneWeights().apply(model, context(tmp_path / "all", sparsity=0.5, importance="magnitude")))
    assert over_all["w"] > 0.6 > 0.3 > over_all["v"] and over_all["o"] == 0
    assert 600 * over_all["w"] + 300 * over_all["v"] == pytest.approx(450)


def test_masks_come_back_from_the_file(tmp_path: Path) -> None:
    model = saved(two_layers(), tmp_path / "source")
    result = PruneWeights().apply(model, context(tmp_path / "work", sparsity=0.5, scope="local"))
    found = masks(result)
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(result.path).graph.initializer}
    assert set(found) == {"w", "v"} and all(np.array_equal(found[name], arrays[name] != 0) for name in found)
    assert masks(model) == {}


def test_storage_is_told_and_speed_is_not_claimed(tmp_path: Path) -> None:
    notes: list[str] = []
    model = saved(two_layers(), tmp_path / "source")
    result = PruneWeights().apply(model, context(tmp_path / "work", notes=notes, sparsity=0.9))
    told = json.loads((tmp_path / "work/pruned.json").read_text())
    assert told["bitmask_bytes"] == 75 + 38 + 4 * 90 and told["dense_bytes"] == 3600 and told["zlib_bytes"] < 1200
    assert notes and "no faster" in notes[0] and notes[0].startswith("90%")
    assert abs(result.size_bytes() - model.size_bytes()) < 200 and not PruneWeights.lossless and not PruneWeights.shrinks


def test_the_cubic_schedule_is_that_of_zhu_and_gupta() -> None:
    assert [cubic(t, 10, 20, 0.8) for t in (0, 10, 15, 20, 30)] == pytest.approx([0, 0, 0.8 - 0.8 / 8, 0.8, 0.8])
    assert cubic(15, 10, 20, 0.8, initial=0.4) == pytest.approx(0.8 - 0.4 / 8)
    with pytest.raises(InputError, match="before it begins"):
        cubic(0, 5, 5, 0.5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sparsity": 1.0}, "outside 0 to 1"),
        ({"sparsity": 0.0}, "outside 0 to 1"),
        ({"exclude": ["nobody"]}, "no operator is named"),
    ],
)
def test_wrong_parameters_are_named(tmp_path: Path, config: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PruneWeights().apply(saved(two_layers(), tmp_path / "source"), context(tmp_path / "work", **config))


def test_a_tensor_of_zeros_alone_is_refused(tmp_path: Path) -> None:
    text = "g (float[N,20] x) => (float[N,1] y) { a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }"
    model = saved(parse(text, w=normal(20, 4), v=1e-3 * normal(4, 1)), tmp_path / "source")
    for config in ({"sparsity": 0.9, "scope": "local"}, {"sparsity": 0.5, "importance": "magnitude"}):
        with pytest.raises(ModelError, match="every weight of 'v'"):
            PruneWeights().apply(model, context(tmp_path / "work", **config))


def test_quantised_models_come_too_late(tmp_path: Path) -> None:
    body = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = MatMul(d, w)"
    proto = parse(f"g (float[N,3] x) => (float[N,3] y) {{ {body} }}", s=np.float32(0.1), z=np.uint8(0), w=normal(3, 3))
    with pytest.raises(ModelError, match="float model"):
        PruneWeights().apply(saved(proto, tmp_path / "source"), context(tmp_path / "work"))
