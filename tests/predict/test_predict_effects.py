"""Offsets of groups: shrunk, additive, nothing for groups that were not seen."""

import numpy as np
import pytest

from dovetail.predict.effects import find_effects, shift

SPREAD = {"device": 0.1, "cell": 0.1}


def test_an_offset_is_shrunk_by_the_noise_of_what_it_rests_on():
    few = find_effects(np.full(1, 0.2), {"device": ["a"]}, {"device": 0.1}, 0.1)
    many = find_effects(np.full(100, 0.2), {"device": ["a"] * 100}, {"device": 0.1}, 0.1)
    assert few["device"]["a"] == pytest.approx(0.1)
    assert many["device"]["a"] == pytest.approx(0.2 * 100 / 101)


def test_what_all_cells_of_a_device_share_is_the_devices():
    cells = ["a1", "a2", "a3", "a4", "b1", "b2", "b3", "b4"] * 20
    devices = [cell[0] for cell in cells]
    residuals = np.where(np.array(devices) == "a", 0.1, -0.1)
    found = find_effects(residuals, {"device": devices, "cell": cells}, SPREAD, 0.1)
    assert found["device"]["a"] > 2 * abs(found["cell"]["a1"])
    assert np.allclose(shift(found, {"device": ["a", "b"], "cell": ["a1", "b1"]}), [0.1, -0.1], atol=0.01)


def test_an_unknown_group_has_no_offset():
    found = find_effects(np.full(4, 0.3), {"device": ["a"] * 4, "cell": ["a1"] * 4}, SPREAD, 0.1)
    assert shift(found, {"device": ["z"], "cell": ["z1"]})[0] == 0
    assert shift(found, {"device": ["a"], "cell": ["z1"]})[0] == found["device"]["a"]


def test_an_outlier_counts_as_the_most_that_is_believed():
    wild = find_effects(np.array([9.0, 0.0]), {"device": ["a", "b"]}, {"device": 0.1}, 0.1, most=0.5)
    assert wild["device"]["a"] == pytest.approx(0.25)
