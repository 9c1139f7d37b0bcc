"""Contestants in processes of their own: what is filed, in which order, and that one failure leaves the others alone."""

import itertools
import operator
import time
from dataclasses import replace

import pytest

from dovetail.core.measurement import Measurement
from dovetail.core.recipe import Recipe, freeze
from dovetail.measure.arena import Contestant, Duel, Runner, duel, screen
from dovetail.measure.child import ChildFailure
from dovetail.measure.timing import block, warm_up

SHORT = {"blocks": 2, "seconds": 0.01}


def contestant(model, name, runtime="null", **options):
    return Contestant(recipe=Recipe(runtime=runtime, options=freeze(options)), model=model, name=name)


def test_a_duel_files_every_round_of_fresh_processes(model, conditions):
    rounds: list[int] = []
    fast, slow = contestant(model, "fast"), contestant(model, "slow", delay_s=0.002)
    found = duel(
        [slow, fast],
        conditions,
        rounds=2,
        quantiles=lambda calls: {"max": max(calls)},
        on_round=lambda: rounds.append(1),
        **SHORT,
    )
    assert len(rounds) == len(found.rounds) == 2
    assert not found.failures
    for name in ("fast", "slow"):
        measurement = found.measurements[name]
        assert [len(blocks) for blocks in measurement.block_medians_s] == [2, 2]
        assert len(found.calls_s[name]) == measurement.calls >= 2 * 2 * len(conditions.indices)
        assert measurement.quantiles_s == {"max": max(found.calls_s[name])}
        assert measurement.peak_memory_bytes > 1e6
        assert measurement.load_s > 0
    assert all(ratio > 0 for ratio in found.log_ratios("fast", "slow"))
    assert found.log_ratios("slow", "fast") == pytest.approx([-ratio for ratio in found.log_ratios("fast", "slow")])


def test_recipes_are_told_apart_by_key_unless_they_are_named(model):
    recipe = Recipe(runtime="null")
    assert Contestant(recipe=recipe, model=model).key == recipe.key
    assert Contestant(recipe=recipe, model=model, name="again").key == "again"


@pytest.mark.parametrize(
    ("options", "stage", "reason"),
    [
        ({"on_build": "abort"}, "load", "SIGABRT"),
        ({"on_build": "raise"}, "load", "RuntimeError: first line"),
        ({"on_run": "nan"}, "run", "holds NaN or infinity"),
        ({"on_run": "kill"}, "feeds", "SIGKILL"),
        ({"on_run": "exit", "call": 30}, "warm", "exit code 3"),
    ],
)
def test_a_failure_leaves_the_others_alone(model, conditions, hostile, options, stage, reason):
    good, bad = contestant(model, "good"), contestant(model, "bad", runtime=hostile, **options)
    found = duel([bad, good], conditions, rounds=2, **SHORT)
    assert found.failures.keys() == {"bad"}
    assert found.failures["bad"].stage == stage
    assert "dovetail.worker" in found.failures["bad"].reproduce
    assert reason in found.failures["bad"].reason
    assert "bad" not in found.measurements
    assert [row.keys() for row in found.rounds] == [{"good"}, {"good"}]
    assert found.log_ratios("good", "bad") == []


def test_a_failure_in_a_timed_block_leaves_the_others_alone(model, conditions, monkeypatch):
    good, bad = contestant(model, "good"), contestant(model, "bad")
    original = Runner.block

    def block_that_dies(self, seconds):
        if self.contestant.key == "bad" and self.blocks_s:
            self.child._process.kill()
        return original(self, seconds)

    monkeypatch.setattr(Runner, "block", block_that_dies)
    found = duel([good, bad], conditions, rounds=2, **SHORT)
    assert found.failures["bad"].stage == "block"
    assert "SIGKILL" in found.failures["bad"].reason
    assert [row.keys() for row in found.rounds] == [{"good"}, {"good"}]


def test_a_quick_look_stands_beside_the_anchor(model, conditions):
    with (
        Runner(contestant(model, "anchor", delay_s=0.002), conditions) as anchor,
        Runner(contestant(model, "fast"), conditions) as fast,
    ):
        looked = screen(fast, anchor, blocks=2, seconds=0.01)
        assert fast.profile() is None
    assert len(looked.log_speedups) == 2
    assert looked.log_speedup > 0
    assert isinstance(looked.measurement, Measurement)
    assert len(looked.measurement.block_medians_s[0]) == 2


def test_batches_stack_samples(model, conditions):
    with Runner(contestant(model, "batched", runtime="onnxruntime", threads=1), replace(conditions, batch=3)) as runner:
        assert runner.block(0.01) > 0


def test_a_missing_model_file_is_a_failure_with_a_command_that_repeats_it(model, conditions, tmp_path):
    gone = replace(model, path=tmp_path / "gone.onnx")
    with pytest.raises(ChildFailure) as failure:
        Runner(contestant(gone, "gone"), conditions)
    assert "gone.onnx" in failure.value.outcome.reason
    assert "dovetail.worker" in failure.value.outcome.reproduce


def test_steal_that_cannot_be_read_counts_as_none():
    silent = Duel(measurements={}, rounds=(), failures={}, calls_s={}, seconds=2.0)
    assert silent.steal_share(4) == 0.0
    assert replace(silent, steal_s=0.4).steal_share(2) == pytest.approx(0.1)


def test_a_block_is_whole_rounds_over_the_feeds():
    seen: list[int] = []

    def run(feeds):
        seen.append(feeds["i"])
        return []

    timed = block(run, [{"i": 0}, {"i": 1}, {"i": 2}], seconds=0.001)
    assert seen[0] == 0
    assert len(timed.times_s) == len(seen) - 1
    assert len(timed.times_s) % 3 == 0
    assert seen[1:] == [0, 1, 2] * (len(timed.times_s) // 3)
    assert timed.typical_s > 0


def test_warm_up_says_when_calls_never_settle():
    longer = itertools.accumulate(itertools.repeat(1.5), operator.mul, initial=0.001)
    _, steady = warm_up(lambda feeds: [time.sleep(next(longer))], [{}], limit_s=0.2)
    assert not steady


def test_warm_up_ends_when_calls_are_steady():
    typical_s, steady = warm_up(lambda feeds: [time.sleep(0.01)], [{}], limit_s=30)
    assert steady
    assert typical_s >= 0.01
