"""The whole of ``dovetail optimize`` on the digits example: the answer, its evidence, resuming, stopping, and bad budgets."""

import json
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from dovetail.core.certificate import Verdict
from dovetail.core.outcome import Fate, FitStatus
from processes import dovetail_command, private_environment, socket_watch

KIND = b'"kind": "trial"'


@pytest.fixture
def result(fitted):
    return json.loads((fitted / "result.json").read_text())


# -- an answer with data -------------------------------------------------------------------------------------------------


def test_the_answer_says_what_was_found(result):
    assert result["status"] in list(FitStatus)
    assert result["headline"]
    keys = [json.dumps(c["recipe"], sort_keys=True) for c in result["candidates"]]
    assert len(set(keys)) == len(keys) >= 60
    assert result["metric"] == "accuracy"
    assert result["max_drop"] == "3pp"
    assert sum(result["splits"].values()) == 1000
    assert result["splits"]["calibration"] == 100


def test_every_candidate_has_a_fate_and_the_losers_a_reason(result):
    for candidate in result["candidates"]:
        assert candidate["fate"] in list(Fate)
        assert candidate["reason"] or candidate["fate"] == "baseline", candidate["label"]
        if candidate["fate"] == "infeasible":
            assert candidate["infeasible"]["stage"]
    assert result["candidates"][0]["fate"] == "baseline"


def test_certificates_rest_on_the_certification_split_alone(result):
    found = [c for candidate in result["candidates"] for c in candidate["certificates"] if c["kind"] == "quality"]
    for certificate in found:
        assert certificate["verdict"] in list(Verdict)
        assert certificate["n"] == result["splits"]["certification"]
        assert certificate["looks"] == 1
        assert certificate["alpha"] <= 0.05


def test_nothing_is_certified_that_was_not_measured(result):
    for candidate in result["candidates"]:
        if candidate["certificates"]:
            assert candidate["measurement"]["calls"] > 0
            assert len(candidate["measurement"]["block_medians_s"]) == 6
        if candidate["fate"] in ("winner", "finalist"):
            assert candidate["speedup"]["low"] <= candidate["speedup"]["point"] <= candidate["speedup"]["high"]


def test_the_ledger_says_what_it_cost(result):
    stages = {row["stage"]: row for row in result["ledger"]}
    assert {"describe", "original", "trials", "select", "certify", "explain"} <= stages.keys()
    assert stages["recipes in the space"]["count"] == len(result["candidates"])
    assert stages["trials"]["count"] == stages["recipes measured"]["count"]
    assert sum(row["seconds"] for row in result["ledger"]) <= result["seconds"] * 1.01


def test_the_journal_holds_every_trial(fitted, result):
    rows = [json.loads(line) for line in (fitted / "fit" / "journal.jsonl").read_text().splitlines()]
    assert rows[0]["kind"] == "job"
    trials = [row for row in rows if row["kind"] == "trial"]
    tried = [c for c in result["candidates"] if c["screening"] or c["infeasible"]]
    assert len(trials) == len(tried) >= 1
    assert len({row["key"] for row in trials}) == len(trials)


def test_the_evidence_holds_the_raw_samples(fitted, result):
    rows = [json.loads(line) for line in (fitted / "fit" / "evidence.jsonl").read_text().splitlines()]
    rounds = [row["latency_s"] for row in rows if row["kind"] == "round"]
    assert len(rounds) == 6
    calls = {row["recipe"]: row["calls_s"] for row in rows if row["kind"] == "calls"}
    assert calls.keys() == rounds[0].keys()
    assert all(min(times) > 0 for times in calls.values())
    assert result["best_baseline"] in calls


def test_no_socket_opens(fitted):
    """Neither in the parent nor in any child; both are known to have been watched."""
    lines = (fitted / "sockets").read_text().splitlines()
    assert sum(line.startswith("watching") for line in lines) > 5
    assert [line for line in lines if not line.startswith("watching")] == []


@pytest.mark.slow
def test_no_socket_opens_with_all_runtimes_and_vendor_quantisers(tmp_path, digits):
    watch = {**private_environment(tmp_path), **socket_watch(tmp_path / "sockets")}
    data = ["--data", digits / "digits.npz", "--metric", "accuracy", "--budget", "120s"]
    command = dovetail_command(["optimize", digits / "digits.onnx", *data, "--out", "fit", "--json"], rounds=2)
    done = subprocess.run(command, cwd=tmp_path, env=watch, capture_output=True, text=True, timeout=600)
    tried = [c for c in json.loads(done.stdout)["candidates"] if c["screening"]]
    assert any(step["name"] == "quantize_nncf" for c in tried for step in c["recipe"]["passes"])
    assert {c["recipe"]["runtime"] for c in tried} >= {"onnxruntime", "openvino"}
    lines = (tmp_path / "sockets").read_text().splitlines()
    assert [line for line in lines if not line.startswith("watching")] == []


# -- no data, and resuming -----------------------------------------------------------------------------------------------


@contextmanager
def running(arguments, tmp_path, environment, rounds=1):
    """``dovetail optimize`` in the background; what it says goes to the file ``progress``."""
    command = dovetail_command(["optimize", *arguments], rounds=rounds)
    with (
        (tmp_path / "progress").open("w") as log,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        yield process


def wait_for(condition, process, seconds=100):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come so far"
        assert process.poll() is None, "it ended before"
        time.sleep(0.02)


def trials(journal: Path) -> int:
    return journal.read_bytes().count(KIND) if journal.exists() else 0


def are_gone(pids):
    deadline = time.monotonic() + 10
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(psutil.pid_exists, pids))


def killed_and_run_again(arguments, tmp_path, environment, after, rounds=1):
    """Kills a run once it has finished some trials and built a model; runs it again, and checks that nothing was repeated."""
    journal, built = tmp_path / "fit" / "journal.jsonl", tmp_path / "cache" / "models"
    with running(arguments, tmp_path, environment, rounds) as process:
        wait_for(lambda: trials(journal) >= after and list(built.glob("*/built.json")), process)
        children = [p.pid for p in psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGKILL)
    assert children
    assert are_gone(children)
    torn = journal.read_bytes()
    finished = torn[: torn.rindex(b"\n") + 1]
    stamps = {path: path.stat().st_mtime_ns for path in built.glob("*/built.json")}
    with running(arguments, tmp_path, environment, rounds) as process:
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert f"resuming: {finished.count(KIND)} finished" in (tmp_path / "progress").read_text()
    assert journal.read_bytes().startswith(finished)
    keys = [json.loads(line).get("key") for line in journal.read_text().splitlines()]
    assert len(set(keys)) == len(keys)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    return json.loads(out)


def test_without_data_and_after_a_kill(tmp_path, digits, environment):
    arguments = [digits / "digits.onnx", "--runtime", "null", "--budget", "12s", "--out", "fit", "--json"]
    result = killed_and_run_again(arguments, tmp_path, environment, after=2)
    assert result["status"] == "best_effort"
    passes = {step["name"] for c in result["candidates"] for step in c["recipe"]["passes"]}
    assert passes == {"clean", "static_shapes"}
    assert not [c for candidate in result["candidates"] for c in candidate["certificates"] if c["kind"] == "quality"]
    if result["beats_baseline"]:
        assert "quality not certified" in result["headline"]


@pytest.mark.slow
def test_after_a_kill_the_answer_is_as_good(tmp_path, digits, environment):
    data = ["--data", digits / "digits.npz", "--metric", "accuracy", "--max-drop", "3pp", "--runtime", "onnxruntime"]
    arguments = [digits / "digits.onnx", *data, "--budget", "60s", "--json"]
    with running([*arguments, "--out", "whole"], tmp_path, environment, rounds=8) as process:
        whole = json.loads(process.communicate(timeout=300)[0])
    (tmp_path / "cache").rename(tmp_path / "used")
    resumed = killed_and_run_again([*arguments, "--out", "fit"], tmp_path, environment, after=5, rounds=8)
    assert resumed["status"] == whole["status"]
    assert resumed["beats_baseline"] == whole["beats_baseline"]


# -- stopping ------------------------------------------------------------------------------------------------------------


def test_one_interrupt_finishes_with_the_best_so_far(tmp_path, digits, environment):
    arguments = [digits / "digits.onnx", "--runtime", "null", "--budget", "5m", "--out", "fit", "--json", "--strict"]
    with running(arguments, tmp_path, environment) as process:
        wait_for(lambda: trials(tmp_path / "fit" / "journal.jsonl") >= 1, process)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 4
    result = json.loads(out)
    assert result["status"] == "best_effort"
    assert Fate.OUT_OF_TIME in {c["fate"] for c in result["candidates"]}
    assert "finishing with the best so far" in (tmp_path / "progress").read_text()
    assert (tmp_path / "fit" / "manifest.json").exists()


def test_two_interrupts_stop_and_leave_the_journal(tmp_path, digits, environment):
    arguments = [digits / "digits.onnx", "--runtime", "null", "--budget", "5m", "--out", "fit"]
    with running(arguments, tmp_path, environment) as process:
        wait_for(lambda: trials(tmp_path / "fit" / "journal.jsonl") >= 1, process)
        children = [p.pid for p in psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGINT)
        wait_for(lambda: "finishing" in (tmp_path / "progress").read_text(), process)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    said = (tmp_path / "progress").read_text()
    assert process.returncode == 130
    assert out == ""
    assert "stopped; finished trials are in the journal" in said
    assert "Traceback" not in said
    assert are_gone(children)
    assert sorted(p.name for p in (tmp_path / "fit").iterdir()) == ["journal.jsonl"]


# -- limits, budgets and metrics -----------------------------------------------------------------------------------------


def test_a_limit_that_nothing_meets_is_infeasible_with_the_nearest_that_can_be_met(dovetail, digits, tmp_path):
    wishes = ["--limit", "size=1kB", "--runtime", "null", "--budget", "60s"]
    done = dovetail("optimize", digits / "digits.onnx", *wishes, "--out", "fit", "--strict", "--json")
    assert done.returncode == 3, done.stderr
    result = json.loads(done.stdout)
    assert result["status"] == "infeasible"
    assert result["winner"] == result["artifact"] == ""
    assert result["relaxation"].startswith("size=")
    assert (tmp_path / "here" / "fit" / "report.html").exists()


def test_a_budget_too_short_for_one_candidate(dovetail, digits, tmp_path):
    done = dovetail("optimize", digits / "digits.onnx", "--budget", "10ms")
    assert done.returncode == 2
    assert "too short to measure a single candidate" in done.stderr
    assert "Traceback" not in done.stderr
    assert [p.name for p in (tmp_path / "here" / "digits.fit").iterdir()] == ["journal.jsonl"]


METRICS = '''
import numpy as np
from pathlib import Path

def raises(outputs, label):
    raise ZeroDivisionError("no such luck")

def right(outputs, label):
    return float(outputs["logits"].argmax() == label)

def raises_on_unseen(outputs, label):
    """Fails on the one sample that carries a label of its own."""
    if label == 77:
        raise ZeroDivisionError("no such luck")
    return right(outputs, label)
'''


@pytest.fixture
def metrics(tmp_path) -> Path:
    (tmp_path / "metrics.py").write_text(METRICS)
    return tmp_path / "metrics.py"


def test_a_metric_that_raises_is_one_message(dovetail, digits, metrics):
    files = [digits / "digits.onnx", "--data", digits / "digits.npz"]
    done = dovetail("optimize", *files, "--metric", f"{metrics}:raises", "--runtime", "null")
    assert done.returncode == 2
    assert "it fails on unit 0: ZeroDivisionError: no such luck" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_metric_that_raises_at_the_end_is_one_message_and_the_journal_stays(dovetail, digits, metrics, tmp_path):
    """It meets its sample in the certification split alone, after the search."""
    with np.load(digits / "digits.npz") as data:
        images, labels = data["image"], data["label"]
    for name, rows in (("calibrate", slice(0, 20)), ("select", slice(20, 80)), ("certify", slice(80, 140))):
        changed = labels[rows].copy()
        if name == "certify":
            changed[7] = 77
        np.savez(tmp_path / f"{name}.npz", image=images[rows], label=changed)
    splits = [f"--{name}={tmp_path / name}.npz" for name in ("calibrate", "select", "certify")]
    wishes = ["--metric", f"{metrics}:raises_on_unseen", "--runtime", "onnxruntime", "--budget", "40s", "--max-drop", "0.5"]
    done = dovetail("optimize", digits / "digits.onnx", *splits, *wishes, "--out", "fit")
    assert done.returncode == 2, done.stderr
    assert "ZeroDivisionError: no such luck" in done.stderr
    assert "Traceback" not in done.stderr
    assert trials(tmp_path / "here" / "fit" / "journal.jsonl") >= 1
