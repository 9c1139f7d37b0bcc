"""The measurements of a GPU, run on the processor: the same code, other device."""

import pytest

from dovetail.core.gpu import GpuProbe
from dovetail.devices.gpu_plan import CONVOLUTIONS, plan
from dovetail.devices.gpu_timer import LEAST_SAMPLES, HostTimer

pytest.importorskip("torch")

from dovetail.devices.gpu_probes import identity, measure

pytestmark = pytest.mark.torch


def probe(kind: str, dtype: str, *sizes: int) -> GpuProbe:
    return GpuProbe(kind=kind, dtype=dtype, sizes=sizes, seconds=0.005)


def test_every_measurement_appears_once_and_the_decisive_ones_first() -> None:
    whole = plan()
    assert len({one.key for one in whole}) == len(whole)
    assert {one.kind for one in whole} == {
        "gemm", "conv", "depthwise", "reduce", "copy", "triad", "launch", "call", "to_device", "to_host",
    }  # fmt: skip
    assert [one.kind for one in whole[:3]] == ["launch", "call", "gemm"]
    # A warm-up as long as the measurement itself, and about a second for large fp32 and fp64 products: within the budget.
    assert 2 * sum(one.seconds for one in whole) < 60


def test_a_smaller_plan_has_the_same_measurements() -> None:
    assert {one.kind for one in plan(16)} == {one.kind for one in plan()}
    assert max(max(one.sizes) for one in plan(16) if one.kind == "gemm") == 512
    assert not any(one.power for one in plan(16))


@pytest.mark.parametrize(
    ("kind", "dtype", "sizes", "flop", "moved"),
    [
        ("gemm", "fp32", (32, 48, 64), 2 * 32 * 48 * 64, 4 * (32 * 64 + 64 * 48 + 32 * 48)),
        ("gemm", "bf16", (32, 48, 64), 2 * 32 * 48 * 64, 2 * (32 * 64 + 64 * 48 + 32 * 48)),
        ("gemm", "int8", (32, 48, 64), 2 * 32 * 48 * 64, 32 * 64 + 64 * 48 + 4 * 32 * 48),
        ("conv", "fp32", (2, 8, 14, 16, 3, 1, 1), 2 * 2 * 16 * 14 * 14 * 8 * 9, 4 * (2 * 8 * 196 + 16 * 8 * 9 + 2 * 16 * 196)),
        ("conv", "fp32", (1, 3, 8, 4, 7, 2, 1), 2 * 4 * 4 * 4 * 3 * 49, 4 * (3 * 64 + 4 * 3 * 49 + 4 * 16)),
        ("depthwise", "fp32", (2, 8, 14, 8, 3, 1, 8), 2 * 2 * 8 * 196 * 9, 4 * (2 * 2 * 8 * 196 + 8 * 9)),
        ("copy", "fp16", (1000,), 0, 4000),
        ("triad", "fp32", (1000,), 2000, 12000),
        ("reduce", "fp32", (16, 32), 5 * 512, 8 * 512),
        ("launch", "fp32", (1,), 0, 0),
        ("call", "fp32", (1,), 0, 0),
    ],
)
def test_operations_and_bytes_of_each_kind(kind: str, dtype: str, sizes: tuple[int, ...], flop: float, moved: float) -> None:
    row = measure(probe(kind, dtype, *sizes), "cpu")
    assert row is not None and row.time_s > 0
    assert (row.flop, row.bytes) == (flop, moved)


def test_the_processor_has_no_link_to_the_host() -> None:
    assert measure(probe("to_device", "fp32", 100), "cpu") is None


def test_layers_keep_their_shapes_when_they_are_made_smaller() -> None:
    rows = [measure(one, "cpu") for one in plan(32) if one.kind in ("conv", "depthwise") and one.dtype == "fp32"]
    assert len(rows) >= len(CONVOLUTIONS) and all(row and row.flop > 0 for row in rows)


def test_a_device_that_torch_has_not_is_refused() -> None:
    assert identity("cpu")["name"] == "cpu"
    with pytest.raises((RuntimeError, AssertionError)):
        identity("cuda:77")


def test_the_timer_calls_as_often_as_a_sample_needs() -> None:
    calls = 0

    def action() -> None:
        nonlocal calls
        calls += 1

    assert HostTimer().typical_s(action, 0.001) > 0
    assert calls > LEAST_SAMPLES
