"""Order statistics cover what they claim, and refuse what they cannot carry."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.measure.statistics import is_steady, min_samples, quantile_interval, supported_quantiles


@pytest.mark.parametrize(("quantile", "n"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3688), (0.05, 72)])
def test_sample_sizes_of_two_sided_95_percent(quantile, n):
    assert min_samples(quantile) == n
    samples = np.arange(n, dtype=float)
    assert quantile_interval(samples, quantile) is not None
    assert quantile_interval(samples[:-1], quantile) is None


def test_quantiles_that_a_sample_size_supports():
    assert supported_quantiles(5) == ()
    assert supported_quantiles(71) == (0.5, 0.9)
    assert supported_quantiles(72) == (0.5, 0.9, 0.95)
    assert supported_quantiles(3688) == (0.5, 0.9, 0.95, 0.99, 0.999)


@pytest.mark.parametrize("quantile", [0.0, 1.0, -0.1])
def test_impossible_quantiles_are_refused(quantile):
    with pytest.raises(ValueError, match="between 0 and 1"):
        min_samples(quantile)


@pytest.mark.parametrize(("quantile", "n"), [(0.5, 6), (0.5, 40), (0.95, 72), (0.95, 300), (0.99, 368)])
def test_quantile_interval_covers_whatever_the_distribution(quantile, n):
    rng = np.random.default_rng(3)
    truth = float(np.exp(3 * -np.log(1 - quantile)))  # quantile of exp(3·Exponential): a heavy upper tail
    draws = np.exp(3 * rng.exponential(size=(1500, n)))
    intervals = [quantile_interval(row, quantile) for row in draws]
    misses_below = np.mean([truth < i.low for i in intervals])
    misses_above = np.mean([truth > i.high for i in intervals])
    assert max(misses_below, misses_above) <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 1500)


@given(st.lists(st.floats(1e-6, 10.0), min_size=6, max_size=60))
def test_median_interval_holds_the_median_and_lies_in_the_sample(samples):
    interval = quantile_interval(samples, 0.5)
    assert min(samples) <= interval.low <= interval.point <= interval.high <= max(samples)


def test_warm_up_is_over_when_blocks_agree():
    falling = [2.0, 1.6, 1.35, 1.2, 1.1, 1.05]
    assert not is_steady(falling)
    assert not is_steady([1.0] * 5)
    assert is_steady([*falling, 1.01, 1.0, 1.01, 1.0, 1.005, 1.0])
