"""Runs models that are not timed in several processes at once, so that scoring thousands of samples uses every core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from dovetail import plugins
from dovetail.core.measurement import Environment
from dovetail.core.outcome import Infeasible
from dovetail.core.recipe import Recipe, freeze
from dovetail.measure.arena import Conditions, Contestant, Runner
from dovetail.measure.child import ChildFailure

AT_ONCE = 2
"""More would need the memory of more models, and split the cores of one that scales well."""

T = TypeVar("T")


def side_by_side(
    contestants: Sequence[Contestant], conditions: Conditions, machine: Environment, work: Callable[[Runner, int], T]
) -> list[T | Infeasible]:
    """Loads each contestant in a process of its own and lets ``work`` use it.

    The cores are shared out among the processes that run at once. Threads change no output by more than rounding, which is
    what recipes that differ in them are taken for everywhere.

    Args:
        contestants: what runs.
        conditions: what is the same for all.
        machine: whose cores are shared out.
        work: gets the loaded process and the contestant's position; a failure of it is the contestant's.

    Returns:
        What ``work`` gave, or why there is nothing, in the order of the contestants.
    """
    results: list[T | Infeasible] = []

    def attempt(runner: Runner, position: int) -> T | Infeasible:
        try:
            runner.load()
            return work(runner, position)
        except ChildFailure as exc:
            return exc.outcome

    for start in range(0, len(contestants), AT_ONCE):
        group = contestants[start : start + AT_ONCE]
        share = max(1, machine.cores // len(group))
        # The processes are started here and not in the pool: each ends with the thread that started it.
        runners = [Runner(replace(c, recipe=_sharing(c.recipe, machine, share)), conditions, ready=False) for c in group]
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            running = [pool.submit(attempt, runner, start + at) for at, runner in enumerate(runners)]
            results += [future.result() for future in running]
        finally:  # after an interrupt the pool waits for calls that only the end of their process ends
            for runner in runners:
                runner.dismiss()
            for runner in runners:
                runner.close()
            pool.shutdown()
    return results


def _sharing(recipe: Recipe, machine: Environment, threads: int) -> Recipe:
    """The recipe with its share of the cores, where its runtime has that option."""
    knobs = {knob.name for knob in plugins.runtime(recipe.runtime).knobs(machine)}
    return replace(recipe, options=freeze({**recipe.settings, "threads": threads})) if "threads" in knobs else recipe
