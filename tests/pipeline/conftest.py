"""A fit of the digits network on the null runtime, described but not run."""

from pathlib import Path

import pytest

from dovetail.data.job import FitJob
from dovetail.measure.arena import Conditions
from dovetail.pipeline.builder import Builder
from dovetail.pipeline.describe import Request, describe
from dovetail.pipeline.job import Job


@pytest.fixture
def request_(tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    job = FitJob(model=str(digits / "digits.onnx"), runtimes=["null"])
    return Request(job=job, out=tmp_path / "fit", cache=tmp_path / "cache")


@pytest.fixture
def job(request_: Request) -> Job:
    return describe(request_, lambda text: None)


@pytest.fixture
def conditions(job: Job, tmp_path: Path) -> Conditions:
    timing = job.splits["timing"].folder
    return Conditions(split=timing, indices=job.timing_indices, batch=1, logs=tmp_path / "logs", memory_limit_bytes=4e9)


@pytest.fixture
def builder(job: Job, request_: Request, conditions: Conditions) -> Builder:
    return Builder(job, request_.cache, conditions)
