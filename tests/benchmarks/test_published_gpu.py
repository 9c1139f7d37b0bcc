"""Published rows of GPUs: trees learn, intervals count devices, and fits hold on rows that they have not seen."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from dovetail.predict.fitted_file import parameters
from dovetail.predict.nets.quantities import QUANTITIES

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from published import gemm, matmul_peak_share, vision
from published.boosting import Boosting
from published.device_spread import on_new_device
from published.table import absolute_errors, folds
from published.vision_fit import positive_weights, weights_by_setting
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
    tiles = gemm.fit_tiles(*gemm._inputs(old), np.log(gemm.TABLE.measured(old)))
    logs = tiles.log_seconds(*gemm._inputs(new))
    assert absolute_errors(np.exp(logs), gemm.TABLE.measured(new)).mean() < 0.15


def test_weights_fitted_to_some_networks_hold_on_others(shared_data: Path) -> None:
    rows = [row for row in vision.TABLE.read(shared_data.parent / "validation") if row["setting"].device == "GeForce RTX 4090"]
    fold = folds(vision.TABLE.groups(rows)["unseen families"])
    old, new = ([row for row, number in zip(rows, fold, strict=True) if (number != 0) == one] for one in (True, False))
    quantities, batch, _, settings = vision._inputs(old)
    weights = weights_by_setting(quantities, batch, settings, vision.TABLE.measured(old), settings_too=True)
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
