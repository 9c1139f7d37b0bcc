"""Matrix products: what holds of any GPU, and products published elsewhere than those that were fitted."""

from dataclasses import replace

import numpy as np
import pytest

from dovetail.devices.catalogue import device
from dovetail.predict.fitted_file import parameters
from dovetail.predict.gemm.model import GemmModel
from dovetail.predict.gemm.on_device import on_device
from dovetail.predict.gemm.processors import processors
from dovetail.predict.gemm.shapes import ROLES, Gemms, Gpus
from dovetail.predict.gemm.tiles import TileModel

MODEL = GemmModel(parameters("gemm"))
DEVICES = ("A100 SXM 80GB", "H100 SXM 80GB", "A40", "L4", "H200 SXM 141GB", "Instinct MI300X")
BEST = [
    # Shapes and TFLOPS of stas00/ml-engineering, compute/accelerator/README.md: the best of thousands of shapes on each part.
    ("A100 SXM 80GB", 1024, 10240, 5120, 271.2),
    ("A100 PCIe 80GB", 2048, 5120, 6144, 252.9),
    ("H100 SXM 80GB", 2048, 2048, 13312, 794.5),
    ("B200 SXM", 1792, 16128, 3072, 1745.0),
    ("Instinct MI325X", 13312, 10240, 8192, 784.9),
]


def _random(count: int, role: str = "") -> Gemms:
    rng = np.random.default_rng(0)
    m, n, k = np.exp(rng.uniform(np.log(32), np.log(20_000), (3, count))).round()
    return Gemms(m=m, n=n, k=k, role=[role] * count)


def _on(name: str, count: int) -> Gpus:
    found = on_device(device(name), count)
    assert found is not None
    return found


@pytest.mark.parametrize("name", DEVICES)
def test_no_product_beats_the_peak_or_the_interval(name: str) -> None:
    gemms = _random(400)
    found = MODEL.predict(gemms, _on(name, 400))
    assert (found.seconds >= gemms.flop / _on(name, 400).peak_flop_per_s).all()
    assert (found.low_s <= found.seconds).all() and (found.seconds <= found.high_s).all()


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("axis", ["m", "n", "k"])
def test_twice_the_work_takes_at_least_as_long(name: str, axis: str) -> None:
    gemms = _random(400)
    twice = replace(gemms, **{axis: 2 * getattr(gemms, axis)})
    before, after = (MODEL.predict(some, _on(name, 400)).seconds for some in (gemms, twice))
    assert (after > 0.95 * before).all() and (after > before).mean() > 0.93


def test_the_tile_model_alone_never_gets_faster_with_more_tiles_or_a_longer_sum() -> None:
    tiles = TileModel.of_json(parameters("gemm")["tiles"])
    rows = np.arange(1.0, 4097.0)
    column = np.full(rows.size, 4096.0)
    seconds = tiles.log_seconds(Gemms(m=rows, n=column, k=column, role=[""] * rows.size), _on("A40", rows.size))
    assert (np.diff(seconds) > -0.005).all()
    deeper = tiles.log_seconds(Gemms(m=column, n=column, k=rows, role=[""] * rows.size), _on("A40", rows.size))
    assert (np.diff(deeper) > -0.005).all()


def test_a_wave_that_is_not_full_costs_nearly_a_full_one() -> None:
    # 108 multiprocessors: 27·4 tiles of 256·128 are one wave, four more rows of tiles begin a second one.
    m, n = np.array([27 * 256.0, 28 * 256.0]), np.full(2, 512.0)
    found = MODEL.predict(Gemms(m=m, n=n, k=np.full(2, 8192.0), role=["up"] * 2), _on("A100 SXM 80GB", 2)).seconds
    assert found[1] / found[0] > 1.2


def test_the_smallest_product_takes_a_launch_and_one_row_takes_the_weights() -> None:
    one = Gemms(m=np.array([1.0, 1.0]), n=np.array([64.0, 16384.0]), k=np.array([64.0, 16384.0]), role=["", ""])
    found = MODEL.predict(one, _on("A100 SXM 80GB", 2)).seconds
    assert 2e-6 < found[0] < 1e-5
    assert found[1] > 2 * 16384**2 / 2.04e12


@pytest.mark.parametrize(("name", "m", "n", "k", "tflops"), BEST)
def test_products_published_elsewhere(name: str, m: int, n: int, k: int, tflops: float) -> None:
    gemms = Gemms(m=np.array([float(m)]), n=np.array([float(n)]), k=np.array([float(k)]), role=[""])
    seconds = MODEL.predict(gemms, _on(name, 1)).seconds[0]
    # The best shape of a search is faster than a usual one.
    assert 0.95 < seconds / (2 * m * n * k / tflops / 1e12) < 1.2


def test_a_device_that_was_not_fitted_has_a_wider_interval() -> None:
    gemms = _random(200, "up")
    widths = [found.high_s / found.low_s for found in (MODEL.predict(gemms, _on(n, 200)) for n in ("A100 SXM 80GB", "A40"))]
    assert np.median(widths[1]) > np.median(widths[0])


def test_an_unknown_role_lies_between_the_known_ones() -> None:
    said = np.array([MODEL.predict(_random(50, role), _on("H100 SXM 80GB", 50)).seconds for role in ROLES])
    unsaid = MODEL.predict(_random(50), _on("H100 SXM 80GB", 50)).seconds
    assert (said.min(axis=0) <= unsaid * (1 + 1e-9)).all() and (unsaid <= said.max(axis=0) * (1 + 1e-9)).all()


def test_rows_are_predicted_one_by_one_as_together() -> None:
    names = ["A100 SXM 80GB", "A40", "H100 SXM 80GB"]
    gemms, single = _random(3), [_on(name, 1) for name in names]
    fields = ("peak_flop_per_s", "bandwidth_bytes_per_s", "processors", "reached")
    together = Gpus(name=names, **{f: np.concatenate([getattr(one, f) for one in single]) for f in fields})
    apart = [
        MODEL.predict(Gemms(m=gemms.m[i : i + 1], n=gemms.n[i : i + 1], k=gemms.k[i : i + 1], role=[""]), single[i]).seconds[0]
        for i in range(3)
    ]
    assert MODEL.predict(gemms, together).seconds == pytest.approx(apart)
    assert MODEL.predict(_random(0), _on("A40", 0)).seconds.shape == (0,)


def test_impossible_sizes_and_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Gemms(m=np.zeros(1), n=np.ones(1), k=np.ones(1), role=[""])
    with pytest.raises(ValueError, match="above zero"):
        replace(_on("A40", 1), bandwidth_bytes_per_s=np.array([-1.0]))
    assert on_device(device("Core i9-10940X"), 1) is None


def test_processors_come_from_the_longest_name_that_fits() -> None:
    names = ("A100 PCIe 40GB", "H100 PCIe 80GB", "H100 SXM 80GB", "A40")
    assert [processors(device(name)) for name in names] == [108, 114, 132, 84]
