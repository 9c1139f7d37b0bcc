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


def test_an_output_folder_that_was_there_stays(asked):
    asked.out.mkdir()
    (asked.out / "mine").write_text("kept")
    asked.claim_out()
    assert [p.name for p in asked.out.iterdir()] == ["mine"]


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
