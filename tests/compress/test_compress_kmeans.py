"""k-means on a line is optimal."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.compress import kmeans
from dovetail.core.protocols import Array

NUMBERS = st.floats(-100, 100, width=32)


def cost(values: Array, weights: Array, centers: Array) -> float:
    return float(np.sum(weights * (values - centers[kmeans.nearest(values, centers)]) ** 2))


def brute_force(values: Array, weights: Array, k: int) -> float:
    """Least cost over all ways to cut the sorted values into at most ``k`` runs."""
    order = np.argsort(values, kind="stable")
    values, weights = values[order], weights[order]
    best = np.inf
    for cuts in combinations(range(1, len(values)), min(k, len(values)) - 1):
        parts = np.split(np.arange(len(values)), cuts)
        means = [np.average(values[p], weights=weights[p]) for p in parts]
        best = min(best, sum(float(np.sum(weights[p] * (values[p] - m) ** 2)) for p, m in zip(parts, means, strict=True)))
    return best


@given(st.lists(st.tuples(NUMBERS, st.floats(0.1, 10)), min_size=1, max_size=9), st.integers(1, 5))
@settings(deadline=None, max_examples=150)
def test_no_other_partition_is_better(pairs: list[tuple[float, float]], k: int) -> None:
    values, weights = (np.array(column, np.float64) for column in zip(*pairs, strict=True))
    centers = kmeans.codebook(values, k, weights)
    assert len(centers) <= k and (np.diff(centers) > 0).all()
    assert cost(values, weights, centers) == pytest.approx(brute_force(values, weights, k), rel=1e-6, abs=1e-6)


def test_more_values_never_cost_more() -> None:
    values = np.random.default_rng(0).standard_t(4, 3000)
    costs = [cost(values, np.ones(3000), kmeans.codebook(values, k)) for k in (1, 2, 3, 5, 8, 16, 64)]
    assert costs == sorted(costs, reverse=True)


def test_few_different_values_stay_as_they_are() -> None:
    values = np.array([[3.0, -1.0], [3.0, 0.5]])
    np.testing.assert_array_equal(kmeans.codebook(values, 3), [-1.0, 0.5, 3.0])


def test_values_that_do_not_matter_do_not_move_the_centers() -> None:
    values = np.concatenate([np.linspace(0, 1, 50), [100.0]])
    weights = np.concatenate([np.ones(50), [0.0]])
    assert kmeans.codebook(values, 2, weights).max() < 1.1
    assert len(kmeans.codebook(values, 2, np.zeros(51))) == 2


def test_a_histogram_of_many_values_comes_close_to_the_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=20_000)
    exact = cost(values, np.ones(20_000), kmeans.codebook(values, 16))
    monkeypatch.setattr(kmeans, "EXACT_WORK", 100_000)
    assert exact <= cost(values, np.ones(20_000), kmeans.codebook(values, 16)) <= exact * 1.001


def test_sixteen_values_for_a_normal_distribution_reach_its_known_distortion() -> None:
    values = np.random.default_rng(0).normal(size=30_000)
    distortion = cost(values, np.ones(30_000), kmeans.codebook(values, 16)) / 30_000
    assert distortion == pytest.approx(0.009497, rel=0.05)  # Max, "Quantizing for minimum distortion", 1960, table I
