"""Curves of the learning rate and plans of steps."""

import pytest

from dovetail.core.errors import InputError
from dovetail.core.training import Objective, Schedule
from dovetail.train.schedules import Plan, factor


def test_cosine_rises_linearly_and_falls_to_zero():
    assert [factor("cosine", p, 0.2) for p in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_one_cycle_starts_at_a_25th_and_ends_at_a_250_000th():
    assert [factor("one_cycle", p, 0.0) for p in (0, 0.3, 1)] == pytest.approx([1 / 25, 1, 1 / 250_000])
    assert factor("one_cycle", 0.1, 0.1) == pytest.approx(1)


def test_one_cycle_is_that_of_torch():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2.0, total_steps=101, pct_start=31 / 101)
    for step in range(101):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(2 * factor("one_cycle", step / 100, 0.3), rel=1e-6)
        optimizer.step()
        if step < 100:
            theirs.step()


def test_constant_stays_at_its_peak():
    assert [factor("constant", p, 0.1) for p in (0.05, 0.1, 0.9)] == pytest.approx([0.5, 1, 1])


def test_a_plan_runs_from_the_middle_of_the_first_step_to_the_middle_of_the_last():
    plan = Plan(total=10)
    assert [plan.progress(s) for s in (0, 4, 9)] == pytest.approx([0.05, 0.45, 0.95])


def test_a_shortened_plan_keeps_its_past_and_still_reaches_the_end():
    plan = Plan(total=100).shortened(40, 50)
    assert [plan.progress(s) for s in (0, 10, 39)] == pytest.approx([0.005, 0.105, 0.395], abs=0.01)
    assert plan.progress(49) == pytest.approx(0.97, abs=0.01) and plan.total == 50
    again = plan.shortened(45, 47)
    assert again.total == 47 and again.progress(46) > plan.progress(46)
    assert all(again.progress(s) < again.progress(s + 1) for s in range(46))


@pytest.mark.parametrize(
    "bad",
    [{"epochs": 0}, {"optimizer": "lion"}, {"curve": "steps"}, {"warmup": 1.0}, {"ema": 1.5}, {"budget_s": 0.0},
     {"patience": 0}, {"learning_rate": 0.0}, {"precision": "int8"}, {"hold_out": 1.0}, {"keep": "first"}],
)  # fmt: skip
def test_a_schedule_states_the_rule_that_it_breaks(bad):
    with pytest.raises(InputError, match="training"):
        Schedule(**bad)


@pytest.mark.parametrize("bad", [{}, {"task": "poetry"}, {"features": 1.0}, {"logits": -1.0}, {"task": "auto", "hard": 0.0}])
def test_an_objective_states_the_rule_that_it_breaks(bad):
    with pytest.raises(InputError, match="training"):
        Objective(**bad)
