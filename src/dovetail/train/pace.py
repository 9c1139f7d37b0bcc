"""How fast steps are, measured before the first one, and how many of them a budget of time allows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from dovetail.core import units
from dovetail.core.errors import InputError

RESERVE = 0.08
"""Share of the budget that the plan leaves free, so that a machine a little slower than measured still ends in time."""
_FASTER = 1.05
"""bfloat16 is taken from this ratio of times on: below it, its rounding buys nothing."""
_WARM, _ROUNDS = 1, 3
_LEAST_STEPS, _MOST_STEPS, _LEAST_S = 3, 20, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Seconds that a training spends on what.

    Attributes:
        step_s: of an optimiser step, reading the data included.
        judge_s: of the judgement after each epoch.
        steps: per epoch.
    """

    step_s: float
    judge_s: float
    steps: int

    @property
    def epoch_s(self) -> float:
        """Of a whole epoch."""
        return self.steps * self.step_s + self.judge_s


def bfloat16_is_faster(step: Callable[[bool], object]) -> bool:
    """Times a step in either precision, in turns, and compares the best of each.

    Args:
        step: runs one step, in bfloat16 if told so.
    """
    times: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(_WARM + _ROUNDS):
        for low in times:
            started = time.perf_counter()
            step(low)
            if turn >= _WARM:
                times[low].append(time.perf_counter() - started)
    return min(times[False]) > _FASTER * min(times[True])


def step_seconds(step: Callable[[], object]) -> float:
    """Mean seconds of a step over at least three steps and a second, or twenty steps."""
    step()
    started = time.perf_counter()
    count, spent = 0, 0.0
    while count < _LEAST_STEPS or (spent < _LEAST_S and count < _MOST_STEPS):
        step()
        count, spent = count + 1, time.perf_counter() - started
    return spent / count


def steps_within(budget_s: float, spent_s: float, costs: Costs, epochs: float) -> int:
    """Optimiser steps that the budget allows, at most those of ``epochs``.

    Raises:
        InputError: fewer than one epoch's, or than those of a shorter schedule.
    """
    wanted = max(1, round(epochs * costs.steps))
    left = budget_s * (1 - RESERVE) - spent_s
    allowed = int(left / (costs.epoch_s / costs.steps))
    if allowed < min(wanted, costs.steps):
        least = (min(wanted, costs.steps) * costs.epoch_s / costs.steps + spent_s) / (1 - RESERVE)
        raise InputError(
            f"{units.duration(budget_s)} are too short: one epoch takes about {units.duration(costs.epoch_s)}",
            where="training budget",
            hint=f"give it {units.duration(1.1 * least)} or more, or fewer samples",
        )
    return min(wanted, allowed)
