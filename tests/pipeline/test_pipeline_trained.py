"""Samples to train on: what they may not be, and a whole fit that trains."""

import json
from pathlib import Path

import numpy as np
import pytest

from dovetail.core.errors import InputError
from dovetail.data.dataset import open_split
from dovetail.data.job import FitJob
from dovetail.pipeline.describe import Request, describe
from dovetail.pipeline.job import Job


def described(digits: Path, folder: Path, **wishes: object) -> Job:
    wanted = FitJob.model_validate({"model": str(digits / "digits.onnx"), "runtimes": ["null"], **wishes})
    return describe(Request(job=wanted, out=folder / "fit", cache=folder / "cache"), lambda text: None)


@pytest.fixture
def parts(digits: Path, tmp_path: Path) -> dict[str, str]:
    """The 1,000 images: 300 select, 300 certify, 400 train, of which the first 100 also select."""
    with np.load(digits / "digits.npz") as file:
        images, labels = file["image"], file["label"]
    taken = {"select": slice(0, 300), "certify": slice(300, 600), "train": np.r_[0:100, 600:900]}
    for name, rows in taken.items():
        np.savez(tmp_path / f"{name}.npz", image=images[rows], label=labels[rows])
    return {name: str(tmp_path / f"{name}.npz") for name in taken}


def test_samples_that_judge_are_not_trained_on(digits: Path, parts: dict[str, str], tmp_path: Path) -> None:
    data = {"select": parts["select"], "certify": parts["certify"]}
    job = described(digits, tmp_path, data=data, train=parts["train"], metric="accuracy", train_budget="90s")
    assert job.trained and job.wish.train_budget_s == 90
    training = open_split(job.splits["training"].folder)
    assert len(training) == 300
    assert not set(training.digests) & set(open_split(job.splits["selection"].folder).digests)
    assert any("100 training samples also select or certify" in warning for warning in job.warnings)


def test_training_alone_judges_nothing(digits: Path, parts: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data that judge"):
        described(digits, tmp_path, train=parts["train"])
    with pytest.raises(InputError, match="samples to train on"):
        described(digits, tmp_path, data=parts["select"], train_budget="10m")
    with pytest.raises(InputError, match="every training sample also selects"):
        described(digits, tmp_path, data={"select": parts["select"], "certify": parts["certify"]}, train=parts["select"])


@pytest.mark.slow
def test_a_fit_that_trains_hands_out_a_smaller_faster_network(
    dovetail, digits: Path, parts: dict[str, str], tmp_path: Path
) -> None:
    data = ["--select", parts["select"], "--certify", parts["certify"], "--train", parts["train"]]
    times = ["--budget", "120s", "--train-budget", "120s"]
    done = dovetail("optimize", digits / "digits.onnx", *data, *times, "--max-drop", "4pp", "--out", "fit", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    trained = [c for c in result["candidates"] if any(p["name"] == "distil" for p in c["recipe"]["passes"])]
    assert trained and all(c["quality"] or c["infeasible"] for c in trained)
    assert any(row["stage"] == "training" and row["seconds"] > 10 for row in result["ledger"])
    answer = next(c for c in result["candidates"] if c["recipe"]["key"] == result["winner"])
    if answer in trained:
        folder = tmp_path / "here/fit/models/answer"
        assert {"trained.onnx", "trained.safetensors", "trained.json"} <= {file.name for file in folder.iterdir()}


@pytest.mark.slow
def test_a_time_shorter_than_an_epoch_is_refused_and_loses_nothing(dovetail, digits: Path, parts: dict[str, str]) -> None:
    data = ["--select", parts["select"], "--certify", parts["certify"], "--max-drop", "4pp", "--out", "fit"]
    short = ["--train", parts["train"], "--train-budget", "10ms"]
    done = dovetail("optimize", digits / "digits.onnx", *data, *short)
    assert done.returncode == 2 and "are too short" in done.stderr and "Traceback" not in done.stderr
