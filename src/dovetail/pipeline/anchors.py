"""What quick looks are taken against: the original, loaded and asleep, once as it runs by default and once on one thread.

A shared host has phases of minutes in which a second core is worth half of what it was before: a run on two threads then slows
down and one on a single thread does not. So every look is taken against the anchor with the same kind of threads, and one
ratio between the two anchors, measured at the start, makes the looks comparable. The finals, where all run in the same
minutes, decide.
"""

from __future__ import annotations

import math
from dataclasses import replace

from dovetail.core.measurement import Interval, Measurement
from dovetail.core.protocols import Model
from dovetail.core.recipe import Recipe, freeze
from dovetail.measure.arena import Conditions, Contestant, Runner, screen
from dovetail.measure.child import ChildFailure
from dovetail.search.race import PROCESS_SPREAD

_CALIBRATION_BLOCKS = 5


class Anchors:
    """The anchors' processes; started again where one was ended from outside.

    Args:
        conditions: what is the same for all measurements.
        cores: cores of this machine; with a single one there is one anchor.
    """

    def __init__(self, conditions: Conditions, cores: int) -> None:
        self._conditions, self._cores = conditions, cores
        self._main: Runner | None = None
        self._single: Runner | None = None
        self.shift = 0.0
        """Log of the main anchor's time over the single-threaded one's."""

    def open(self, recipe: Recipe, model: Model) -> Runner:
        """Starts the main anchor.

        Raises:
            ChildFailure: it does not run.
        """
        self._main = Runner(Contestant(recipe=recipe, model=model), self._conditions)
        return self._main

    def calibrate(self, shift: float | None) -> None:
        """Starts the single-threaded anchor, where the runtime has such an option, and measures its ratio to the main one.

        Args:
            shift: the ratio as an interrupted run measured it, so that its looks stay comparable.
        """
        main = self.main
        options = {**main.contestant.recipe.settings, "threads": 1}
        recipe = replace(main.contestant.recipe, options=freeze(options))
        if self._cores < 2 or recipe == main.contestant.recipe:
            return
        try:
            self._single = Runner(Contestant(recipe=recipe, model=main.contestant.model), self._conditions)
        except ChildFailure:
            return  # a runtime without this option: everything is looked at against the main anchor
        if shift is None:
            shift = screen(self._single, main, blocks=_CALIBRATION_BLOCKS, seconds=_block_s(main, main)).log_speedup
        self.shift = shift

    @property
    def main(self) -> Runner:
        """The original as its first runtime runs it by default."""
        assert self._main is not None, "open() comes first"
        self._main = self._alive(self._main)
        return self._main

    def look(self, runner: Runner) -> tuple[Measurement, Interval]:
        """A quick look at a contestant: its latency, and its speed-up over the main anchor.

        Raises:
            ChildFailure: the contestant failed.
        """
        single = runner.contestant.recipe.settings.get("threads") == 1 and self._single is not None
        try:
            looked = screen(runner, self._anchor(single), seconds=_block_s(runner, self.main))
        except ChildFailure:
            if not runner.child.alive or self._both_alive():
                raise
            looked = screen(runner, self._anchor(single), seconds=_block_s(runner, self.main))
        log = looked.log_speedup + (self.shift if single else 0.0)
        half = max(PROCESS_SPREAD, (max(looked.log_speedups) - min(looked.log_speedups)) / 2)
        return looked.measurement, Interval(point=math.exp(log), low=math.exp(log - half), high=math.exp(log + half))

    def _anchor(self, single: bool) -> Runner:
        if not single or self._single is None:
            return self.main
        self._single = self._alive(self._single)
        return self._single

    def _both_alive(self) -> bool:
        return all(anchor.child.alive for anchor in (self._main, self._single) if anchor is not None)

    def _alive(self, anchor: Runner) -> Runner:
        """The anchor, started again where its process was ended from outside; no candidate is to blame for that."""
        if anchor.child.alive:
            return anchor
        anchor.close()
        return Runner(anchor.contestant, self._conditions)

    def close(self) -> None:
        """Ends the processes."""
        for anchor in (self._main, self._single):
            if anchor is not None:
                anchor.close()
        self._main = self._single = None


def _block_s(runner: Runner, anchor: Runner) -> float:
    return min(max(0.08, 4 * max(runner.typical_s, anchor.typical_s)), 0.5)
