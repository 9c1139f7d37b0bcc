"""The journal: what was finished stays, byte for byte; what was not is dropped; another job's is never overwritten."""

import json
import subprocess
import sys

import pytest

from dovetail.core.errors import StorageError
from dovetail.search.journal import Journal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def test_rows_come_back_in_order(path):
    journal = Journal(path, "job")
    journal.add("trial", "a", {"record": {"x": 1}})
    journal.add("other", "a", {})
    journal.add("trial", "b", {"record": {"µ": None}})
    again = Journal(path, "job")
    assert again.rows == journal.rows
    assert [row["key"] for row in again.of("trial")] == ["a", "b"]
    assert again.find("trial", "b") == {"kind": "trial", "key": "b", "record": {"µ": None}}
    assert again.find("trial", "c") is None


def test_resuming_leaves_finished_rows_byte_identical(path):
    Journal(path, "job").add("trial", "a", {"record": {"value": 0.1}})
    before = path.read_bytes()
    journal = Journal(path, "job")
    assert path.read_bytes() == before
    journal.add("trial", "b", {})
    assert path.read_bytes().startswith(before)


@pytest.mark.parametrize("torn", [b'{"kind": "trial", "rec', b'{"kind": "trial", "key": "b"}', b"\x00\x00", b"\xff\n", b"7\n"])
def test_a_torn_last_line_is_dropped(path, torn):
    Journal(path, "job").add("trial", "a", {})
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    journal = Journal(path, "job")
    assert [row["key"] for row in journal.rows] == ["a"]
    assert path.read_bytes() == whole
    journal.add("trial", "b", {})
    assert [row["key"] for row in Journal(path, "job").rows] == ["a", "b"]


STRANGERS = [
    b"",
    b"not json\n",
    b"[]\n",
    b'"text"\n',
    b'{"kind": "job", "schema": 1, "job": "theirs"}\n',
    b'{"kind": "job", "schema": 99, "job": "job"}\n',
]


@pytest.mark.parametrize("other", STRANGERS)
def test_a_journal_of_another_job_is_set_aside(path, other):
    path.write_bytes(other)
    for number in (1, 2):
        journal = Journal(path, "job")
        assert not journal.rows
        assert path.with_name("journal-1.jsonl").read_bytes() == other
        assert json.loads(path.read_bytes())["job"] == "job"
        assert not path.with_name("journal-2.jsonl").exists(), number


def test_several_journals_are_set_aside_under_names_of_their_own(path):
    for job in ("one", "two", "three"):
        Journal(path, job).add("trial", job, {})
    names = {json.loads(p.read_text().splitlines()[-1])["key"]: p.name for p in path.parent.iterdir()}
    assert names == {"one": "journal-1.jsonl", "two": "journal-2.jsonl", "three": "journal.jsonl"}


def test_its_folder_is_made(path):
    deep = path.parent / "not" / "there" / "journal.jsonl"
    Journal(deep, "job").add("trial", "a", {})
    assert len(deep.read_text().splitlines()) == 2


def test_a_folder_that_cannot_be_made_is_a_storage_error(path):
    path.write_text("a file")
    with pytest.raises(StorageError, match="cannot write the journal"):
        Journal(path / "journal.jsonl", "job")


def test_a_killed_writer_leaves_whole_rows(path):
    script = (
        "import os, sys; from pathlib import Path; from dovetail.search.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), 'job')\n"
        "for number in range(5): journal.add('trial', str(number), {})\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], timeout=60)
    assert [row["key"] for row in Journal(path, "job").rows] == list("01234")
