"""A child process may crash, hang, eat memory or print: its parent gets an outcome and goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest

from dovetail.core.protocols import Model, TensorSpec
from dovetail.data.dataset import write_split
from dovetail.measure.child import Child, ChildFailure, reproduce_command


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "child.log"


def load(child: Child, model: Model, runtime: str, timeout_s: float = 60.0, **options: object) -> dict[str, object]:
    return child.call("load", timeout_s=timeout_s, path=str(model.path), format="onnx", runtime=runtime, options=options)


def fixed_batch(model: Model, folder: Path) -> Model:
    """The model for one sample a call, so that it is scored one by one."""
    proto = onnx.load(model.path)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(proto, folder / "one.onnx")
    return Model(path=folder / "one.onnx")


def test_answers_commands_in_order(log, model):
    with Child(log) as child:
        assert load(child, model, "null")["inputs"][0]["name"] == "image"
        assert child.call("memory")["peak_memory_bytes"] > 1e6


def test_long_scoring_outlives_the_time_limit_while_it_makes_progress(log, model, tmp_path):
    (tmp_path / "slow.py").write_text("import time\ndef count(outputs, label):\n    time.sleep(0.15)\n    return 1.0\n")
    spec = TensorSpec(name="image", dtype="float32", shape=(1, 1, 16, 16))
    samples = [({"image": np.zeros((1, 1, 16, 16), np.float32)}, number, None) for number in range(24)]
    split = write_split(tmp_path / "split", samples, [spec], name="selection")
    metric = f"{tmp_path / 'slow.py'}:count"
    with Child(log) as child:
        load(child, fixed_batch(model, tmp_path), "onnxruntime")
        arguments = {"split": str(split.folder), "metric": metric, "state": {}, "out": str(tmp_path / "rows.npy")}
        assert child.call("score", timeout_s=2.5, **arguments) == {"n": 24}


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("abort", "the process was ended by SIGABRT"),
        ("kill", "the process was ended by SIGKILL"),
        ("exit", "the process ended with exit code 3"),
    ],
)
def test_a_crash_is_an_outcome(log, model, hostile, how, reason):
    with Child(log) as child:
        with pytest.raises(ChildFailure) as failure:
            load(child, model, hostile, on_build=how)
        assert (failure.value.outcome.stage, failure.value.outcome.reason) == ("load", reason)
        with pytest.raises(ChildFailure, match="the process"):
            child.call("memory")


def test_a_child_that_hangs_is_ended_at_the_time_limit(log, model, hostile):
    with Child(log) as child:
        with pytest.raises(ChildFailure) as failure:
            load(child, model, hostile, timeout_s=1.5, on_build="hang")
        assert failure.value.outcome.reason == "no answer within 2 s"
        with pytest.raises(ChildFailure, match="SIGKILL"):
            child.call("memory")


@pytest.mark.parametrize("how", ["eat", "eat in a grandchild"])
def test_the_whole_process_tree_counts_towards_the_memory_limit(log, model, hostile, how):
    with Child(log, memory_limit_bytes=4e8) as child:
        with pytest.raises(ChildFailure) as failure:
            load(child, model, hostile, on_build=how)
        assert "memory allowed" in failure.value.outcome.reason
        assert "4e+08" in failure.value.outcome.reason
        assert child.peak_memory_bytes > 4e8
    assert not [p for p in psutil.process_iter(["cmdline"]) if "bytearray(600_000_000)" in " ".join(p.info["cmdline"] or [])]


def test_printing_on_standard_output_disturbs_no_answer(log, model, hostile):
    with Child(log) as child:
        assert load(child, model, hostile, on_build="print")["outputs"][0]["name"] == "logits"
        with pytest.raises(ChildFailure) as failure:
            load(child, model, hostile, on_build="exit")
    assert "noise on standard output" in log.read_text()
    assert "noise on standard output" in failure.value.outcome.detail


def test_the_detail_is_of_this_process_alone(log, model, hostile):
    for how, said in (("print", True), ("exit", False)):
        with Child(log) as child:
            load(child, model, hostile, on_build="print") if said else None
            with pytest.raises(ChildFailure) as failure:
                load(child, model, hostile, on_build="exit")
        assert ("noise" in failure.value.outcome.detail) is said, how


def test_an_exception_is_one_line_with_its_traceback_as_detail_and_the_child_lives_on(log, model, hostile):
    with Child(log) as child:
        with pytest.raises(ChildFailure) as failure:
            load(child, model, hostile, on_build="raise")
        outcome = failure.value.outcome
        assert outcome.reason == "RuntimeError: first line"
        assert "Traceback" in outcome.detail
        with pytest.raises(ChildFailure, match="no runtime named 'nosuch'"):
            load(child, model, "nosuch")
        assert load(child, model, "null")["inputs"]


def test_closing_twice_is_harmless(log):
    child = Child(log)
    child.close()
    child.close()


def test_the_child_dies_with_its_parent(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from dovetail.measure.child import Child\n"
        f"child = Child(Path({str(tmp_path / 'log')!r})); child.call('memory')\n"
        "print(child._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_the_reproduce_command_shows_the_failure_again(log, tmp_path):
    broken = tmp_path / "it's broken.onnx"
    broken.write_bytes(b"\x08\x07garbage")
    with Child(log) as child, pytest.raises(ChildFailure) as failure:
        child.call("normalize", source=str(broken), out=str(tmp_path / "out" / "model.onnx"))
    again = subprocess.run(failure.value.outcome.reproduce, shell=True, capture_output=True, text=True, timeout=60)
    assert json.loads(again.stdout.splitlines()[-1])["error"] == failure.value.outcome.reason


def test_the_reproduce_command_repeats_what_led_to_the_failure(log, model, hostile, conditions):
    with Child(log) as child, pytest.raises(ChildFailure, match="SIGABRT") as failure:
        load(child, model, hostile, on_run="abort")
        child.call("feeds", split=str(conditions.split), indices=[0])
    shell = ["bash", "-o", "pipefail", "-c", failure.value.outcome.reproduce]
    again = subprocess.run(shell, capture_output=True, text=True, timeout=60)
    assert "inputs" in json.loads(again.stdout)
    assert again.returncode == 128 + signal.SIGABRT


def test_commands_survive_quoting():
    awkward = {"op": "analyze", "model": 'a\'b\\n "c" $HOME `id` µ'}
    command = reproduce_command([awkward])
    shown = subprocess.run(command.rpartition(" | ")[0], shell=True, capture_output=True, text=True, timeout=10)
    assert json.loads(shown.stdout) == awkward
