"""Model files are built once, in child processes, and a failure is an outcome that can be repeated."""

import json
import subprocess

from dovetail.core.outcome import Infeasible
from dovetail.core.recipe import Recipe
from dovetail.search.space import spec


def recipe(*passes) -> Recipe:
    return Recipe(passes=passes, runtime="null")


def test_a_chain_is_built_once_and_shares_its_steps(builder, tmp_path):
    assert builder.build(recipe()).model.path.name == "digits.onnx"
    first = builder.build(recipe(spec("clean")))
    assert builder.built == 1
    assert builder.build(recipe(spec("clean"))) == first
    assert first.model.path.is_relative_to(tmp_path / "cache")
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


def test_a_failing_pass_is_an_outcome_that_can_be_repeated(builder, tmp_path):
    failing = recipe(spec("clean"), spec("static_shapes", dims=["nosuch=7"]))
    outcome = builder.build(failing)
    assert isinstance(outcome, Infeasible)
    assert outcome.stage == "build"
    assert builder.build(failing) is outcome
    models = tmp_path / "cache" / "models"
    assert len(list(models.glob("*/built.json"))) == len(list(models.iterdir())) == 1
    again = subprocess.run(outcome.reproduce, shell=True, capture_output=True, text=True, timeout=60)
    assert json.loads(again.stdout.splitlines()[-1])["error"] == outcome.reason
