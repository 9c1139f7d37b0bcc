"""One trial: built, timed beside the anchor, and checked against the original."""

import os
import signal

import pytest

from dovetail.core.errors import ModelError
from dovetail.core.measurement import Interval
from dovetail.core.outcome import CandidateRecord, Fate
from dovetail.core.recipe import PassSpec, Recipe, freeze
from dovetail.pipeline.trials import Trials, spread, usual_speedup
from dovetail.search.goal import Goal
from dovetail.search.race import Race
from dovetail.search.space import Proposal, spec


def proposal(*passes, runtime="null", **options) -> Proposal:
    recipe = Recipe(passes=passes, runtime=runtime, options=freeze(options))
    return Proposal(
        recipe=recipe,
        label=str(recipe),
        baseline=not passes,
        family=recipe.key,
        twin="",
        quality_key=recipe.key,
        gain=(1.0, 1.0),
        lossless=True,
    )


@pytest.fixture
def trials(job, builder, conditions, tmp_path):
    (tmp_path / "rows").mkdir()
    subject = Trials(job, builder, conditions, tmp_path / "rows")
    yield subject
    subject.close()


def race(*proposals) -> Race:
    return Race(proposals, Goal())


def test_a_trial_is_timed_beside_the_anchor(trials):
    original, clean = proposal(), proposal(spec("clean"))
    trials.open([original])
    record = trials.run(clean, race(original, clean))
    assert record.infeasible is None
    assert record.fate is Fate.RUNNER_UP
    assert record.speedup.low <= record.speedup.point <= record.speedup.high
    assert record.size_bytes > 1e5
    assert record.memory_bytes > 1e6


def test_an_anchor_that_was_killed_costs_no_candidate_its_trial(trials):
    original = proposal()
    trials.open([original])
    for _ in range(2):
        os.kill(trials.anchors.main.child._process.pid, signal.SIGKILL)
        assert trials.run(original, race(original)).infeasible is None


def test_outputs_that_differ_without_data_to_judge_them_are_infeasible(trials):
    """The null runtime answers zeros, which is not what the network computes."""
    original, wrong = proposal(runtime="onnxruntime", threads=1), proposal()
    trials.open([original])
    outcome = trials.run(wrong, race(original, wrong)).infeasible
    assert outcome.stage == "quality"
    assert "outputs differ from the original's" in outcome.reason
    assert "dovetail.worker" in outcome.reproduce


def test_a_model_that_runs_nowhere_names_every_runtime_with_its_reason(trials):
    impossible = [proposal(runtime="onnxruntime", threads=0), proposal(runtime="null", delay_s=-1)]
    with pytest.raises(ModelError) as error:
        trials.open(impossible)
    assert "threads cannot be 0 in onnxruntime" in str(error.value)
    assert "delay_s cannot be -1 in null" in str(error.value)


def test_indices_are_spread_evenly():
    assert spread(3, 9) == [0, 3, 6]
    assert spread(9, 3) == [0, 1, 2]


def test_training_does_not_change_the_time(trials) -> None:
    def looked_at(speedup: float, *passes: PassSpec) -> CandidateRecord:
        near = Interval(point=speedup, low=speedup, high=speedup)
        return CandidateRecord(recipe=proposal(*passes).recipe, fate=Fate.RUNNER_UP, reason="", speedup=near)

    less, rounding = spec("prune_blocks", count=3), spec("quantize_static", method="minmax")
    trained, aware = spec("distil", epochs=9), spec("quantize_aware", method="minmax", epochs=2)
    shapes = [(less, rounding), (less, trained, rounding), (trained, rounding), (less,)]
    subject = race(*map(lambda passes: proposal(*passes), shapes))
    for speedup, passes in zip((2.0, 3.0, 1.0, 1.5), shapes, strict=True):
        subject.tell(looked_at(speedup, *passes))
    assert usual_speedup(subject, proposal(less, trained, aware).recipe) == 2.5
    assert usual_speedup(subject, proposal(less, trained, trained).recipe) == 1.5
    assert usual_speedup(subject, proposal(less).recipe) is None
    assert usual_speedup(subject, proposal(spec("prune_blocks", count=4), trained).recipe) is None


def test_an_odd_look_is_taken_again(trials, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([0.5, 0.6, 2.0, 2.0])
    monkeypatch.setattr(trials, "_look", lambda runner: (None, Interval(point=(x := next(looks)), low=x, high=x)))
    assert trials._looked(None, usual=1.0)[1].point == 2.0
    assert next(looks, None) == 2.0
    monkeypatch.setattr(trials, "_look", lambda runner: (None, Interval(point=0.5, low=0.5, high=0.5)))
    assert trials._looked(None, usual=None)[1].point == trials._looked(None, usual=1.0)[1].point == 0.5
