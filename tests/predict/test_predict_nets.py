"""Networks in PyTorch: what holds of any network, and that the sums of an analysed model are those of a traced one."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from dovetail.devices.catalogue import device
from dovetail.predict.clock import attainable_clock
from dovetail.predict.fitted_file import parameters
from dovetail.predict.nets.model import NetModel
from dovetail.predict.nets.on_device import on_device
from dovetail.predict.nets.quantities import FIXED, QUANTITIES, Counted, summed
from dovetail.predict.nets.setting import Setting

MODEL = NetModel(parameters("vision"))
RESNET_18 = {
    # Sums over the operators of torchvision's resnet18 at 224 x 224, one image, as traced through PyTorch.
    "flop_conv": 3.589e9, "flop_pw": 3.85e7, "flop_mm": 1.02e6, "moved_conv": 4.14e6, "moved_pw": 5.27e5, "moved_mm": 1.5e3,
    "moved_bn": 4.97e6, "moved_red": 1.23e6, "moved_ew": 6.87e6, "count_conv": 17, "count_pw": 3, "count_mm": 1, "count_bn": 20,
    "count_red": 2, "count_ew": 25, "flop_odd": 2.36e8, "flop_thin32": 2.36e8, "flop_thin128": 1.05e9, "roof_25": 1.45e8,
    "roof_100": 3.7e7, "roof_400": 1.26e7, "params": 1.17e7,
}  # fmt: skip
QUANTITY = np.array([[RESNET_18.get(name, 0.0) for name in QUANTITIES]])


@cache
def _on(name: str, **how: bool | str | float) -> Setting:
    found = on_device(device(name), **how)
    assert found is not None
    return found


def _seconds(setting: Setting, batch: float = 256, values: np.ndarray = QUANTITY) -> float:
    return float(MODEL.predict(values, np.array([batch]), np.array([224.0]), [setting]).seconds[0])


@pytest.mark.parametrize("name", ["GeForce RTX 4090", "A100 SXM 80GB", "L4"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_resnet_runs_as_fast_as_such_networks_do(name: str, compiled: bool) -> None:
    setting = _on(name, compiled=compiled)
    share = 3.6e9 / _seconds(setting) / setting.peak_flop_per_s
    assert 0.1 < share < 0.9


def test_the_interval_holds_the_value_and_is_wider_on_a_new_device() -> None:
    width = {}
    for name in ("GeForce RTX 4090", "A100 SXM 80GB"):
        found = MODEL.predict(QUANTITY, np.array([256.0]), np.array([224.0]), [_on(name)])
        assert found.low_s[0] < found.seconds[0] < found.high_s[0]
        width[name] = found.high_s[0] / found.low_s[0]
    assert width["A100 SXM 80GB"] > width["GeForce RTX 4090"]


@pytest.mark.parametrize("compiled", [False, True])
def test_twice_the_work_takes_at_least_half_again_as_long(compiled: bool) -> None:
    twice = np.where(FIXED, QUANTITY, 2 * QUANTITY)
    for name in ("GeForce RTX 5090", "H100 SXM 80GB"):
        assert _seconds(_on(name, compiled=compiled), values=twice) > 1.5 * _seconds(_on(name, compiled=compiled))


def test_training_takes_longer_than_inference_and_a_single_image_longer_than_one_of_many() -> None:
    setting = _on("GeForce RTX 3090", torch=1.12)
    assert _seconds(replace(setting, training=True)) > 1.8 * _seconds(setting)
    assert _seconds(setting, batch=1) >= _seconds(setting, batch=256)


def test_training_on_a_device_that_was_not_fitted_is_more_than_inference_there() -> None:
    setting = _on("A100 SXM 80GB")
    assert 1.8 < _seconds(replace(setting, training=True)) / _seconds(setting) < 6


def test_a_faster_device_of_the_same_way_is_faster() -> None:
    slow, fast = _on("A10"), _on("H100 SXM 80GB")
    assert _seconds(fast) < _seconds(slow) / 2


def test_rows_are_predicted_one_by_one_as_together() -> None:
    processor = _on("Core i9-10940X", precision="fp32", compiled=True)
    settings = [_on("GeForce RTX 4090"), _on("A100 SXM 80GB", compiled=True), processor]
    together = MODEL.predict(np.repeat(QUANTITY, 3, axis=0), np.full(3, 64.0), np.full(3, 224.0), settings)
    apart = [MODEL.predict(QUANTITY, np.array([64.0]), np.array([224.0]), [one]).seconds[0] for one in settings]
    assert together.seconds == pytest.approx(apart)


def test_a_power_limit_lowers_the_clock_by_the_cube_root() -> None:
    assert attainable_clock(device("GeForce RTX 4090")) == pytest.approx(1.0, abs=0.01)
    assert attainable_clock(device("RTX PRO 6000 Max-Q")) == pytest.approx((300 / (5.45 * 116)) ** (1 / 3), rel=1e-3)
    assert attainable_clock(device("A40")) == 1.0
    assert attainable_clock(device("Core i7-12700H")) == 1.0


def test_a_device_without_the_peak_it_needs_has_no_setting() -> None:
    assert on_device(device("Core i9-10940X")) is None


def test_sums_go_by_kind_and_channels() -> None:
    found = summed(
        [
            Counted(kind="conv", flop=1e6, read=100, written=200, channels=(3, 64)),
            Counted(kind="pw", flop=5e5, read=10, written=20, channels=(96, 192)),
            Counted(kind="dw", flop=1e3, read=7, written=7, channels=(1, 1)),
            Counted(kind="ew", read=5, written=5),
        ],
        params=42,
    )
    at = dict(zip(QUANTITIES, found.tolist(), strict=True))
    assert (at["flop_conv"], at["flop_odd"], at["flop_thin32"], at["flop_thin128"]) == (1e6, 1e6, 1e6, 5e5)
    assert (at["moved_ew"], at["count_dw"], at["params"]) == (10, 1, 42)
    assert at["roof_25"] == 1e6 / 25 + 5e5 / 25 and at["roof_400"] == max(1e6 / 400, 600) + max(5e5 / 400, 60)
