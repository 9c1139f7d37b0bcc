"""Predictions from data sheets: laws that hold for any device, and what is said where something is not known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from dovetail.core.constraint import Answer
from dovetail.core.device import Device, Fact, Kind, Link, Memory
from dovetail.core.errors import InputError
from dovetail.core.prediction import Binds
from dovetail.core.serial import encode
from dovetail.core.source import Source, SourceKind
from dovetail.core.workload import Op, Workload
from dovetail.devices.catalogue import device as named
from dovetail.predict.op_table import OpTable, op_table
from dovetail.predict.predict import predict, predict_many
from dovetail.predict.setting import Band, Setting, Told

SHEET = Source(kind=SourceKind.USER, ref="this test")


def fact(value: float) -> Fact:
    return Fact(value=value, source=SHEET)


def gpu(**changes: object) -> Device:
    plain = Device(
        name="card",
        vendor="NVIDIA",
        kind=Kind.GPU,
        peak_flop_per_s={"fp32": fact(2e13), "fp16": fact(1e14)},
        memory=(Memory(name="GDDR", capacity_bytes=fact(2.4e10), bandwidth_bytes_per_s=fact(9e11)),),
        power_w=fact(350),
    )
    return replace(plain, **changes)


def product(m: int, k: int, n: int, name: str = "mm") -> Op:
    return Op(
        name=name,
        kind="MatMul",
        flop=2.0 * m * k * n,
        weight_bytes=4.0 * k * n,
        input_bytes=4.0 * m * k,
        output_bytes=4.0 * m * n,
        params=k * n,
        dtype="float32",
        inputs=(f"{name}_in",),
        outputs=(f"{name}_out",),
        output_shapes=((m, n),),
        attributes={"matrix_flop": str(2 * m * k * n)},
    )


def work(*ops: Op, batch: int = 1, peak: float | None = 1e6) -> OpTable:
    return op_table(
        Workload(
            model_hash="0" * 16,
            input_shapes={"x": (batch, 64)},
            assumed_dims={},
            ops=ops,
            peak_activation_bytes=peak,
            uncounted={},
        )
    )


def seconds(table: OpTable, device: Device, setting: Setting | None = None) -> float:
    found = predict(table, device, setting).latency_s
    assert found is not None
    return found.value


def test_more_operations_never_take_less_time() -> None:
    times = [seconds(work(product(m, 1024, 1024)), gpu()) for m in (1, 8, 64, 512, 4096, 32768)]
    assert times == sorted(times) and times[-1] > 100 * times[0]


def test_more_bandwidth_or_peak_never_takes_more_time() -> None:
    table = work(product(1, 4096, 4096), product(4096, 4096, 4096, "big"))
    bandwidths = (1e10, 1e11, 1e12, 1e13)
    memories = [Memory(name="M", capacity_bytes=fact(1e12), bandwidth_bytes_per_s=fact(rate)) for rate in bandwidths]
    by_bandwidth = [seconds(table, gpu(memory=(memory,))) for memory in memories]
    by_peak = [seconds(table, gpu(peak_flop_per_s={"fp32": fact(p)})) for p in (1e12, 1e13, 1e14)]
    assert by_bandwidth == sorted(by_bandwidth, reverse=True) and by_peak == sorted(by_peak, reverse=True)


def test_what_binds_follows_the_intensity() -> None:
    small, vector, square = product(8, 8, 8), product(1, 16384, 16384), product(8192, 8192, 8192)
    assert [predict(work(op), gpu()).binds for op in (small, vector, square)] == [
        Binds.OVERHEAD, Binds.BANDWIDTH, Binds.COMPUTE,
    ]  # fmt: skip


def test_each_operator_has_a_time_and_a_limit() -> None:
    found = predict(work(product(1, 16384, 16384, "a"), product(8192, 8192, 8192, "b")), gpu())
    assert found.per_op is not None and found.latency_s is not None
    assert found.per_op.names == ("a", "b") and found.per_op.binds == (Binds.BANDWIDTH, Binds.COMPUTE)
    assert sum(found.per_op.time_s) == pytest.approx(found.latency_s.value)
    assert json.loads(json.dumps(encode(found)))["per_op"]["binds"] == ["memory bandwidth", "compute"]


def test_a_greater_batch_spreads_the_overhead() -> None:
    table = work(*(product(1, 256, 256, f"layer{i}") for i in range(50)))
    rates = [predict(table, gpu(), Setting(batch=batch)).throughput_per_s for batch in (1, 4, 16, 64)]
    values = [rate.value for rate in rates if rate]
    assert values == sorted(values) and values[-1] > 20 * values[0]


def test_a_large_product_lies_in_the_interval_of_what_was_measured() -> None:
    # stas00/ml-engineering compute/accelerator/README.md: 794.5 TFLOP/s in bf16 on H100 SXM, 271.2 on A100 SXM.
    for name, tflops in (("H100 SXM", 794.5), ("A100 SXM 80GB", 271.2)):
        found = predict(work(product(8192, 8192, 8192)), named(name), Setting(precision="bf16"), ()).latency_s
        assert found is not None and found.low < 2 * 8192**3 / (tflops * 1e12) < found.high


def test_an_unknown_peak_gives_no_time_and_the_reason() -> None:
    found = predict(work(product(64, 64, 64)), gpu(peak_flop_per_s={}))
    assert found.latency_s is found.throughput_per_s is found.energy_j is found.binds is None
    assert any("none of its peaks is known" in note for note in found.notes) and found.memory_bytes is not None


def test_a_missing_type_runs_in_the_next_wider_one_and_says_so() -> None:
    table = work(product(4096, 4096, 4096))
    found = predict(table, gpu(), Setting(precision="int8"))
    assert found.precision == "fp16" and "computed in fp16" in found.notes[0]
    assert seconds(table, gpu(), Setting(precision="int8")) == seconds(table, gpu(), Setting(precision="fp16"))
    narrow = gpu(peak_flop_per_s={"int8": fact(1e14)})
    assert predict(table, narrow, Setting(precision="fp32")).latency_s is None
    assert "brought to int8" in predict(table, narrow).notes[0]


def test_unknown_bandwidth_is_said_and_not_taken_as_zero() -> None:
    found = predict(work(product(1, 4096, 4096)), gpu(memory=()))
    assert found.latency_s is not None and any("bandwidth is not known" in note for note in found.notes)
    assert found.fits is Answer.UNKNOWN and "unknown size" in found.fits_reason


def test_seven_billion_weights_fit_a_card_and_never_a_microcontroller() -> None:
    table = work(*(product(1, 8192, 8192, f"layer{i}") for i in range(104)))
    assert table.params == pytest.approx(7e9, rel=0.01)
    assert predict(table, gpu(), Setting(precision="fp16")).fits is Answer.YES
    for name in ("STM32H7A3", "STM32U575", "STM32L4R5", "RA8D1"):
        found = predict(table, named(name))
        assert found.fits is Answer.NO and found.binds is Binds.MEMORY and found.latency_s is None
        assert "flash" in found.fits_reason


def test_memory_that_is_too_small_binds_and_no_time_is_told() -> None:
    found = predict(work(product(1, 65536, 65536), product(1, 65536, 65536, "more")), gpu())
    assert found.fits is Answer.NO and found.binds is Binds.MEMORY and found.throughput_per_s is None
    assert found.fits_reason.endswith("does not fit in 24 GB")


def test_energy_is_at_most_the_maximum_power_over_the_time() -> None:
    for device in (gpu(), gpu(idle_power_w=fact(349.0)), gpu(idle_power_w=fact(20.0))):
        for op in (product(8, 8, 8), product(8192, 8192, 8192)):
            found = predict(work(op), device)
            assert found.energy_j is not None and found.latency_s is not None and device.power_w is not None
            assert found.energy_j.value <= device.power_w.value * found.latency_s.value
            assert found.energy_j.high <= device.power_w.value * found.latency_s.high


def test_an_unknown_idle_power_widens_the_energy() -> None:
    known, unknown = (predict(work(product(8, 8, 8)), d).energy_j for d in (gpu(idle_power_w=fact(60.0)), gpu()))
    assert known is not None and unknown is not None and unknown.high / unknown.low > known.high / known.low
    assert predict(work(product(8, 8, 8)), gpu(power_w=None)).energy_j is None


def test_rent_comes_before_the_purchase_price_which_says_over_what_life() -> None:
    table = work(product(4096, 4096, 4096))
    rented = predict(table, gpu(price_usd_per_h=fact(3.6), price_usd=fact(1e4)))
    assert rented.cost_usd_per_million is not None and rented.throughput_per_s is not None
    assert rented.cost_usd_per_million.value == pytest.approx(1e6 * 0.001 / rented.throughput_per_s.value)
    bought = predict(table, gpu(price_usd=fact(1e4)), Setting(life_h=8760))
    assert bought.cost_usd_per_million is not None and any("8,760 h" in note for note in bought.notes)
    assert predict(table, gpu()).cost_usd_per_million is None


def test_a_slow_link_or_a_slow_pipeline_binds() -> None:
    table = work(product(1, 64, 64))
    slow = gpu(host_link=Link(name="USB", pair_bytes_per_s=fact(1e4)))
    found = predict(table, slow)
    assert found.binds is Binds.LINK and found.throughput_per_s is not None
    assert found.throughput_per_s.value == pytest.approx(1e4 / 256)
    fed = predict(table, gpu(), Setting(input_per_s=100.0))
    assert fed.binds is Binds.INPUT and fed.throughput_per_s is not None and fed.throughput_per_s.value == pytest.approx(100)


def test_threads_of_a_processor_share_its_peak() -> None:
    cpu = gpu(kind=Kind.CPU, vendor="Intel", cores=fact(8.0), peak_flop_per_s={"fp32": fact(1e12)})
    table = work(product(1024, 1024, 1024))
    one, four, many = (seconds(table, cpu, Setting(threads=n)) for n in (1, 4, 8))
    assert one > 3.5 * four > 6 * many and seconds(table, cpu, Setting(threads=64)) == many


def test_many_devices_are_told_as_each_alone() -> None:
    table, devices = work(product(512, 512, 512)), [gpu(), named("Hailo-8"), named("KV260"), named("STM32H7A3"), gpu(memory=())]
    found = predict_many(table, devices)
    for i, device in enumerate(devices):
        alone, among = predict(table, device), found.at(i)
        assert replace(alone, per_op=None) == among


def test_a_specialist_replaces_the_roofline() -> None:
    class Knows:
        def knows(self, device: Device) -> bool:
            return device.vendor == "NVIDIA"

        def tell(self, table: OpTable, devices: object, setting: Setting) -> list[Told]:
            seconds = Band(value=1e-3, low=5e-4, high=2e-3)
            return [Told(precision="fp16", seconds=seconds, latency_s=seconds, binds=Binds.COMPUTE, source=SHEET)]

    found = predict(work(product(64, 64, 64)), gpu(), specialists=(Knows(),))
    assert found.latency_s is not None and (found.latency_s.value, found.latency_s.source) == (1e-3, SHEET)
    assert found.throughput_per_s is not None and found.throughput_per_s.high == pytest.approx(2000)
    assert found.per_op is None and found.precision == "fp16"


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"precision": "fp12"}, {"threads": -1}, {"input_per_s": float("nan")}])
def test_an_impossible_setting_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Setting(**wrong)  # type: ignore[arg-type]


def test_unknown_activations_leave_the_memory_unknown_unless_weights_decide() -> None:
    assert predict(work(product(8, 8, 8), peak=None), gpu()).fits is Answer.UNKNOWN
    assert predict(work(product(1, 131072, 131072), peak=None), gpu()).fits is Answer.NO
    assert np.isnan(predict_many(work(product(8, 8, 8), peak=None), [gpu()]).need.value).all()


def test_a_range_that_is_assumed_states_no_coverage() -> None:
    table = work(product(1024, 1024, 1024))
    nvidia, other = predict(table, gpu()), predict(table, gpu(vendor="AMD"))
    assert nvidia.latency_s is not None and nvidia.latency_s.coverage == 0.9
    assert other.latency_s is not None and other.latency_s.coverage is None
    assert "no rows of other GPUs" in other.latency_s.source.ref
    assert other.throughput_per_s is not None and other.throughput_per_s.coverage is None
    for found in (nvidia.energy_j, nvidia.memory_bytes, other.energy_j):
        assert found is not None and found.coverage is None
    assert nvidia.energy_j is not None and nvidia.energy_j.source.kind is SourceKind.ASSUMED


def test_more_weights_than_any_that_ran_on_a_chip_cannot_be_told_to_fit() -> None:
    small, large = work(product(1, 1024, 1024)), work(*(product(1, 16384, 16384, f"l{i}") for i in range(40)))
    assert predict(small, named("Hailo-8")).fits is Answer.YES
    found = predict(large, named("Hailo-8"))
    assert found.fits is Answer.UNKNOWN and any("more weights than any network" in note for note in found.notes)


def test_a_microcontroller_is_told_in_the_types_that_were_measured() -> None:
    table = work(product(1, 64, 64))
    for precision, told in (("int8", True), ("fp32", True), ("bf16", False), ("int4", False)):
        found = predict(table, named("STM32H7A3"), Setting(precision=precision))
        assert (found.latency_s is not None and "tiny" in found.latency_s.source.ref) is told
    assert any("clock is not stated" in note for note in predict(table, named("RA8D1")).notes)
    assert not any("clock" in note for note in predict(table, named("STM32H7A3")).notes)
