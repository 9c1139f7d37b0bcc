from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_helpers import spec

from dovetail.core.errors import DataError, StorageError
from dovetail.core.protocols import Dataset
from dovetail.data.dataset import open_split, write_split, write_view
from dovetail.data.looks import looks, record_look


def _samples(n: int):
    for i in range(n):
        yield {"x": np.full((1, 3), i, np.float32), "sr": np.array(16000)}, i // 2, i % 2


SPECS = [spec("x", "N", 3), spec("sr", dtype="int64")]


def test_a_split_reads_back_what_was_written(tmp_path: Path) -> None:
    write_split(tmp_path / "s", _samples(6), SPECS, name="selection")
    split = open_split(tmp_path / "s")
    assert isinstance(split, Dataset)
    assert (split.name, len(split)) == ("selection", 6)
    assert split.groups.tolist() == [0, 0, 1, 1, 2, 2]
    assert split.labels is not None and split.labels.tolist() == [0, 1, 0, 1, 0, 1]
    sample = split.sample(4)
    assert sample.feeds["x"].tolist() == [[4.0, 4.0, 4.0]] and sample.feeds["sr"] == 16000 and sample.label == 0
    feeds = split.batch([1, 5])
    assert feeds is not None and feeds["x"][:, 0].tolist() == [1, 5] and feeds["sr"].shape == ()


def test_ragged_inputs_and_labels(tmp_path: Path) -> None:
    def samples():
        for length in (2, 5, 2):
            yield {"x": np.arange(length, dtype=np.int64)[None]}, length, np.arange(length)

    split = write_split(tmp_path / "s", samples(), [spec("x", "N", "T", dtype="int64")])
    assert split.sample(1).feeds["x"].shape == (1, 5)
    assert split.batch([0, 1]) is None
    assert split.batch([0, 2])["x"].shape == (2, 2)
    assert split.labels[1].tolist() == [0, 1, 2, 3, 4]


def test_text_labels_and_none(tmp_path: Path) -> None:
    feeds = {"x": np.zeros((1, 1), np.float32)}
    text = write_split(tmp_path / "t", [(feeds, 0, "cat"), (feeds, 1, "a longer name")], [spec("x", "N", 1)])
    assert text.labels.tolist() == ["cat", "a longer name"]
    bare = write_split(tmp_path / "n", [(feeds, 0, None)], [spec("x", "N", 1)])
    assert bare.labels is None and bare.sample(0).label is None


def test_labels_that_cannot_be(tmp_path: Path) -> None:
    feeds = {"x": np.zeros((1, 1), np.float32)}
    for bad, message in ((np.nan, "sample 1 holds nan"), ({"a": 1}, "sample 1 is a dict"), (None, "sample 1 lacks a label")):
        with pytest.raises(DataError, match=message):
            write_split(tmp_path / "s", [(feeds, 0, 1.0), (feeds, 1, bad)], [spec("x", "N", 1)])
    masks = [(feeds, i, np.zeros((2, 2), np.uint8)) for i in range(2)]
    assert write_split(tmp_path / "m", masks, [spec("x", "N", 1)]).labels.dtype == np.uint8


def test_views_share_storage_and_hash_by_content(tmp_path: Path) -> None:
    whole = write_split(tmp_path / "all", _samples(6), SPECS)
    view = write_view(tmp_path / "v", whole, [4, 5], name="certification")
    assert view.batch([0, 1])["x"][:, 0].tolist() == [4, 5]
    assert view.labels.tolist() == [0, 1]
    twin = write_split(tmp_path / "twin", list(_samples(6))[4:], SPECS)
    assert view.content_hash == twin.content_hash != whole.content_hash
    assert write_view(tmp_path / "w", view, [1], name="one").sample(0).feeds["x"][0, 0] == 5


def test_the_hash_follows_labels(tmp_path: Path) -> None:
    feeds = {"x": np.zeros((1, 1), np.float32)}
    hashes = {write_split(tmp_path / str(y), [(feeds, 0, y)], [spec("x", "N", 1)]).content_hash for y in (0, 1)}
    assert len(hashes) == 2


@pytest.mark.parametrize("kind", ["missing", "schema", "truncated"])
def test_a_damaged_split_is_told(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "s"
    write_split(folder, _samples(6), SPECS)
    if kind == "missing":
        (folder / "groups.npy").unlink()
    elif kind == "schema":
        (folder / "split.json").write_text('{"schema": 99}')
    else:
        data = (folder / "input0.npy").read_bytes()
        (folder / "input0.npy").write_bytes(data[:-8])
    with pytest.raises(DataError, match=str(folder)):
        open_split(folder)


def test_nothing_is_left_of_a_split_that_failed(tmp_path: Path) -> None:
    def broken():
        yield from _samples(2)
        raise DataError("sample 2 is bad")

    with pytest.raises(DataError, match="sample 2"):
        write_split(tmp_path / "s", broken(), SPECS)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="no sample"):
        write_split(tmp_path / "s", [], SPECS)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_split(tmp_path / "file" / "s", _samples(2), SPECS)


def test_looks_are_counted_across_runs(tmp_path: Path) -> None:
    assert [record_look(tmp_path / "cache", "abc") for _ in range(3)] == [1, 2, 3]
    assert record_look(tmp_path / "cache", "def") == 1
    assert looks(tmp_path / "cache", "abc") == 3
