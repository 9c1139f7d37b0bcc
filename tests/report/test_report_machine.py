"""What a probe found, in words: known values with their units, unknown ones with the reason."""

import io
import json

from rich.console import Console

from dovetail.core.calibration import Calibration
from dovetail.core.gpu import Gpu, GpuCalibration, GpuProbe, GpuRow
from dovetail.core.machine import Cache, Disk, Limits, Machine, NumaNode, Reading, Senses, Topology
from dovetail.devices.probe import environment
from dovetail.report.machine import render_machine, to_json


def shown(machine: Machine, calibration: Calibration | None = None) -> str:
    stream = io.StringIO()
    render_machine(machine, calibration, Console(file=stream, width=160))
    return stream.getvalue()


FULL = Machine(
    topology=Topology(
        processors=8,
        cores=4,
        threads_per_core=2,
        sockets=1,
        numa=(NumaNode(number=0, processors=8, memory_bytes=3.2e10),),
        caches=(Cache(name="L3", size_bytes=3.2e7, shared_by=8),),
        governor="performance",
        least_hz=8e8,
        most_hz=4.1e9,
        boost=False,
    ),
    limits=Limits(version=2, cores=1.5),
    disks=(Disk(name="nvme0n1", model="Some SSD", size_bytes=1e12, rotates=False),),
    gpus=(Gpu(index=0, name="NVIDIA L4", memory_bytes=2.4e10, power_limit_w=72.0),),
    sensors=(
        Reading(name="package-0", driver="rapl", senses=Senses.ENERGY, value=None, reason="permission denied"),
        Reading(name="VDD_IN", driver="ina3221", senses=Senses.POWER, value=9.0),
        Reading(name="Tctl", driver="k10temp", senses=Senses.TEMPERATURE, value=51.25),
    ),
)


def test_known_values_have_units_and_unknown_ones_reasons() -> None:
    text = shown(FULL)
    for words in (
        "2 (SMT on)", "0: 8 processors, 32 GB", "L3 32 MB, shared by 8", "800 MHz to 4.1 GHz", "1.5", "no limit",
        "Some SSD, 1 TB, does not rotate", "NVIDIA L4, 24 GB, driver unknown, up to unknown, power limit 72 W, draws unknown",
        "energy unknown: permission denied", "9 W (ina3221)", "51.2 °C (k10temp)",
    ):  # fmt: skip
        assert words in text, words


def test_a_machine_that_tells_nothing_is_unknown_and_never_zero() -> None:
    text = shown(Machine(topology=Topology(), limits=Limits(), gpus_reason="NVML cannot be asked: no driver"))
    assert "unknown: NVML cannot be asked: no driver" in text
    assert " 0 " not in text and "None" not in text
    assert text.count("unknown") >= 9


def test_measured_rates_stand_below() -> None:
    probe = GpuProbe(kind="gemm", dtype="fp16", sizes=(4096,) * 3)
    row = GpuRow(probe=probe, time_s=1e-3, flop=2.0 * 4096**3, bytes=1e8, power_w=250.0)
    gpu = GpuCalibration(gpu=Gpu(index=0, name="NVIDIA L4"), device="cuda:0", torch="2.9", date="2026-02-03T00:00", rows=(row,))
    rates = {"memory_bytes_per_s": 2e10, "decode_bytes_per_s": 1.5e8}
    calibration = Calibration(environment=environment(), date="2026-01-02T00:00", traces=(), rates=rates, gpus=(gpu,))
    text = shown(FULL, calibration)
    assert "Measured on cuda:0, NVIDIA L4, 2026-02-03" in text and "137 TFLOP/s" in text and "250 W to 250 W" in text
    assert "20 GB/s" in text and "150 MB/s" in text and "JPEG" in text
    found = json.loads(json.dumps(to_json(FULL, calibration)))
    assert found["measured"]["gpus"][0]["memory_bytes_per_s"] is None
    assert found["measured"]["gpus"][0]["flop_per_s"]["fp16"] == row.flop_per_s
    assert found["machine"]["sensors"][0]["value"] is None and found["machine"]["sensors"][0]["reason"]
