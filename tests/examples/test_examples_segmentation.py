"""The U-Net example: its pictures, its metric, its network, and a fit's steps on them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from fitting import EXAMPLES, described, made, quality, script

from dovetail.data.metrics import get_metric
from dovetail.search.space import spec

HERE = EXAMPLES / "segmentation"
FEW = {"train": 320, "select": 40, "certify": 60}


def test_a_mask_says_where_the_shapes_are() -> None:
    shapes = script(HERE / "shapes.py")
    pictures, masks = shapes.draw(60, seed=1)
    assert pictures.shape == (60, 1, 48, 48) and pictures.dtype == np.float32 and masks.shape == (60, 48, 48)
    assert set(np.unique(masks)) == set(range(len(shapes.CLASSES)))
    assert 0.5 < (masks == 0).mean() < 0.9
    background = np.abs(pictures[:, 0][masks == 0] - 0.4).mean()
    assert np.abs(pictures[:, 0][masks > 0] - 0.4).mean() > 2 * background
    assert all(np.array_equal(a, b) for a, b in zip(shapes.draw(3, seed=1), (pictures[:3], masks[:3]), strict=True))


def test_the_metric_is_the_intersection_over_union() -> None:
    metric = script(HERE / "metric.py")
    rng = np.random.default_rng(0)
    scores, masks = rng.normal(size=(5, 4, 6, 6)), rng.integers(0, 3, (5, 6, 6))
    rows = np.stack([metric.mean_iou({"scores": y[None]}, mask) for y, mask in zip(scores, masks, strict=True)])
    built_in = get_metric("iou")
    assert metric.aggregate(rows) == pytest.approx(built_in.value(built_in.sample_rows(scores, masks)))
    right = np.stack([metric.mean_iou({"scores": np.eye(4)[mask].transpose(2, 0, 1)[None]}, mask) for mask in masks])
    assert metric.aggregate(right) == 1.0


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The job's folder, with a narrow network that saw few pictures."""
    pytest.importorskip("torch")
    for name in ("fit.yaml", "metric.py"):
        shutil.copyfile(HERE / name, tmp_path / name)
    script(HERE / "make.py").make(tmp_path / "made", FEW, epochs=4, width=8)
    return tmp_path


@pytest.mark.slow
@pytest.mark.torch
def test_the_network_that_is_made_suits_the_job(example: Path) -> None:
    job = described(example / "fit.yaml", example)
    assert job.trained and {name: job.splits[f"{name}ion"].samples for name in ("select", "certificat")} == {
        "select": 40, "certificat": 60,
    }  # fmt: skip
    assert 0.3 < quality(job, job.original) < 1


@pytest.mark.slow
@pytest.mark.torch
def test_a_smaller_network_learns_from_the_first(example: Path) -> None:
    job = described(example / "fit.yaml", example)
    less = spec("prune_channels", ratio=0.25, scope="global", importance="l1", align=2)
    pruned = made(job, example, less)
    trained = made(job, example, less, spec("distil", epochs=4))
    assert pruned.size_bytes() < 0.9 * job.original.size_bytes()
    assert quality(job, pruned) < quality(job, trained)
