"""The CIFAR-10 example: its parts are apart, and every network gets its images as it was trained on them."""

from pathlib import Path

import numpy as np
import pytest
from fitting import EXAMPLES, described, few_images, linked, made, quality, script

from dovetail.search.space import spec


@pytest.fixture
def jobs(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Jobs on the first images only."""
    images = tmp_path / "shared" / "data" / "cifar10"
    images.mkdir(parents=True)
    for name, count in (("cifar10_test.npz", 240), ("cifar10_train_10k.npz", 600)):
        few_images(shared_data / "cifar10" / name, images / name, count)
    for name in ("cifar10_resnets", "mlperf_tiny"):
        linked(shared_data / name, images.parent / name)
    monkeypatch.setenv("DOVETAIL_SHARED", str(tmp_path / "shared"))
    paths = script(EXAMPLES / "cifar10" / "prepare.py").prepare(tmp_path / "jobs", select=40)
    return {path.stem: path for path in paths}


def test_no_image_serves_two_ends(jobs: dict[str, Path]) -> None:
    parts = {}
    for part in ("calibrate", "select", "certify", "train"):
        with np.load(jobs["resnet8"].parent / f"{part}.npz") as file:
            parts[part] = {image.tobytes() for image in file["x"]}
    assert {part: len(images) for part, images in parts.items()} == {
        "calibrate": 512, "select": 40, "certify": 200, "train": 600,
    }  # fmt: skip
    assert not parts["select"] & parts["certify"] and not parts["train"] & (parts["select"] | parts["certify"])
    assert parts["calibrate"] < parts["train"]


@pytest.mark.parametrize("name", ["resnet8", "resnet20", "resnet56"])
def test_the_network_reads_its_images_right(jobs: dict[str, Path], tmp_path: Path, name: str) -> None:
    job = described(jobs[name], tmp_path)
    assert job.trained and job.splits["training"].samples == 600
    assert quality(job, job.original) > 0.8


@pytest.mark.slow
@pytest.mark.torch
def test_a_network_without_a_block_learns_from_the_original(jobs: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    job = described(jobs["resnet20"], tmp_path)
    shorter = made(job, tmp_path, spec("prune_blocks", count=2))
    trained = made(job, tmp_path, spec("prune_blocks", count=2), spec("distil", epochs=2))
    assert shorter.size_bytes() < job.original.size_bytes()
    assert quality(job, trained) > 0.6
