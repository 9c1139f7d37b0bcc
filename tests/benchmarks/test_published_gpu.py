"""Published rows of GPUs: trees learn, intervals count devices, and fits hold on rows that they have not seen."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from dovetail.devices.catalogue import device
from dovetail.predict.fitted_file import parameters
from dovetail.predict.gemm.on_device import on_device
from dovetail.predict.nets.quantities import QUANTITIES

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import accuracy_page
import validate
from promises import promises
from published import gemm, llm_rows, matmul_peak_share, vision
from published.boosting import Boosting
from published.device_spread import on_new_device
from published.table import absolute_errors, folds
from published.vision_fit import fit_weights, positive_weights
from published.vision_profiles import Profiles, family

SETS = {table.name: table for table in (gemm.TABLE, matmul_peak_share.TABLE, vision.TABLE)}


@pytest.mark.parametrize("name", SETS)
def test_the_shipped_parameters_predict_the_rows_they_were_fitted_to(name: str, shared_data: Path) -> None:
    table = SETS[name]
    rows = table.read(shared_data.parent / "validation")
    found, measured = table.predict(parameters(name), rows), table.measured(rows)
    assert np.median(absolute_errors(found.value, measured)) < 0.07
    assert ((found.low <= measured) & (measured <= found.high)).mean() > 0.85


def test_tiles_fitted_to_one_gpu_hold_on_the_other(shared_data: Path) -> None:
    rows = gemm.TABLE.read(shared_data.parent / "validation")[::5]
    old, new = ([row for row in rows if (row["device"] == "A100 SXM 80GB") == one] for one in (True, False))
    old, new = (gemm._reaching(some, ["A100 SXM 80GB"]) for some in (old, new))
    tiles = gemm.fit_tiles(*gemm._inputs(old), np.log(gemm.TABLE.measured(old)))
    logs = tiles.log_seconds(*gemm._inputs(new))
    assert absolute_errors(np.exp(logs), gemm.TABLE.measured(new)).mean() < 0.15


def test_weights_fitted_to_some_networks_hold_on_others(shared_data: Path) -> None:
    rows = [row for row in vision.TABLE.read(shared_data.parent / "validation") if row["setting"].device == "GeForce RTX 4090"]
    fold = folds(vision.TABLE.groups(rows)["unseen families"])
    old, new = ([row for row, number in zip(rows, fold, strict=True) if (number != 0) == one] for one in (True, False))
    quantities, batch, _, settings = vision._inputs(old)
    weights = fit_weights(quantities, batch, settings, vision.TABLE.measured(old))
    assert np.median(absolute_errors(vision.TABLE.predict(weights, new).value, vision.TABLE.measured(new))) < 0.12


def test_boosted_trees_learn_a_step_and_a_product() -> None:
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(3000, 4)), rng.normal(size=(500, 4))

    def law(z: np.ndarray) -> np.ndarray:
        return np.where(z[:, 0] > 0.3, 0.5, 0.0) + 0.2 * (z[:, 1] > 0) * (z[:, 2] > 0)

    trees = Boosting(trees=200, depth=4, rate=0.1, shrink=3.0, clip=0.2, columns=1.0).fit(x, law(x))
    assert np.abs(trees(new) - law(new)).mean() < 0.03


def test_boosting_leaves_features_without_values_alone() -> None:
    x = np.stack([np.ones(100), np.arange(100.0)], axis=1)
    trees = Boosting(trees=20, depth=2, rate=0.3, shrink=1.0, clip=1.0, columns=1.0).fit(x, (x[:, 1] > 50) * 1.0)
    assert set(trees.features.ravel().tolist()) == {1}


def test_weights_are_never_negative_and_outliers_do_not_pull() -> None:
    rng = np.random.default_rng(1)
    terms = rng.uniform(1, 10, (200, 3))
    seconds = terms @ np.array([2.0, 0.0, 0.5])
    seconds[:10] *= 5
    found = positive_weights(terms, seconds)
    assert (found >= 0).all() and np.abs(found - [2.0, 0.0, 0.5]).max() < 0.15


def test_an_interval_on_new_devices_counts_devices_not_rows() -> None:
    rng = np.random.default_rng(2)
    names = np.repeat(["a", "b", "c"], 500)
    errors = np.repeat([0.2, -0.2, 0.1], 500) + rng.normal(0, 0.02, 1500)
    found = on_new_device(errors, names)
    assert found is not None and found[0] < np.exp(-0.35) and found[1] > np.exp(0.35)
    assert on_new_device(errors[:500], names[:500]) is None


def test_a_network_that_was_not_traced_takes_the_nearest_scaled_to_its_operations() -> None:
    profiles = Profiles.load()
    at = {name: index for index, name in enumerate(QUANTITIES)}
    known = profiles.find("resnet50", 224, 4.11)
    assert known[at["flop_conv"]] == pytest.approx(3.935e9, rel=1e-3) and known[at["count_bn"]] == 53
    other = profiles.find("resnet50_of_tomorrow", 224, 8.22)
    assert other[: at["flop_sdpa"] + 1].sum() == pytest.approx(2 * 8.22e9) and other[at["count_bn"]] > 0
    bigger = profiles.find("resnet50", 1000, None)
    assert bigger[at["params"]] == known[at["params"]] and bigger[at["flop_conv"]] > 10 * known[at["flop_conv"]]
    with pytest.raises(LookupError, match="no network like"):
        profiles.find("0123456789" * 4, 224, 1.0)


@pytest.mark.parametrize(("name", "wanted"), [("tf_efficientnet_b4", "efficientnet"), ("gluon_resnet50_v1d", "resnet")])
def test_a_family_is_what_a_name_begins_with(name: str, wanted: str) -> None:
    assert family(name) == wanted


def test_a_device_that_is_left_out_tells_nothing_of_the_share_of_its_own_peak(shared_data: Path) -> None:
    rows = gemm.TABLE.read(shared_data.parent / "validation")[:1]
    everything, without = (gemm._reaching(rows, names)[0]["reached"] for names in (("A100 SXM 80GB", "H100 SXM 80GB"), ()))
    shipped = on_device(device("H100 SXM 80GB"), 1)
    assert shipped is not None and everything == pytest.approx(shipped.reached[0]) and everything != without


def test_who_knows_less_gets_no_narrower_interval() -> None:
    errors = llm_rows.Errors(["t"])
    rng = np.random.default_rng(3)
    errors._found["t"] = {
        kind: [(f"{kind}{i % 4}", float(e)) for i, e in enumerate(rng.normal(0, size, 200))]
        for kind, size in (("run", 0.3), ("cell", 0.05), ("model", 0.1), ("device", 0.4))
    }
    found = errors.spreads()["t"]
    order = [("run", "cell"), ("run", "model"), ("run", "device"), ("model", "both"), ("device", "both")]
    assert all(found[b]["low"] <= found[a]["low"] and found[a]["high"] <= found[b]["high"] for a, b in order)


def test_sets_that_others_start_from_are_fitted_first() -> None:
    found = validate.in_order(["mlperf", "gemm", "trtllm", "matmul_peak_share", "gemm"])
    assert found.index("matmul_peak_share") < found.index("gemm") and found.index("trtllm") < found.index("mlperf")
    assert len(found) == 4
    with pytest.raises(SystemExit, match="no such set: gem"):
        validate.in_order(["gem"])


def test_what_is_promised_and_not_kept_is_said() -> None:
    def error(coverage: float, **more: object) -> dict[str, object]:
        return {"n": 9, "median": 0.1, "mean": 0.1, "p90": 0.1, "coverage": coverage, "baselines": {}, **more}

    parts = {"": error(0.9, kendall=(0.77, 12)), "few": error(0.745), "many": error(0.99)}
    gate = {"split": "unseen devices", "part": "", "statistic": "median", "limit": 0.25, "value": 0.3, "kept": False}
    figures = {"fitted": error(0.9), "unseen": {"unseen devices": parts, "unseen models": {"": error(0.97)}}, "gates": [gate]}
    missed = [item.text for item in promises(figures) if not item.kept]
    assert len(missed) == 4
    words = ("median", "few hold 74.5 %", "τ 0.770", "hold 97.0 %")
    assert all(word in text for word, text in zip(words, missed, strict=True))
    assert accuracy_page.text("a set", figures).count(": missed") == 4
