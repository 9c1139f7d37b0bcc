"""The bootstrap's bounds err about as often as they claim, and say so where they cannot."""

import math

import numpy as np
import pytest

from dovetail.certify.bootstrap import bootstrap_contrast, bootstrap_mean


def ranks(x):
    ordered = np.sort(x)
    return np.searchsorted(ordered, x, "left") + np.searchsorted(ordered, x, "right")


def spearman(rows):
    return float(np.corrcoef(ranks(rows[:, 0]), ranks(rows[:, 1]))[0, 1])


def spearman_drop(original, candidate):
    return spearman(original) - spearman(candidate)


def error_rate(bounds, truth, alpha=0.05):
    return np.mean([b.upper(alpha) <= truth for b in bounds])


def allowed(draws, alpha=0.05):
    return alpha + 0.012 + 2 * math.sqrt(alpha * (1 - alpha) / draws)


@pytest.mark.parametrize(("n", "draws"), [(20, 400), (100, 400), (879, 100), (5628, 20)])
@pytest.mark.parametrize("skew", [-1, 1])
def test_mean_of_a_skewed_population(n, draws, skew):
    rng = np.random.default_rng(n)
    bounds = [bootstrap_mean(skew * (rng.exponential(size=n) - 1), seed=i) for i in range(draws)]
    assert error_rate(bounds, 0.0) <= allowed(draws)
    assert np.median([b.upper(0.05) for b in bounds]) <= 2.5 / math.sqrt(n)  # and the bound is of use


def spearman_study(n, rng, seed):
    label = rng.normal(size=n)
    original = 0.85 * label + math.sqrt(1 - 0.85**2) * rng.normal(size=n)
    candidate = original + 0.25 * rng.normal(size=n)
    return bootstrap_contrast(spearman_drop, np.column_stack([original, label]), np.column_stack([candidate, label]), seed=seed)


SPEARMAN_DROP = 6 / math.pi * (math.asin(0.85 / 2) - math.asin(0.85 / 2 / math.sqrt(1.0625)))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "draws"), [(100, 200), (879, 60), (5628, 20)])
def test_spearman_at_the_limit(n, draws):
    rng = np.random.default_rng(n)
    bounds = [spearman_study(n, rng, i) for i in range(draws)]
    assert error_rate(bounds, SPEARMAN_DROP) <= allowed(draws)


def test_spearman_bounds_bracket_and_agree_with_p():
    study = spearman_study(200, np.random.default_rng(1), 0)
    assert study.lower(0.05) < study.point < study.upper(0.05)
    assert study.upper(0.05) < study.upper(0.0167)
    assert study.p_value(study.upper(0.02)) == pytest.approx(0.02, rel=0.1)
    assert study.p_value(study.point - 0.01) == 1.0
    assert study.p_value(10.0) < 0.002  # 2,000 resamples know no smaller one


def test_same_seed_same_bound():
    rows = np.random.default_rng(0).normal(size=(60, 2))
    bounds = [bootstrap_contrast(spearman_drop, rows, rows[::-1], seed=s).upper(0.05) for s in (3, 3, 4)]
    assert bounds[0] == bounds[1] != bounds[2]


def test_undefined_resamples_widen_the_bounds():
    original, candidate = np.zeros((60, 1)), np.random.default_rng(0).normal(size=(60, 1))

    def fragile(one, other):
        return math.nan if other.max() < candidate.max() else float((one - other).mean())

    study = bootstrap_contrast(fragile, original, candidate)
    assert 600 < study.undefined < 900  # a resample misses the one unit with probability 1/e
    assert study.upper(0.05) == math.inf
    assert study.p_value(1e9) == 1.0


def test_identical_units_give_a_bound_that_shrinks_with_n():
    def bound(n):
        label = np.random.default_rng(n).normal(size=n)
        rows = np.column_stack([label + 0.3 * np.random.default_rng(n + 1).normal(size=n), label])
        return bootstrap_contrast(spearman_drop, rows, rows, resamples=50).upper(0.05)

    assert 0.1 > bound(100) > bound(1000) > 0
    assert bound(1000) < 0.02


def test_resampling_keeps_pairs_together():
    original = 1000 * np.random.default_rng(0).normal(size=(200, 1))
    study = bootstrap_contrast(lambda one, other: float((one - other).mean()), original, original - 0.25)
    assert study.upper(0.05) == pytest.approx(0.25)
    assert study.lower(0.05) == pytest.approx(0.25)
