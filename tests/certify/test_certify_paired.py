"""Tango's limits: published examples, exact behaviour at the edges, and the true error rate by enumeration."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dovetail.certify.paired import PairedCounts, count_pairs, score_statistic


@pytest.mark.parametrize(
    ("b", "c", "n", "alpha", "limits"),
    [
        # Two-sided 95 % limits (90 % in the first), as printed by the sources.
        (0, 1, 44, 0.05, (-0.096, 0.037)),  # Tango 1998, Stat. Med. 17:891: disinfection of contact lenses
        (9, 3, 32, 0.025, (-0.027, 0.390)),  # Tango 1998
        (16, 8, 86, 0.025, (-0.020, 0.207)),  # Agresti & Min 2005, Stat. Med. 24:729
        (1, 7, 21, 0.025, (-0.517, -0.026)),  # Fagerland, Lydersen & Laake 2014, Stat. Med. 33:2850
        (25, 2, 102, 0.025, (0.139, 0.321)),  # Chang et al. 2024, J. Appl. Stat. 51:139
        (3, 1, 14, 0.025, (-0.1670, 0.4327)),  # Tang, Li & Tang 2010, Stat. Meth. Med. Res. 21:361
        (6, 16, 161, 0.025, (-0.1240, -0.0054)),  # R package contingencytables, Cavo et al. 2012
        (7, 0, 14, 0.025, (0.177034, 0.732008)),  # R package PropCIs, scoreci.mp
    ],
)
def test_published_examples(b, c, n, alpha, limits):
    counts = PairedCounts(b=b, c=c, n=n)
    digits = 3 if limits[0] == round(limits[0], 3) else 4 if limits[0] == round(limits[0], 4) else 6
    assert counts.lower(alpha, correction=0) == pytest.approx(limits[0], abs=0.6 * 10**-digits)
    assert counts.upper(alpha, correction=0) == pytest.approx(limits[1], abs=0.6 * 10**-digits)


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.05, 0.0167]))
def test_limits_bracket_the_difference_mirror_and_agree_with_p(n, first, share, alpha):
    b = int(first * n)
    c = int(share * (n - b))
    counts = PairedCounts(b=b, c=c, n=n)
    low, high = counts.lower(alpha), counts.upper(alpha)
    assert -1 <= low <= counts.point <= high <= 1
    assert low == -PairedCounts(b=c, c=b, n=n).upper(alpha)
    if 0 <= high < 1:
        assert counts.p_value(min(high + 1e-9, 1.0)) <= alpha * (1 + 1e-4)
        assert counts.p_value(high - 1e-9) >= alpha * (1 - 1e-4)


@pytest.mark.parametrize("n", [1, 2, 20, 300, 8000, 10**9])
def test_identical_outcomes_still_depend_on_n(n):
    counts = PairedCounts(b=0, c=0, n=n)
    assert counts.upper(0.05) >= 1 - 0.05 ** (1 / n)  # the rule of three, exactly
    assert counts.upper(0.05) <= min(3.3 / n, 1.0)
    assert counts.lower(0.05) == -counts.upper(0.05)


def test_all_discordant():
    assert PairedCounts(b=7, c=0, n=7).upper(0.05) == 1.0
    assert PairedCounts(b=0, c=7, n=7).upper(0.05) < -0.3
    assert PairedCounts(b=10**8, c=10**8, n=10**9).upper(0.05) == pytest.approx(1.645 * math.sqrt(0.2e-9), rel=1e-3)


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="fit their total"):
        PairedCounts(b=3, c=3, n=5)


def test_counting():
    assert count_pairs([1, 1, 0, 0, 1], [1, 0, 1, 0, 0]) == PairedCounts(b=2, c=1, n=5)


def certified_share(n, discordance, drop, margin, alpha, correction=0.3):
    """Exact probability that the margin is certified, by enumeration of all likely discordant counts."""
    lost, won = (discordance + drop) / 2, (discordance - drop) / 2
    b, c = np.meshgrid(*(np.arange(stats.binom.ppf(1e-9, n, p), stats.binom.isf(1e-9, n, p) + 1) for p in (lost, won)))
    probability = stats.binom.pmf(b, n, lost) * stats.binom.pmf(c, n - b, won / (1 - lost))
    certified = score_statistic(b, np.minimum(c, n - b), n, margin, correction=correction) <= stats.norm.ppf(alpha)
    return float(probability[certified].sum())


@pytest.mark.parametrize("alpha", [0.05, 0.0167])
@pytest.mark.parametrize("n", [20, 50, 200, 300, 1300, 5000, 8000])
def test_never_certifies_a_drop_at_the_limit_more_often_than_alpha(n, alpha):
    for margin in (0.002, 0.01, 0.02, 0.1, 0.2):
        for factor in (1.0001, 1.2, 2, 5):
            if margin * factor < 0.9:
                assert certified_share(n, margin * factor, margin, margin, alpha) <= alpha


def test_why_the_correction_is_needed():
    assert certified_share(300, 0.020002, 0.02, 0.02, 0.05, correction=0) > 0.059


def test_power_for_a_harmless_candidate():
    assert certified_share(1300, 0.02, 0.0, 0.01, 0.05) >= 0.77
    assert certified_share(5000, 0.02, 0.0, 0.01, 0.05) >= 0.999


@pytest.mark.parametrize(("n", "discordance"), [(200, 0.012), (1300, 0.02), (5000, 0.05), (8000, 0.1)])
def test_at_most_62_of_1000_draws_at_the_limit(n, discordance):
    rng = np.random.default_rng(n)
    outcomes = rng.multinomial(n, [(discordance + 0.01) / 2, (discordance - 0.01) / 2, 1 - discordance], size=1000)
    assert sum(PairedCounts(b=int(b), c=int(c), n=n).upper(0.05) <= 0.01 for b, c, _ in outcomes) <= 62
