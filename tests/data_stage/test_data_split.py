from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_helpers import request_for, spec
from hypothesis import given
from hypothesis import strategies as st

from dovetail.core.errors import DataError
from dovetail.data.prepare import DataFiles, open_splits, prepare_splits
from dovetail.data.split import split_units, units_of

VECTOR = spec("x", "N", 4)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=80), st.integers(0, 3))
def test_every_sample_is_used_once_and_units_stay_whole(groups: list[int], seed: int) -> None:
    array = np.array(groups)
    split = split_units(None, array, seed=seed)
    parts = [split.calibration, split.selection, split.certification]
    n_units = len(set(groups))
    if n_units == 1:
        assert parts[0].tolist() == parts[1].tolist() == list(range(len(groups))) and not len(parts[2])
        return
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(groups)))
    owners = [set(array[part].tolist()) for part in parts]
    assert not (owners[0] & owners[1] or owners[0] & owners[2] or owners[1] & owners[2])
    assert all(len(part) for part in parts[: min(3, n_units)])


def test_sizes_strata_and_seeds() -> None:
    labels = np.repeat(np.arange(10), 200)
    split = split_units(labels, np.arange(2000), seed=0)
    assert [len(p) for p in (split.calibration, split.selection, split.certification)] == [200, 600, 1200]
    counts = np.bincount(labels[split.certification])
    assert counts.min() >= 119 and counts.max() <= 121
    again, other = (split_units(labels, np.arange(2000), seed=s) for s in (0, 1))
    assert np.array_equal(split.selection, again.selection) and not np.array_equal(split.selection, other.selection)
    many = split_units(None, np.arange(10_000), seed=0)
    assert (len(many.calibration), len(many.selection)) == (512, 3000)


def test_few_units_say_what_is_missing() -> None:
    assert "1 independent unit" in split_units(None, np.zeros(1875, int), seed=0).notes[0]
    two = split_units(None, np.array([0, 1]), seed=0)
    assert len(two.certification) == 0 and "nothing is left to certify" in two.notes[0]
    six = split_units(None, np.arange(6), seed=0)
    assert [len(p) for p in (six.calibration, six.selection, six.certification)] == [1, 1, 4] and not six.notes


def test_units_keep_the_order_of_samples() -> None:
    assert [u.tolist() for u in units_of(np.array([7, 3, 7, 3, 1]))] == [[0, 2], [1, 3], [4]]


def test_cifar10_is_split_checked_and_stratified(tmp_path: Path, shared_data: Path) -> None:
    from dovetail.data.job import FitJob

    job = FitJob.model_validate({"inputs": {"input": {"layout": "NHWC->NCHW", "scale": 1 / 255}}})
    request = job.request((spec("input", "N", 3, 32, 32),))
    path = shared_data / "cifar10" / "cifar10_test_mini1000.npz"
    splits = prepare_splits(DataFiles(data=path), request, tmp_path, seed=0)
    assert [len(s) for s in splits.present()] == [100, 300, 600] and splits.warnings == ()
    reopened = open_splits(tmp_path)
    assert [s.content_hash for s in reopened.present()] == [s.content_hash for s in splits.present()]
    labels = reopened.certification.labels
    assert labels is not None and np.bincount(labels).max() - np.bincount(labels).min() <= 45
    with np.load(path) as data:
        pixels, truth = data["x"], data["y"]
    sample = reopened.selection.sample(0)
    fed = np.rint(sample.feeds["input"][0].transpose(1, 2, 0) * 255).astype(np.uint8)
    (at,) = np.flatnonzero((pixels == fed).all(axis=(1, 2, 3)))
    assert truth[at] == sample.label


def test_three_files_are_taken_as_they_are_and_overlap_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((30, 4)).astype(np.float32), np.arange(30) % 2
    files = DataFiles(calibrate=(x[:10], y[:10]), select=(x[10:20], y[10:20]), certify=(x[15:30], y[15:30]))
    splits = prepare_splits(files, request_for(VECTOR), tmp_path)
    assert [len(s) for s in splits.present()] == [10, 10, 15]
    assert splits.warnings == ("5 of 15 samples of certification also lie in selection",)
    again = DataFiles(select=(x[:20], y[:20]), certify=(x[20:], y[20:]))
    assert "no calibration data" in prepare_splits(again, request_for(VECTOR), tmp_path / "b").warnings[0]


def test_repeated_samples_in_one_file_are_told(tmp_path: Path) -> None:
    x = np.repeat(np.random.default_rng(0).random((10, 4)), 2, axis=0)
    splits = prepare_splits(DataFiles(data={"x": x}), request_for(VECTOR), tmp_path)
    assert "10 of 20 samples occur more than once" in splits.warnings[0]


def test_data_given_twice_or_without_selection() -> None:
    for kwargs in ({}, {"data": "a", "select": "b"}, {"certify": "c"}):
        with pytest.raises(DataError):
            DataFiles(**kwargs)
