"""Calibration of a GPU, made on the processor by the same code, and what is predicted from it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dovetail.core.calibration import SCHEMA, Calibration, Trace
from dovetail.core.errors import InputError
from dovetail.core.gpu import Gpu, GpuCalibration, GpuProbe, GpuRow
from dovetail.core.measurement import Environment
from dovetail.core.serial import encode
from dovetail.devices.gpu_plan import plan
from dovetail.devices.nvml import Nvml, Unanswered
from dovetail.devices.probe import environment as this_environment
from dovetail.devices.sampling import PowerLog
from dovetail.measure.child import Child
from dovetail.pipeline import calibrate, calibrate_gpu, probing
from dovetail.pipeline.calibrated_gpus import calibrated_gpu
from dovetail.pipeline.predicting import calibration_of_this_machine, predict_on
from dovetail.predict.op_table import op_table
from dovetail.predict.setting import Setting, Told
from dovetail.testing.nvml import RecordedNvml
from dovetail.workloads.analyze import analyze

TRACE = Trace(network="n", kind="k", form="float", runtime="r", options={}, threads=1, call_s=1.0, kernels=())


def absent() -> Nvml:
    raise Unanswered("NVML cannot be asked: no driver")


def row(kind: str, *sizes: int, dtype: str = "fp32", time_s: float = 1e-3) -> GpuRow:
    flop = 2.0 * sizes[0] * sizes[1] * sizes[2] if kind == "gemm" else 0.0
    return GpuRow(probe=GpuProbe(kind=kind, dtype=dtype, sizes=sizes), time_s=time_s, flop=flop, bytes=12.0 * sizes[0])


def made_up(name: str = "NVIDIA H100 80GB HBM3", device: str = "cuda:0", uuid: str = "GPU-1") -> GpuCalibration:
    rows = (row("gemm", 4096, 4096, 4096), row("triad", 1 << 27), row("launch", 1, time_s=3e-6), row("call", 1, time_s=9e-6))
    return GpuCalibration(gpu=Gpu(index=0, name=name, uuid=uuid), device=device, torch="2.9", date="2026-02-03", rows=rows)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own; returns where the calibration lies."""
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOVETAIL_LOCK", str(tmp_path / "lock"))
    return probing.calibration_folder(probing.cache_folder()) / calibrate.FILE


@pytest.mark.slow
@pytest.mark.torch
def test_the_processor_is_calibrated_by_the_same_code_and_a_second_call_repeats_nothing(cache: Path) -> None:
    pytest.importorskip("torch")
    told: list[str] = []
    given = calibrate_gpu.Given(probes=[p for p in plan(64) if p.dtype in ("fp32", "bf16")], nvml=absent)
    found = calibrate_gpu.calibrate_gpu(cache.parent, "cpu", lambda share, text: told.append(text), given=given)
    assert {r.probe.kind for r in found.rows} == {"gemm", "conv", "depthwise", "reduce", "copy", "triad", "launch", "call"}
    assert {"fp32", "bf16"} == set(found.peaks()) and all(r.time_s > 0 for r in found.rows)
    assert found.gpu.name == this_environment().cpu and found.idle_power_w is None
    assert any("gemm fp32" in text for text in told)
    (journal,) = cache.parent.glob("gpu-*.jsonl")
    before = journal.read_bytes()
    again = calibrate_gpu.calibrate_gpu(cache.parent, "cpu", lambda share, text: None, given=given)
    assert journal.read_bytes() == before and again.rows == found.rows
    assert len(calibrate.load(cache).gpus) == 1


@pytest.mark.slow
@pytest.mark.torch
def test_a_budget_that_is_used_up_ends_it_and_what_is_left_comes_next_time(cache: Path) -> None:
    pytest.importorskip("torch")
    given = calibrate_gpu.Given(probes=plan(64)[:3], nvml=absent)
    none = calibrate_gpu.calibrate_gpu(cache.parent, "cpu", lambda share, text: None, budget_s=0.0, given=given)
    assert none.rows == ()
    rest = calibrate_gpu.calibrate_gpu(cache.parent, "cpu", lambda share, text: None, given=given)
    assert [r.probe.kind for r in rest.rows] == ["launch", "call", "gemm"]


@pytest.mark.torch
def test_power_is_read_while_a_long_measurement_runs(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    probe = GpuProbe(kind="copy", dtype="fp32", sizes=(1000,), seconds=0.01, power=True)
    with Child(tmp_path / "log") as child:
        found = calibrate_gpu._measured(child, "cpu", probe, lambda: PowerLog(lambda: 250.0))
        short = calibrate_gpu._measured(child, "cpu", replace(probe, power=False), lambda: PowerLog(lambda: 250.0))
    assert found is not None and found.power_w == 250.0
    assert short is not None and short.power_w is None


def test_idle_power_is_told_of_every_part_by_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate_gpu, "IDLE_S", 0.0)
    answers = {"nvmlDeviceGetName": "NVIDIA L4", "nvmlDeviceGetUUID": "GPU-7", "nvmlDeviceGetPowerUsage": 16500}
    silent = {"nvmlDeviceGetName": "Tesla K80", "nvmlDeviceGetUUID": "GPU-8"}
    power = calibrate_gpu._Power.opened(lambda: RecordedNvml({}, [answers, silent]))
    assert power.idle() == {"GPU-7": 16.5}
    assert power.of(power.gpus[0]) is not None and power.of(power.gpus[1]) is None
    assert calibrate_gpu._Power.opened(absent).idle() == {}


@pytest.mark.torch
def test_a_device_that_torch_has_not_is_one_clear_message(cache: Path) -> None:
    pytest.importorskip("torch")
    given = calibrate_gpu.Given(probes=(), nvml=absent)
    with pytest.raises(InputError, match="torch cannot use it"):
        calibrate_gpu.calibrate_gpu(cache.parent, "cuda:77", lambda share, text: None, given=given)
    assert not cache.exists()


def test_parts_are_filed_beside_what_is_there(cache: Path) -> None:
    calibrate.save(Calibration(environment=this_environment(), date="2026-01-01", traces=(TRACE,)), cache)
    calibrate_gpu.file(made_up(), cache)
    calibrate_gpu.file(made_up(name="NVIDIA L4", device="cuda:1", uuid="GPU-2"), cache)
    calibrate_gpu.file(replace(made_up(), date="2026-03-01"), cache)
    found = calibrate.load(cache)
    assert found.traces == (TRACE,)
    assert sorted((one.gpu.name, one.date) for one in found.gpus) == [
        ("NVIDIA H100 80GB HBM3", "2026-03-01"), ("NVIDIA L4", "2026-02-03"),
    ]  # fmt: skip


def test_a_file_of_another_machine_is_replaced(cache: Path) -> None:
    other = replace(this_environment(), fingerprint="another")
    calibrate.save(Calibration(environment=other, date="2026-01-01", traces=(TRACE,)), cache)
    calibrate_gpu.file(made_up(), cache)
    assert calibrate.load(cache).traces == () and len(calibrate.load(cache).gpus) == 1


def test_files_of_the_first_schema_are_read(cache: Path) -> None:
    document = encode(Calibration(environment=this_environment(), date="2026-01-01", traces=(TRACE,)))
    del document["gpus"]
    cache.parent.mkdir(parents=True)
    cache.write_text(json.dumps({**document, "schema": 1}))
    found = calibrate.load(cache)
    assert found.gpus == () and found.schema == SCHEMA and found.traces == (TRACE,)


def test_a_file_with_a_key_that_nobody_knows_is_one_clear_message(cache: Path) -> None:
    document = encode(Calibration(environment=this_environment(), date="2026-01-01", traces=()))
    cache.parent.mkdir(parents=True)
    cache.write_text(json.dumps({**document, "surprise": 1}))
    with pytest.raises(InputError, match="no calibration can be read"):
        calibrate.load(cache)


@pytest.mark.parametrize("name", ["cuda:0", "CUDA:0", "NVIDIA H100 80GB HBM3", "h100", "H100 SXM 80GB"])
def test_a_calibrated_part_is_found_by_its_names(cache: Path, name: str) -> None:
    calibrate_gpu.file(made_up(), cache)
    found = calibrated_gpu(name)
    assert found is not None and found[0].name == "H100 SXM 80GB"
    assert found[0].peak_flop_per_s["fp32"].value == pytest.approx(2 * 4096**3 / 1e-3)


def test_other_names_are_the_catalogue_s(cache: Path) -> None:
    assert calibrated_gpu("a100") is None
    calibrate_gpu.file(made_up(), cache)
    assert calibrated_gpu("a100") is None and calibrated_gpu("no such thing") is None
    with pytest.raises(InputError, match="not calibrated"):
        calibrated_gpu("cuda:1")


def test_another_part_in_this_machine_is_not_predicted_and_other_settings_are_told(cache: Path, digits: Path) -> None:
    calibrate_gpu.file(made_up(), cache)

    def here(**answers: object) -> RecordedNvml:
        return RecordedNvml({}, [{"nvmlDeviceGetName": "NVIDIA H100 80GB HBM3", "nvmlDeviceGetUUID": "GPU-1", **answers}])

    with pytest.raises(InputError, match="another GPU"):
        calibrated_gpu("cuda:0", nvml=lambda: here(nvmlDeviceGetUUID="GPU-2"))
    found = calibrated_gpu("cuda:0", nvml=lambda: here(nvmlDeviceGetEnforcedPowerLimit=300000))
    assert found is not None
    table = op_table(analyze(digits / "digits.onnx"))
    (told,) = found[1].tell(table, [found[0]], Setting(precision="fp32"))
    assert isinstance(told, Told) and "power limit changed" in told.note
    same = calibrated_gpu("cuda:0", nvml=here)
    assert same is not None and "changed" not in str(same[1].tell(table, [same[0]], Setting(precision="fp32")))


def test_a_calibration_that_cannot_be_read_does_not_stop_the_catalogue(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("{")
    assert calibrated_gpu("a100") is None


def test_a_file_tells_which_parts_it_has(cache: Path, tmp_path: Path) -> None:
    calibrate_gpu.file(made_up(), cache)
    exported = tmp_path / "board.json"
    probing.export(exported)
    cache.unlink()
    found = calibrated_gpu("cuda:0", exported)
    assert found is not None and found[0].name == "H100 SXM 80GB"
    with pytest.raises(InputError, match="NVIDIA H100"):
        calibrated_gpu("cuda:3", exported)


def test_measured_rates_override_the_data_sheet(cache: Path, digits: Path) -> None:
    sheet = predict_on(digits / "digits.onnx", "h100", "fp32", {})
    calibrate_gpu.file(made_up(), cache)
    measured = predict_on(digits / "digits.onnx", "h100", "fp32", {})
    assert sheet.latency_s and measured.latency_s and measured.latency_s.value != sheet.latency_s.value
    assert "measured on NVIDIA H100" in measured.latency_s.source.ref
    elsewhere = predict_on(digits / "digits.onnx", "a100", "fp32", {})
    assert elsewhere.latency_s and "measured on" not in elsewhere.latency_s.source.ref


def test_a_gpu_alone_does_not_predict_the_processor(cache: Path, tmp_path: Path) -> None:
    calibrate_gpu.file(made_up(), cache)
    with pytest.raises(InputError, match="processor is not calibrated"):
        calibration_of_this_machine()


def test_gpus_of_this_machine_survive_a_calibration_of_its_processor(cache: Path) -> None:
    machine: Environment = this_environment()
    calibrate_gpu.file(made_up(), cache)
    assert calibrate._kept_gpus(cache, machine) == (made_up(),)
    assert calibrate._kept_gpus(cache, replace(machine, fingerprint="another")) == ()
    assert calibrate._kept_gpus(cache.with_name("nowhere.json"), machine) == ()


@pytest.mark.slow
def test_probe_shows_machine_and_measurements(dovetail, environment, tmp_path):
    run = dovetail("devices", "probe", "--json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert {"topology", "limits", "disks", "gpus", "gpus_reason", "sensors"} == set(found["machine"])
    assert found["machine"]["gpus"] is not None or found["machine"]["gpus_reason"]
    assert found["measured"] is None
    shown = dovetail("devices", "probe")
    assert shown.returncode == 0 and "NUMA nodes" in shown.stdout and "Sensors" in shown.stdout


def test_a_device_is_named_for_a_calibration_only(dovetail):
    run = dovetail("devices", "probe", "--device", "cuda:0")
    assert run.returncode == 2 and "--calibrate" in run.stderr
