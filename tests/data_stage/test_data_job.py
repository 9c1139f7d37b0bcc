from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_helpers import spec

from dovetail.core.constraint import DropKind
from dovetail.core.errors import InputError
from dovetail.data.job import FitJob, load_job
from dovetail.data.limits import parse_budget, parse_limits, parse_max_drop
from dovetail.data.template import job_template

IMAGE = spec("input", "N", 3, 32, 32)
FULL = """\
model: model.onnx
data: test.npz
labels: {from: y, classes: [cat, dog]}
groups: speaker
inputs:
  input:
    from: x
    layout: NHWC->NCHW
    scale: 0.00392157
    mean: [0.485, 0.456, 0.406]
    std: [0.229, 0.224, 0.225]
    shape: [8, null, null, null]
metric: {name: f1, average: binary}
max_drop: 1pp
limits: {latency_p99: 5ms, memory: 200MB, throughput: 100/s}
objective: [latency, size]
budget: 10m
seed: 3
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "fit.yaml"
    path.write_text(text)
    return path


def test_a_full_job(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, FULL))
    assert job.model == str(tmp_path / "model.onnx")
    files = job.files()
    assert files is not None and files.data == str(tmp_path / "test.npz")
    request = job.request((IMAGE,))
    assert (request.labels, request.classes, request.groups) == ("y", ("cat", "dog"), "speaker")
    plan = request.inputs[0]
    assert (plan.key, plan.spec.shape, plan.raw_rank) == ("x", (8, 3, 32, 32), 3)
    assert plan.preprocess.std == (0.229, 0.224, 0.225)
    assert [(c.metric, c.bound, c.quantile, c.at_least) for c in job.constraints()] == [
        ("latency_s", 0.005, 0.99, False),
        ("memory_bytes", 2e8, None, False),
        ("throughput_per_s", 100, None, True),
    ]
    assert (job.budget_s(), job.objectives(), job.seed) == (600, ("latency", "size"), 3)


def test_three_files_functions_and_constants(tmp_path: Path) -> None:
    job = load_job(
        write(
            tmp_path,
            "data: {calibrate: a.npz, select: b.npz, certify: 'm.py:samples'}\nmetric: m.py:judge\n"
            "inputs:\n  sr: {value: 16000}\nstate: {state: stateN}\n",
        )
    )
    files = job.files()
    assert files is not None and files.certify == f"{tmp_path}/m.py:samples" and job.metric == f"{tmp_path}/m.py:judge"
    request = job.request((spec("input", "B", 576), spec("state", 2, "B", 128), spec("sr", dtype="int64")))
    assert [plan.spec.name for plan in request.inputs] == ["input", "sr"]
    assert request.inputs[1].value == np.int64(16000) and len(request.fed) == 1
    assert load_job(write(tmp_path, "data: package.module:samples")).data == "package.module:samples"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle: a.onnx\n", "line 1: there is no key 'modle'; did you mean 'model'"),
        ("seed: 1\ninputs:\n  x:\n    scal: 2\n", "line 4: there is no key 'scal'; did you mean 'scale'"),
        ("data: {calibration: a.npz}\n", "line 1: there is no key 'calibration'; did you mean 'calibrate'"),
        ("seed: one\n", "line 1: seed: 'one' does not fit"),
        ("inputs:\n  x: {resize: [3]}\n", "line 2: inputs.x.resize"),
        ("seed: 1\nseed: 2\n", "line 2: 'seed' occurs twice, first in line 1"),
        ("seed: [1\n", "not YAML"),
        ("- a\n", "list of `key: value` lines"),
        ("", "list of `key: value` lines"),
        ("limits: {latency: -5ms}\n", "latency: '-5ms': a limit on latency_s is a positive number"),
        ("limits: {latency: 0}\n", "positive number"),
        ("limits: {memory: .inf}\n", "memory: .*not finite"),
        ("limits: {memory: 5ms}\n", "memory: .*is not a bytes"),
        ("limits: {latency: 5ms, latency_p50: 7ms}\n", "both limit the median"),
        ("limits: {lateny: 5ms}\n", "no limit 'lateny'; did you mean 'latency'"),
        ("max_drop: lots\n", "max_drop: 'lots' is not a drop"),
        ("max_drop: -1pp\n", "max_drop: a permitted drop is zero or more"),
        ("budget: 0\n", "budget: 0.0 is no time to work in"),
        ("budget: soon\n", "budget: 'soon' is not a time"),
        ("objective: speed\n", "no objective 'speed'"),
        ("batch: 0\n", "line 1: batch"),
    ],
)
def test_faults_are_told_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as error:
        load_job(path)
    assert str(path) in str(error.value)


def test_a_missing_job_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_job(tmp_path / "fit.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inputs: {imput: {scale: 1}}", "inputs: there is no input 'imput'; did you mean 'input'"),
        ("state: {h: hN}", "state: there is no input 'h'"),
        ("inputs: {input: {shape: [1, 1, 32, 32]}}", r"shape \[1, 1, 32, 32\] does not fit"),
        ("inputs: {input: {layout: upside}}", "inputs.input.layout: 'upside' is not a layout"),
        ("inputs: {input: {dtype: float31}}", "inputs.input: .*float31"),
        ("inputs: {input: {std: 0}}", "inputs.input.std: .*not zero"),
    ],
)
def test_a_job_that_does_not_suit_the_model(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_job(write(tmp_path, text)).request((IMAGE,))


def test_the_forms_of_a_drop_and_a_budget() -> None:
    assert [(parse_max_drop(t).value, parse_max_drop(t).kind) for t in ("1pp", "1%", "0.5", 0.01, " 2 pp ")] == [
        (0.01, DropKind.ABSOLUTE),
        (0.01, DropKind.RELATIVE),
        (0.5, DropKind.ABSOLUTE),
        (0.01, DropKind.ABSOLUTE),
        (0.02, DropKind.ABSOLUTE),
    ]
    assert [parse_budget(b) for b in ("10m", "90s", 5, "1h")] == [600, 90, 5, 3600]
    assert parse_limits({}) == ()


@pytest.mark.parametrize(
    ("inputs", "outputs", "state"),
    [
        ((IMAGE,), (spec("logits", "N", 10),), {}),
        (
            (spec("input", "B", "T"), spec("state", 2, "B", 128), spec("sr", dtype="int64")),
            (spec("output", "B", 1), spec("stateN", None, "B", None)),
            {"state": "stateN"},
        ),
        ((spec("a: b", 1, 1, 224, 224),), (spec("out", 1, 1, 672, 672),), {}),
    ],
)
def test_the_template_loads_and_every_commented_line_is_a_known_key(
    tmp_path: Path, inputs: tuple, outputs: tuple, state: dict[str, str]
) -> None:
    text = job_template(inputs, outputs, "model.onnx")
    filled = text.replace("\ndata:\n", "\ndata: test.npz\n")
    job = load_job(write(tmp_path, filled))
    assert job.state == state and job.data == str(tmp_path / "test.npz")
    request = job.request(inputs)
    assert [plan.spec for plan in request.inputs] == [s for s in inputs if s.name not in state]
    for key in ("scale", "shape", "from", "value"):
        line = next(line for line in filled.splitlines() if line.startswith(f"    # {key}: "))
        load_job(write(tmp_path, filled.replace(line, line.replace("    # ", "    ", 1), 1)))
    assert isinstance(load_job(write(tmp_path, text)), FitJob)
