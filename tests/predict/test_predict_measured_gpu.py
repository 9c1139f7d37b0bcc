"""Rates that a calibration measured: what is fitted to kernels of known law, and what a network then takes."""

import math
from dataclasses import replace

import numpy as np
import pytest

from dovetail.core.device import Device
from dovetail.core.gpu import Gpu, GpuCalibration, GpuProbe, GpuRow
from dovetail.core.prediction import Binds
from dovetail.core.workload import Op, Workload
from dovetail.devices.catalogue import catalogue
from dovetail.devices.gpu_device import measured_device
from dovetail.predict.measured_gpu import LEAST_SPREAD, MeasuredGpu
from dovetail.predict.op_table import op_table
from dovetail.predict.predict import predict
from dovetail.predict.setting import Setting

PEAK, BANDWIDTH, RAMP_S, LAUNCH_S = 6e14, 3e12, 4e-6, 2.5e-6
DEPTHWISE, STREAM = 0.05, 0.8


def row(kind: str, dtype: str, sizes: tuple[int, ...], flop: float, moved: float, power_w: float | None = None) -> GpuRow:
    """A kernel of a part that keeps to the roofline exactly."""
    share = {"depthwise": DEPTHWISE}.get(kind, 1.0)
    computing = flop / (PEAK * share) + RAMP_S if kind in ("gemm", "depthwise") else 0.0
    time_s = max(computing, moved / (BANDWIDTH * (1.0 if kind == "triad" else STREAM)), LAUNCH_S)
    probe = GpuProbe(kind=kind, dtype=dtype, sizes=sizes)
    return GpuRow(probe=probe, time_s=time_s, flop=flop, bytes=moved, power_w=power_w)


@pytest.fixture
def calibration() -> GpuCalibration:
    gemms = [row("gemm", "fp16", (n, n, n), 2.0 * n**3, 6.0 * n * n) for n in (256, 512, 1024, 2048, 4096)]
    gemms.append(row("gemm", "fp16", (16384,) * 3, 2.0 * 16384**3, 6.0 * 16384**2, power_w=650.0))
    depthwise = [row("depthwise", "fp16", (32, c, 56, c, 3, 1, c), f, f / 90) for c, f in ((64, 4e9), (144, 9e9), (576, 4e10))]
    streams = [row("copy", "fp16", (n,), 0.0, 4.0 * n) for n in (1 << 16, 1 << 24, 1 << 26)]
    streams.append(row("triad", "fp16", (1 << 27,), 0.0, 6.0 * 2**27, power_w=450.0))
    launches = [row("launch", "fp32", (1,), 0.0, 0.0)]
    call = GpuRow(probe=GpuProbe(kind="call", dtype="fp32", sizes=(1,)), time_s=12e-6, flop=0.0, bytes=0.0)
    gpu = Gpu(index=0, name="NVIDIA H100 80GB HBM3", memory_bytes=8.5e10, power_limit_w=600.0)
    return GpuCalibration(
        gpu=gpu, device="cuda:0", torch="2.9", date="2026-01-02T03:04:05", idle_power_w=70.0,
        rows=(*gemms, *depthwise, *streams, *launches, call),
    )  # fmt: skip


@pytest.fixture
def device(calibration: GpuCalibration) -> Device:
    return measured_device(calibration, catalogue())


def network(products: int, n: int) -> Workload:
    """Square products one behind the other."""
    ops = tuple(
        Op(
            name=f"p{i}", kind="MatMul", flop=2.0 * n**3, weight_bytes=4.0 * n * n, input_bytes=4.0 * n * n,
            output_bytes=4.0 * n * n, params=n * n, dtype="float32", inputs=(f"t{i}",), outputs=(f"t{i + 1}",),
            output_shapes=((1, n, n),), attributes={"matrix_flop": str(2.0 * n**3)},
        )
        for i in range(products)
    )  # fmt: skip
    return Workload(
        model_hash="x", input_shapes={"t0": (1, n, n)}, assumed_dims={}, ops=ops, peak_activation_bytes=8.0 * n * n,
        uncounted={},
    )  # fmt: skip


def test_measured_rates_replace_the_data_sheet_s(calibration: GpuCalibration, device: Device) -> None:
    assert device.name == "H100 SXM 80GB"
    assert set(device.peak_flop_per_s) == {"fp16"}
    peak = device.peak_flop_per_s["fp16"]
    assert peak.value == pytest.approx(PEAK, rel=1e-3) and peak.source.kind == "measured" and peak.source.date == "2026-01-02"
    assert device.bandwidth_bytes_per_s and device.bandwidth_bytes_per_s.value == pytest.approx(BANDWIDTH)
    assert device.capacity_bytes and device.capacity_bytes.value == 8.5e10
    assert device.power_w and device.power_w.value == 600.0
    assert device.idle_power_w and device.idle_power_w.value == 70.0
    assert device.launch_s and device.launch_s.value == LAUNCH_S


def test_a_part_that_is_not_in_the_catalogue_stands_alone(calibration: GpuCalibration) -> None:
    device = measured_device(replace(calibration, gpu=Gpu(index=0, name="NVIDIA X1")), catalogue())
    assert (device.name, device.vendor, device.power_w, device.price_usd) == ("NVIDIA X1", "NVIDIA", None, None)


def test_the_law_of_the_kernels_is_found_again(calibration: GpuCalibration, device: Device) -> None:
    found = MeasuredGpu(calibration, device).shares
    assert found.product == pytest.approx(1.0, rel=0.02)
    assert found.depthwise == pytest.approx(DEPTHWISE, rel=0.05)
    assert found.bandwidth == pytest.approx(STREAM, rel=0.12)
    assert found.ramp_s == pytest.approx(RAMP_S, rel=0.05)
    assert 0.9 < found.low <= 1.0 <= found.high < 1.3


def test_large_products_take_their_operations_over_the_measured_peak(calibration: GpuCalibration, device: Device) -> None:
    table = op_table(network(3, 4096))
    resident = replace(device, host_link=None)  # these inputs would take longer to arrive than the products take
    found = predict(table, resident, Setting(precision="fp16"), [MeasuredGpu(calibration, device)])
    expected = 3 * (2.0 * 4096**3 / PEAK + RAMP_S) + (12e-6 - LAUNCH_S)
    assert found.latency_s is not None and found.latency_s.value == pytest.approx(expected, rel=0.03)
    assert found.latency_s.low <= LEAST_SPREAD[0] * found.latency_s.value * (1 + 1e-9)
    assert found.binds is Binds.COMPUTE and "measured" in found.latency_s.source.ref
    assert found.energy_j is not None and 70 * expected < found.energy_j.value < 650 * expected


def test_many_small_operators_wait_for_their_launches(calibration: GpuCalibration, device: Device) -> None:
    rows = tuple(replace(r, time_s=9e-6) if r.probe.kind == "launch" else r for r in calibration.rows)
    slow = replace(calibration, rows=rows, idle_power_w=None)
    found = predict(op_table(network(100, 64)), device, Setting(precision="fp16"), [MeasuredGpu(slow, device)])
    assert found.latency_s is not None and found.latency_s.value == pytest.approx(100 * 9e-6 + 3e-6, rel=1e-6)
    assert found.binds is Binds.OVERHEAD and found.energy_j is not None  # by the power limit and the idle power


def test_a_type_that_was_not_measured_is_not_told(calibration: GpuCalibration, device: Device) -> None:
    found = predict(op_table(network(1, 64)), device, Setting(precision="fp64"), [MeasuredGpu(calibration, device)])
    assert found.latency_s is None and any("fp64" in note for note in found.notes)


def test_nothing_measured_gives_wide_defaults(device: Device) -> None:
    empty = GpuCalibration(gpu=Gpu(index=0, name="X"), device="cuda:0", torch="2.9", date="2026", rows=())
    shares = MeasuredGpu(empty, device).shares
    assert all(math.isfinite(getattr(shares, name)) for name in ("product", "depthwise", "bandwidth", "ramp_s"))
    assert np.isfinite(shares.low) and shares.low < 1 < shares.high
