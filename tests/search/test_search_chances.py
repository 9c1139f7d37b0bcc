"""The chance that fresh samples certify a candidate."""

import pytest
from search_samples import drop

from dovetail.search.chances import certifiable, certification_chance


def test_the_chance_grows_with_data_and_margin_and_falls_with_the_drop():
    base = certification_chance(drop(0.004, 0.004), 0.01, 2000)
    assert certification_chance(drop(0.004, 0.004), 0.01, 8000) > base
    assert certification_chance(drop(0.004, 0.004), 0.02, 2000) > base
    assert certification_chance(drop(0.008, 0.004), 0.01, 2000) < base
    assert 0 <= base <= 1


def test_the_chance_at_its_ends():
    assert certification_chance(drop(0.0, 0.0), 0.01, 1000) == pytest.approx(1.0)
    assert certification_chance(drop(0.05, 0.0), 0.01, 1000) == pytest.approx(0.0)
    assert certification_chance(drop(0.0), 0.01, 0) == 0.0


def test_what_is_certifiable_needs_units_and_a_margin_wider_than_the_error():
    assert certifiable(drop(0.0, 0.002, 2000), 0.01, 2000)
    assert not certifiable(drop(0.0, 0.02, 2000), 0.01, 2000)
    assert not certifiable(drop(0.0), 0.01, 0)
