"""Several models at once, none of them timed."""

from dataclasses import replace

import pytest

from dovetail.core.outcome import Infeasible
from dovetail.core.recipe import Recipe, freeze
from dovetail.measure.arena import Contestant
from dovetail.pipeline.side_by_side import AT_ONCE, side_by_side


def contestant(job, name, runtime="null", **options):
    return Contestant(recipe=Recipe(runtime=runtime, options=freeze(options)), model=job.original, name=name)


def test_results_come_in_order_and_a_failure_is_its_own(job, conditions):
    names = ["a", "broken", "c", "d"]
    sides = [contestant(job, name, **({"unknown": 1} if name == "broken" else {})) for name in names]
    found = side_by_side(sides, conditions, job.environment, lambda runner, at: (names[at], runner.peak_memory_bytes() > 1e6))
    assert [got for got in found if not isinstance(got, Infeasible)] == [("a", True), ("c", True), ("d", True)]
    assert isinstance(found[1], Infeasible) and "no option" in found[1].reason


@pytest.mark.parametrize(("runtime", "shown"), [("onnxruntime", True), ("null", False)])
def test_the_cores_are_shared_out_where_a_runtime_can_be_told(runtime, shown, job, conditions):
    machine = replace(job.environment, cores=8)
    sides = [contestant(job, name, runtime, **({"threads": 8} if shown else {})) for name in "xy"]
    recipe, _ = side_by_side(sides, conditions, machine, lambda runner, at: runner.contestant.recipe)
    assert recipe.settings.get("threads") == (8 // AT_ONCE if shown else None)
