"""Calibration of this machine, and what is predicted from it."""

import io
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from dovetail.core.calibration import SCHEMA, Calibration, LeftOut
from dovetail.core.errors import InputError
from dovetail.core.recipe import PassSpec, Recipe, freeze
from dovetail.core.serial import encode
from dovetail.devices.probe import environment
from dovetail.pipeline import calibrate, probe_traces
from dovetail.pipeline.forecast import ModelForecast, ignored, machine_model
from dovetail.pipeline.predicting import predict_built, predict_here
from dovetail.pipeline.probing import describe_machine
from dovetail.predict.machine_model import learn
from dovetail.probe_files import ProbeFile
from dovetail.report.machine import render_machine
from dovetail.workloads.analyze import analyze


def one_thread(machine):
    return [setting for setting in probe_traces.settings(machine) if dict(setting.options) == {"threads": 1}]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """Some networks in every setting of one thread: enough to ask, not to be precise. Made once."""
    folder = tmp_path_factory.mktemp("calibration")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOVETAIL_LOCK", str(folder / "measure.lock"))
        patch.setattr(probe_traces, "BLOCK_S", 0.01)
        patch.setattr(probe_traces, "REPEATS", 5)
        patch.setattr(calibrate, "settings", one_thread)
        found = calibrate.calibrate(folder, lambda share, text: None, budget_s=150)
    return folder, found


@pytest.mark.slow
def test_every_setting_is_measured_and_a_second_call_goes_on(calibrated, monkeypatch):
    folder, found = calibrated
    assert {(t.runtime, t.form) for t in found.traces} >= {
        (runtime, form) for runtime in ("onnxruntime", "openvino", "litert") for form in ("float", "int8")
    }
    assert all(kernel.time_s >= 0 and kernel.outputs for trace in found.traces for kernel in trace.kernels[:1])
    (journal,) = folder.glob("traces-*.jsonl")
    before = journal.read_bytes()
    monkeypatch.setenv("DOVETAIL_LOCK", str(folder / "measure.lock"))
    again = calibrate.calibrate(folder, lambda share, text: None, budget_s=1)
    assert journal.read_bytes().startswith(before)
    assert len(again.traces) >= len(found.traces)


@pytest.mark.slow
def test_a_real_network_is_predicted_in_every_calibrated_setting(calibrated, shared_data):
    _, found = calibrated
    model = shared_data / "mlperf_tiny" / "resnet8_cifar10.onnx"
    rows = predict_here(model, {}, learn(found))
    assert len(rows) == len(learn(found).plans)
    assert [row.latency_s.value for row in rows] == sorted(row.latency_s.value for row in rows)
    assert all(1e-6 < row.latency_s.low <= row.latency_s.value <= row.latency_s.high for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_built_network_is_predicted_from_the_kernels_it_executes(calibrated, shared_data, runtime):
    _, found = calibrated
    model = shared_data / "cifar10_resnets" / "resnet20_cifar10.onnx"
    built = predict_built(model, runtime, {"threads": 1}, learn(found))
    convolutions = [kernel for kernel in built.kernels if "conv" in kernel.kind.lower()]
    assert len(convolutions) == 19
    assert len(built.estimate.kernels_s) == len(built.kernels)


@pytest.mark.slow
def test_recipes_of_one_model_are_compared_before_they_run(calibrated, shared_data):
    folder, found = calibrated
    machine = machine_model(folder, environment())
    assert machine is not None
    workload = analyze(shared_data / "cifar10_resnets" / "resnet20_cifar10.onnx")
    forecast = ModelForecast(machine, workload, found.environment.cores)
    plain = Recipe(runtime="openvino", options=freeze({"threads": 1}))
    int8 = replace(plain, passes=(PassSpec(name="clean"), PassSpec(name="quantize_static")))
    same = forecast.ratio(plain, plain)
    assert same is not None and same.low == same.value == same.high == 1.0
    assert forecast.ratio(int8, plain) is not None
    assert forecast.ratio(replace(plain, passes=(PassSpec(name="weight_only"),)), plain) is None
    assert forecast.ratio(Recipe(runtime="null"), plain) is None


def stored(folder, **changes):
    empty = Calibration(environment=environment(), date="2026-01-01", traces=())
    path = folder / calibrate.FILE
    path.write_text(json.dumps({**encode(empty), **changes}))
    return path


def test_a_calibration_survives_the_file(tmp_path):
    path = tmp_path / "deep" / "calibration.json"
    made = Calibration(environment=environment(), date="2026-01-01", traces=(), rates={"fp32_flop_per_s": 1e11})
    calibrate.save(made, path)
    assert calibrate.load(path) == made


@pytest.mark.parametrize("schema", [0, SCHEMA + 1, None])
def test_a_calibration_of_another_schema_is_refused(tmp_path, schema):
    with pytest.raises(InputError, match="schema"):
        calibrate.load(stored(tmp_path, schema=schema))


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', "\x00\x01"])
def test_what_is_no_calibration_is_refused(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_text(content)
    with pytest.raises(InputError, match="calibration"):
        calibrate.load(path)


def test_a_calibration_of_another_machine_steers_no_search(tmp_path):
    other = encode(replace(environment(), fingerprint="another"))
    stored(tmp_path, environment=other)
    assert machine_model(tmp_path, environment()) is None
    assert machine_model(tmp_path / "nowhere", environment()) is None


def test_a_prediction_without_calibration_says_what_to_do(dovetail, digits):
    run = dovetail("predict", digits / "digits.onnx")
    assert run.returncode == 2
    assert "not calibrated" in run.stderr and "--calibrate" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_prediction_on_a_device_of_the_catalogue(dovetail, digits):
    run = dovetail("predict", digits / "digits.onnx", "--device", "a100", "--json")
    if run.returncode == 2:  # a short name may be several devices
        run = dovetail("predict", digits / "digits.onnx", "--device", "A100 SXM 80GB", "--json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)["device"]
    assert found["latency_s"]["low"] <= found["latency_s"]["value"] <= found["latency_s"]["high"]


def test_an_unknown_device_gets_the_nearest_names(dovetail, digits):
    run = dovetail("predict", digits / "digits.onnx", "--device", "jetson-orin-nanno")
    assert run.returncode == 2
    assert "Jetson Orin Nano" in run.stderr


def test_this_machine_describes_itself(dovetail):
    run = dovetail("devices", "probe", "--json")
    assert run.returncode == 0, run.stderr
    assert "cores" in run.stdout


def test_an_older_calibration_with_sizes_of_inputs_is_read(tmp_path):
    trace = {"network": "n", "kind": "k", "form": "float", "runtime": "r", "options": {}, "threads": 1, "call_s": 1.0,
             "io_bytes": 4.0, "kernels": []}  # fmt: skip
    (found,) = calibrate.load(stored(tmp_path, schema=1, traces=[trace])).traces
    assert (found.network, found.call_s) == ("n", 1.0)


def test_a_calibration_that_steers_no_search_says_why_and_what_to_do(tmp_path):
    assert ignored(tmp_path, environment()) == ""
    stored(tmp_path)
    assert ignored(tmp_path, environment()) == ""
    stored(tmp_path, environment=encode(replace(environment(), fingerprint="another", cpu="Other CPU")))
    other = ignored(tmp_path, environment())
    stored(tmp_path, schema=SCHEMA + 1)
    schema = ignored(tmp_path, environment())
    (tmp_path / calibrate.FILE).write_text("{")
    broken = ignored(tmp_path, environment())
    versions = {**environment().versions, "onnxruntime": "0.0.1"}
    stored(tmp_path, environment=encode(replace(environment(), versions=versions)))
    old = ignored(tmp_path, environment())
    for text, words in ((other, "Other CPU"), (schema, "schema"), (broken, "can be read"), (old, "onnxruntime 0.0.1")):
        assert words in text and "ignored" in text and "--calibrate" in text and "\n" not in text


@pytest.mark.slow
def test_optimize_says_that_it_ignores_a_calibration(dovetail, digits, environment):
    folder = Path(environment["DOVETAIL_CACHE"]) / "calibration"
    folder.mkdir(parents=True)
    (folder / calibrate.FILE).write_text("not a calibration")
    run = dovetail("optimize", digits / "digits.onnx", "--budget", "10s", "--out", "fit")
    said = [line for line in run.stderr.splitlines() if "is ignored" in line]
    assert len(said) == 1 and "devices probe --calibrate" in said[0]


def test_networks_without_a_trace_are_counted_with_their_reason(tmp_path, digits):
    setting = probe_traces.Setting(runtime="onnxruntime", form="float", format="onnx", options={"threads": 1})
    (tmp_path / "text.onnx").write_text("no model")

    def file(network, path="", failure=""):
        return ProbeFile(network=network, kind="k", form="float", format="onnx", path=str(path), failure=failure)

    files = [
        file("absent", failure="nothing in it can be quantised"),
        file("broken", tmp_path / "text.onnx"),
        file("good", digits / "digits.onnx"),
    ]
    journal = probe_traces.Journal(tmp_path / "traces.jsonl")

    def visited(files, seconds):
        return probe_traces.visit_all([setting], files, journal, time.monotonic() + seconds, tmp_path, lambda share, text: None)

    found = visited(files, 10)
    assert journal.get(setting, "good") and [trace.network for trace in journal.traces] == ["good"]
    assert [one.network for one in found] == ["absent", "broken"] and {one.setting for one in found} == {str(setting)}
    assert found[0].reason == "nothing in it can be quantised" and found[1].reason
    late = visited([file("late", digits / "digits.onnx")], 0)
    assert [(one.network, one.reason) for one in late] == [("late", probe_traces.OUT_OF_TIME)]


def test_a_network_is_visited_in_all_settings_before_the_next_one_is():
    chosen = [
        probe_traces.Setting(runtime="r", form=form, format="onnx", options={"threads": threads})
        for form in ("float", "int8")
        for threads in (2, 1)
    ]
    files = [
        ProbeFile(network=f"{kind}{number}", kind=kind, form=form, format="onnx", path="p")
        for kind in ("a", "b")
        for number in (0, 1)
        for form in ("float", "int8")
    ]
    turns = [file.network for _, file in probe_traces._in_turn(chosen, files)]
    assert turns == [name for name in ("a0", "a1", "b0", "b1") for _ in chosen]


def test_what_a_calibration_lacks_is_shown_by_setting_and_reason():
    left_out = [LeftOut(setting="litert, int8, 2 threads", network=f"n{i}", reason="no such operator") for i in range(3)]
    left_out.append(LeftOut(setting="litert, int8, 2 threads", network="late", reason=probe_traces.OUT_OF_TIME))
    made = Calibration(environment=environment(), date="2026-01-01", traces=(), left_out=tuple(left_out))
    out = io.StringIO()
    render_machine(describe_machine(), made, Console(file=out, width=100))
    line = next(line for line in out.getvalue().splitlines() if line.startswith("litert, int8"))
    assert "4 networks" in line and "3 × no such operator" in line
    assert f"1 × {probe_traces.OUT_OF_TIME}" in " ".join(out.getvalue().split())


@pytest.mark.slow
def test_matrix_products_with_ranges_found_at_each_call_are_calibrated_where_they_are_integers(calibrated):
    _, found = calibrated
    forms = {trace.form: trace for trace in found.traces if trace.runtime == "onnxruntime"}
    assert any("DynamicQuantize" in kernel.kind or "MatMulInteger" in kernel.kind for kernel in forms["int8-dynamic"].kernels)
    assert not [trace for trace in found.traces if trace.runtime != "onnxruntime" and trace.form == "int8-dynamic"]
