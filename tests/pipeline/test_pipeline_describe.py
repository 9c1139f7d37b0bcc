"""What is checked before anything runs."""

import pytest

from dovetail.core.errors import InputError, StorageError
from dovetail.data.job import FitJob
from dovetail.devices.probe import environment
from dovetail.pipeline.describe import ISA_TARGETS, Request, cache_folder, restricted


@pytest.fixture
def asked(tmp_path) -> Request:
    return Request(job=FitJob(), out=tmp_path / "fit", cache=tmp_path / "cache")


def test_a_new_output_folder_is_checked_but_not_kept(asked):
    assert asked.claim_out() == asked.out
    assert not asked.out.exists()


def test_an_empty_output_folder_stays(asked):
    asked.out.mkdir()
    asked.claim_out()
    assert asked.out.is_dir() and not list(asked.out.iterdir())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"models/net.onnx": ""}, "what it holds is no fit"),
        ({"journal.jsonl": '{"kind": "diary"}'}, "what it holds is no fit"),
        ({"manifest.json": '{"name": "a web application"}'}, "its manifest.json is no earlier fit's"),
        ({"journal.jsonl": '{"kind": "job", "schema": 1}', "run.py": "mine"}, "run.py is there, and is no earlier fit's"),
    ],
)
def test_an_output_folder_that_is_somebody_elses_is_refused(asked, files, message):
    for name, text in files.items():
        (asked.out / name).parent.mkdir(parents=True, exist_ok=True)
        (asked.out / name).write_text(text)
    with pytest.raises(InputError, match=message):
        asked.claim_out()
    assert {p.relative_to(asked.out).as_posix() for p in asked.out.rglob("*") if p.is_file()} == files.keys()
    assert not asked.cache.exists()


@pytest.mark.parametrize("rows", ['{"kind": "job", "schema": 1}\n', '{"kind": "jo', ""])
def test_an_output_folder_with_a_journal_goes_on(asked, rows):
    """A kill may have cut its first row short."""
    asked.out.mkdir()
    (asked.out / "journal.jsonl").write_text(rows)
    (asked.out / "notes.txt").write_text("mine")
    assert asked.claim_out() == asked.out


def test_an_output_folder_with_an_artifact_is_taken(asked, fitted):
    assert Request(job=FitJob(), out=fitted / "fit", cache=asked.cache).claim_out() == fitted / "fit"


def test_an_output_that_cannot_be_a_folder_is_a_storage_error(asked):
    asked.out.write_text("a file")
    with pytest.raises(StorageError, match="cannot write there"):
        asked.claim_out()


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("DOVETAIL_CACHE", raising=False)
    assert cache_folder() == tmp_path / "dovetail"
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_a_target_restricts_the_instruction_sets():
    here = environment()
    assert restricted(here, None) == here
    assert restricted(here, "avx2").isa == ISA_TARGETS["avx2"]
    assert restricted(here, "avx2").cores == here.cores
    with pytest.raises(InputError, match="no target 'z80'"):
        restricted(here, "z80")
