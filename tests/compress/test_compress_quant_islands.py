"""Float islands: the choice is optimal, and the model keeps its limit."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quant_samples import ENVIRONMENT, accuracy, apply, cifar, kinds, resnet, run, sequences, sqnr_db, transformer

from dovetail.compress.float_islands import FloatIslands
from dovetail.compress.islands import choose_islands
from dovetail.core.errors import InputError
from dovetail.core.protocols import Model, PassContext
from dovetail.core.workload import Op, Workload

LAYER = st.tuples(st.integers(-2, 12), st.integers(-2, 12))


@settings(deadline=None)
@given(st.lists(LAYER, max_size=8), st.integers(0, 30))
def test_the_choice_costs_least_of_all_that_keep_the_limit(layers: list[tuple[int, int]], limit: int) -> None:
    sensitivity = {f"l{i}": s / 16 for i, (s, _) in enumerate(layers)}
    cost_s = {f"l{i}": c / 1e6 for i, (_, c) in enumerate(layers)}

    def drop(floats: set[str]) -> float:
        return sum(max(s, 0.0) for name, s in sensitivity.items() if name not in floats)

    def cost(floats: set[str]) -> float:
        return sum(cost_s[name] for name in floats)

    subsets = [set(c) for n in range(len(layers) + 1) for c in itertools.combinations(sensitivity, n)]
    chosen = choose_islands(sensitivity, cost_s, limit / 16)
    assert drop(chosen) <= limit / 16
    assert cost(chosen) == pytest.approx(min(cost(s) for s in subsets if drop(s) <= limit / 16), abs=1e-12)


def test_many_layers_stay_within_the_limit_and_near_the_optimum() -> None:
    rng = np.random.default_rng(0)
    names = [f"l{i}" for i in range(150)]
    sensitivity = dict(zip(names, rng.lognormal(0, 1, 150).tolist(), strict=True))
    cost_s = dict(zip(names, rng.lognormal(0, 1, 150).tolist(), strict=True))
    limit = 0.5 * sum(sensitivity.values())
    chosen = choose_islands(sensitivity, cost_s, limit)
    assert sum(s for n, s in sensitivity.items() if n not in chosen) <= limit
    assert sum(cost_s[n] for n in chosen) <= 1.01 * _relaxed(sensitivity, cost_s, limit)


def _relaxed(sensitivity: dict[str, float], cost_s: dict[str, float], limit: float) -> float:
    """Greedy by ratio with whole layers: at most one layer above the optimum."""
    excess, total = sum(sensitivity.values()) - limit, 0.0
    for name in sorted(sensitivity, key=lambda n: cost_s[n] / sensitivity[n]):
        if excess <= 0:
            break
        excess -= sensitivity[name]
        total += cost_s[name]
    return total


def test_islands_reach_the_noise_limit(tmp_path: Path) -> None:
    model, samples = transformer(tmp_path / "block.onnx"), sequences()
    quantised = apply(FloatIslands(), model, tmp_path, samples, min_sqnr_db=25.0)
    rows = json.loads((quantised.path.parent / "sensitivity.json").read_text())["layers"]
    assert len(rows) == 6
    assert 0 < sum(r["float"] for r in rows) < 6
    assert sqnr_db(run(model, samples), run(quantised, samples)) > 22


def test_a_fixed_choice_is_repeated(tmp_path: Path, shared_data: Path) -> None:
    model, samples = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 9000, 8)
    quantised = apply(FloatIslands(), model, tmp_path, samples, keep=("conv2d", "conv2d_1"))
    run(quantised, samples, tmp_path / "optimised.onnx")
    assert kinds(tmp_path / "optimised.onnx").count("Conv") == 2
    assert not (quantised.path.parent / "sensitivity.json").exists()
    with pytest.raises(InputError, match="no quantised layer is named 'nobody'"):
        apply(FloatIslands(), model, tmp_path, samples, keep=("nobody",))


def test_scores_and_costs_decide_where_there_are_any(tmp_path: Path, shared_data: Path) -> None:
    model, samples = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 9000, 8)
    selection = cifar(shared_data, "resnet8", 0, 100)
    reference = accuracy(run(model, selection), selection)
    asked: list[Path] = []

    def score(candidate: Model) -> float:
        asked.append(candidate.path)
        return reference - accuracy(run(candidate, selection), selection) + 0.02 * (len(kinds(candidate.path)) < 75)

    op = Op(name="conv2d_7", kind="Conv", flop=1e9, weight_bytes=0, input_bytes=0, output_bytes=0, params=0, dtype="float32")
    workload = Workload(model_hash="", input_shapes={}, assumed_dims={}, ops=(op,), peak_activation_bytes=None, uncounted={})
    context = PassContext(
        workdir=tmp_path / "islands",
        environment=ENVIRONMENT,
        calibration=samples,
        config={"max_drop": 0.01, "measured": 1, "probes": 8},
        workload=workload,
        score=score,
        cost=lambda candidate: 1e-6,
    )
    context.workdir.mkdir()
    FloatIslands().apply(model, context)
    rows = {r["layer"]: r for r in json.loads((context.workdir / "sensitivity.json").read_text())["layers"]}
    assert {path.name for path in context.workdir.iterdir()} == {"model.onnx", "sensitivity.json"}
    assert asked and rows["conv2d_7"]["cost_s"] == pytest.approx(0.015)
    assert sum(r["cost_s"] == 0 for r in rows.values()) == 1
