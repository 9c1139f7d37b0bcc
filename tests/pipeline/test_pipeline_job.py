"""What makes measurements and scores of two fits comparable."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dovetail.data.job import FitJob
from dovetail.pipeline.builder import Builder
from dovetail.pipeline.describe import Request, describe
from dovetail.search.space import spec

RIGHT = "def judge(outputs, label):\n    return float(outputs['logits'].argmax() == label)\n"
HARSH = "def judge(outputs, label):\n    return 0.25\n"


@pytest.fixture
def metric(tmp_path) -> Path:
    (tmp_path / "metrics.py").write_text(RIGHT)
    return tmp_path / "metrics.py"


@pytest.fixture
def data(tmp_path, digits) -> Path:
    with np.load(digits / "digits.npz") as file:
        np.savez(tmp_path / "data.npz", image=file["image"][:120], label=file["label"][:120])
    return tmp_path / "data.npz"


def asked(digits, data, metric, folder) -> Request:
    job = FitJob(model=str(digits / "digits.onnx"), data=str(data), metric=f"{metric}:judge", runtimes=["null"])
    return Request(job=job, out=folder / "fit", cache=folder / "cache")


def test_a_job_is_another_when_its_metric_is_edited_or_its_state_differs(digits, data, metric, tmp_path):
    request = asked(digits, data, metric, tmp_path)
    first = describe(request, lambda text: None)
    assert describe(request, lambda text: None).digest == first.digest
    metric.write_text(HARSH)
    edited = describe(request, lambda text: None)
    assert edited.data_hashes == first.data_hashes
    assert edited.digest != first.digest
    assert replace(first, state={"h": "hn"}).digest != first.digest


def test_what_passes_made_by_looking_at_quality_is_made_anew_when_the_metric_is_edited(
    digits, data, metric, tmp_path, conditions
):
    request = asked(digits, data, metric, tmp_path)
    first = describe(request, lambda text: None)
    metric.write_text(HARSH)
    edited = describe(request, lambda text: None)

    def keys(job, units=(0, 1)) -> list[str]:
        builder = Builder(job, request.cache, conditions)
        builder.score = {"units": list(units)}
        return [builder._key((spec("clean"), spec(name))) for name in ("quantize_static", "float_islands")]

    assert keys(edited)[0] == keys(first)[0]
    assert keys(edited)[1] != keys(first)[1]
    assert keys(first, units=(0, 1, 2))[1] != keys(first)[1]


@pytest.mark.slow
def test_the_same_command_after_the_metric_was_edited_judges_anew(dovetail, digits, data, metric):
    def reference() -> float:
        wishes = ["--metric", f"{metric}:judge", "--max-drop", "1", "--runtime", "null", "--budget", "6s", "--out", "fit"]
        done = dovetail("optimize", digits / "digits.onnx", "--data", data, *wishes, "--json")
        assert done.returncode == 0, done.stderr
        found = [c["quality"]["reference"] for c in json.loads(done.stdout)["candidates"] if c["quality"]]
        assert found
        return found[0]

    first = reference()
    metric.write_text(HARSH)
    assert first != 0.25
    assert reference() == 0.25
