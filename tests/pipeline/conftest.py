"""A fit of the digits network on the null runtime, described but not run."""

from pathlib import Path

import pytest

from dovetail.data.job import FitJob
from dovetail.measure.arena import Conditions
from dovetail.pipeline.builder import Builder
from dovetail.pipeline.describe import Request, describe
from dovetail.pipeline.job import Job


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Job:
    folder = tmp_path_factory.mktemp("described")
    wishes = FitJob(model=str(digits / "digits.onnx"), runtimes=["null"])
    return describe(Request(job=wishes, out=folder / "fit", cache=folder / "cache"), lambda text: None)


@pytest.fixture
def conditions(job: Job, tmp_path: Path) -> Conditions:
    timing = job.splits["timing"].folder
    return Conditions(split=timing, indices=job.timing_indices, batch=1, logs=tmp_path / "logs", memory_limit_bytes=4e9)


@pytest.fixture
def builder(job: Job, tmp_path: Path, conditions: Conditions) -> Builder:
    return Builder(job, tmp_path / "cache", conditions)
