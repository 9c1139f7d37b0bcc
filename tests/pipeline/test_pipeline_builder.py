"""Model files are built once, in child processes, and a failure is an outcome that can be repeated."""

import json
import subprocess

import pytest

from dovetail.core.errors import StorageError
from dovetail.core.outcome import Infeasible
from dovetail.core.recipe import Recipe
from dovetail.search.space import spec


def recipe(*passes) -> Recipe:
    return Recipe(passes=passes, runtime="null")


def test_a_chain_is_built_once_and_shares_its_steps(builder, request_):
    assert builder.build(recipe()).model.path.name == "digits.onnx"
    first = builder.build(recipe(spec("clean")))
    assert builder.built == 1
    assert builder.build(recipe(spec("clean"))) == first
    assert first.model.path.is_relative_to(request_.cache)
    assert first.model.size_bytes() > 1e5
    longer = builder.build(recipe(spec("clean"), spec("static_shapes", dims=["N=1"])))
    assert builder.built == 2
    assert longer.model.path != first.model.path
    assert longer.seconds > first.seconds


def test_what_a_killed_build_left_is_built_again(builder):
    model = builder.build(recipe(spec("clean"))).model
    whole = model.path.read_bytes()
    (model.path.parent / "built.json").unlink()
    model.path.write_bytes(b"half")
    assert builder.build(recipe(spec("clean"))).model.path.read_bytes() == whole
    assert builder.built == 2


def test_a_failing_pass_is_an_outcome_that_can_be_repeated(builder, request_):
    failing = recipe(spec("clean"), spec("static_shapes", dims=["nosuch=7"]))
    outcome = builder.build(failing)
    assert isinstance(outcome, Infeasible)
    assert outcome.stage == "build"
    assert builder.build(failing) is outcome
    assert len(list((request_.cache / "models").glob("*/built.json"))) == len(list((request_.cache / "models").iterdir())) == 1
    again = subprocess.run(outcome.reproduce, shell=True, capture_output=True, text=True, timeout=60)
    assert json.loads(again.stdout.splitlines()[-1])["error"] == outcome.reason


def test_a_new_output_folder_is_checked_but_not_kept(request_, tmp_path):
    assert request_.claim_out() == tmp_path / "fit"
    assert not (tmp_path / "fit").exists()


def test_an_output_folder_that_was_there_stays(request_, tmp_path):
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit" / "mine").write_text("kept")
    request_.claim_out()
    assert [p.name for p in (tmp_path / "fit").iterdir()] == ["mine"]


def test_an_output_that_cannot_be_a_folder_is_a_storage_error(request_, tmp_path):
    (tmp_path / "fit").write_text("a file")
    with pytest.raises(StorageError, match="cannot write there"):
        request_.claim_out()
