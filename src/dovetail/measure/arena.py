"""Measures contestants against each other: a process each, one awake at a time, blocks in random order.

Spinning thread pools of two runtimes disturb each other inside one process, and processes differ a little from start to start;
so every contestant has a process of its own, and a claim rests on several fresh processes a side.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from dovetail.core.measurement import Measurement
from dovetail.core.outcome import Infeasible
from dovetail.core.profile import Profile
from dovetail.core.protocols import Model
from dovetail.core.recipe import Recipe
from dovetail.core.serial import decode
from dovetail.measure.child import Child, ChildFailure

_PAUSE_S = 0.01
LOADING = 2
"""Processes that load at the same time between two rounds; nothing is timed meanwhile."""
DISTURBED = 1.25
"""Anchor's block relative to its usual one, above which a quick look is taken again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A recipe with the model file it made; ``name`` keeps apart runs that share a recipe."""

    recipe: Recipe
    model: Model
    name: str = ""

    @property
    def key(self) -> str:
        """What results are filed under: the recipe's key unless it has a name."""
        return self.name or self.recipe.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What is the same for all contestants.

    Attributes:
        split: folder of the split whose samples are timed.
        indices: samples that a block goes through in turn.
        batch: samples per call.
        logs: folder for what the processes print.
        memory_limit_bytes: per process tree.
        start_limit_s: time for loading and compiling.
        call_limit_s: time for one command that runs the model.
    """

    split: Path
    indices: tuple[int, ...]
    batch: int
    logs: Path
    memory_limit_bytes: float
    start_limit_s: float = 180.0
    call_limit_s: float = 120.0


class Runner:
    """A contestant in a fresh process, loaded and warm.

    Args:
        contestant: what runs.
        conditions: what is the same for all.
        ready: load and warm up at once; else :meth:`load` and :meth:`warm_up` are the caller's.

    Raises:
        ChildFailure: it cannot load the model, or fails on the first sample.
    """

    def __init__(self, contestant: Contestant, conditions: Conditions, *, ready: bool = True) -> None:
        self.contestant = contestant
        self._conditions = conditions
        recipe = contestant.recipe
        self.child = Child(conditions.logs / f"{recipe.key}.log", memory_limit_bytes=conditions.memory_limit_bytes)
        self.blocks_s: list[float] = []
        self.calls_s: list[float] = []
        self.calls = 0
        if ready:
            self.load()
            self.warm_up()

    def load(self) -> None:
        """Loads the model and answers the first sample."""
        conditions, recipe = self._conditions, self.contestant.recipe
        try:
            self.child.call(
                "load",
                timeout_s=conditions.start_limit_s,
                path=str(self.contestant.model.path),
                format=self.contestant.model.format,
                runtime=recipe.runtime,
                options=recipe.settings,
            )
            ready = self.child.call(
                "feeds",
                timeout_s=conditions.call_limit_s,
                split=str(conditions.split),
                indices=list(conditions.indices),
                batch=conditions.batch,
            )
            self.load_s = float(ready["first_answer_s"])
            if ready["non_finite"]:
                names = ", ".join(ready["non_finite"])
                raise self.child.failure("run", f"output {names} holds NaN or infinity")
        except ChildFailure:
            self.child.close()
            raise

    def warm_up(self) -> None:
        """Calls until times are steady; before blocks are timed."""
        try:
            answer = self.child.call("warm", timeout_s=self._conditions.call_limit_s)
        except ChildFailure:
            self.child.close()
            raise
        self.typical_s = float(answer["typical_s"])
        self.steady = bool(answer["steady"])

    def block(self, seconds: float) -> float:
        """Times one block; seconds per call."""
        answer = self.child.call("block", timeout_s=self._conditions.call_limit_s, seconds=seconds)
        self.blocks_s.append(float(answer["typical_s"]))
        self.calls_s.extend(answer["times_s"])
        self.calls += int(answer["calls"])
        time.sleep(_PAUSE_S)
        return self.blocks_s[-1]

    def profile(self, repeats: int = 30) -> Profile | None:
        """Kernel times, ``None`` where the runtime cannot tell."""
        answer = self.child.call("profile", timeout_s=self._conditions.call_limit_s, repeats=repeats)
        return None if answer["profile"] is None else decode(Profile, answer["profile"])

    def peak_memory_bytes(self) -> float:
        """Highest resident set of the process so far."""
        return float(self.child.call("memory")["peak_memory_bytes"])

    def call(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Any other command of the worker, under the same limits."""
        return self.child.call(op, timeout_s=self._conditions.start_limit_s, **arguments)

    def dismiss(self) -> None:
        """Lets the process end by itself; :meth:`close` then waits for it."""
        self.child.dismiss()

    def close(self) -> None:
        """Ends the process."""
        self.child.close()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """A quick look at one contestant: its latency, and the log ratio anchor ÷ contestant of each block beside the anchor's."""

    measurement: Measurement
    log_speedups: tuple[float, ...]

    @property
    def log_speedup(self) -> float:
        """Median over blocks."""
        return statistics.median(self.log_speedups)


def screen(runner: Runner, anchor: Runner, *, blocks: int = 3, seconds: float = 0.08) -> Screening:
    """Alternates blocks with the anchor's, which takes out the machine's drift.

    Where the anchor itself is far slower than it usually is, something else runs on the machine: such a pair is taken again, a
    few times at most.
    """
    ratios: list[float] = []
    disturbed: list[float] = []
    while len(ratios) < blocks and len(disturbed) < 2 * blocks:
        reference = anchor.block(seconds)
        log = math.log(reference / runner.block(seconds))
        usual = statistics.median(anchor.blocks_s)
        (ratios if reference <= DISTURBED * usual else disturbed).append(log)
    ratios = ratios or disturbed
    return Screening(
        measurement=Measurement(
            block_medians_s=(tuple(runner.blocks_s),),
            calls=runner.calls,
            quantiles_s={},
            peak_memory_bytes=runner.peak_memory_bytes(),
            load_s=runner.load_s,
        ),
        log_speedups=tuple(ratios),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """What a final measurement found.

    Attributes:
        measurements: recipe key → measurement over all rounds.
        rounds: per round, recipe key → median block in seconds; every round is fresh processes for all.
        failures: recipe key → why it left the race.
        calls_s: recipe key → seconds of single calls.
        seconds: how long it all took.
        steal_s: processor seconds that other guests of the host took meanwhile; ``None`` when unknown.
        throttled_s: seconds for which a control group's quota stopped this process's group meanwhile; ``None`` when unknown.
        thermal_events: times that a core slowed down meanwhile because it was hot; ``None`` when unknown.
        clock_ratio: mean clock of the cores at the end over that at the start; ``None`` when unknown.
    """

    measurements: Mapping[str, Measurement]
    rounds: tuple[Mapping[str, float], ...]
    failures: Mapping[str, Infeasible]
    calls_s: Mapping[str, tuple[float, ...]]
    seconds: float
    steal_s: float | None = None
    throttled_s: float | None = None
    thermal_events: int | None = None
    clock_ratio: float | None = None

    def steal_share(self, cores: int) -> float:
        """Share of the processor that other guests took; 0 when unknown."""
        return 0.0 if self.steal_s is None else self.steal_s / (self.seconds * cores)

    def log_ratios(self, key: str, baseline: str) -> list[float]:
        """Log of baseline ÷ candidate, one per round in which both ran; above zero when the candidate is faster."""
        return [math.log(r[baseline] / r[key]) for r in self.rounds if key in r and baseline in r]


def duel(
    contestants: Sequence[Contestant],
    conditions: Conditions,
    *,
    rounds: int,
    blocks: int = 5,
    seconds: float = 0.15,
    seed: int = 0,
    quantiles: Callable[[Sequence[float]], Mapping[str, float]] = lambda calls: {},
    on_round: Callable[[], None] = lambda: None,
) -> Duel:
    """Measures contestants over fresh processes.

    Args:
        contestants: at most a handful: all their processes live at once.
        conditions: what is the same for all.
        rounds: fresh processes per contestant; at least 6 for a claim.
        blocks: per process, interleaved in random order.
        seconds: length of a block.
        seed: of the random order.
        quantiles: from call times to the quantiles they support.
        on_round: called after each round.
    """
    order = random.Random(seed)
    per_process: dict[str, list[tuple[float, ...]]] = {c.key: [] for c in contestants}
    calls: dict[str, list[float]] = {c.key: [] for c in contestants}
    counts: dict[str, int] = dict.fromkeys(per_process, 0)
    memory: dict[str, float] = {}
    load: dict[str, float] = {}
    failures: dict[str, Infeasible] = {}
    table: list[dict[str, float]] = []
    started = time.monotonic()
    for number in range(rounds):
        alive = [c for c in contestants if c.key not in failures]
        order.shuffle(alive)
        # The first round loads one at a time, so that the times of loading can be told.
        runners = _start(alive, conditions, failures, LOADING if number else 1)
        try:
            _interleave(runners, blocks, seconds, order, failures)
            peaks = _peaks(runners, failures)
            row: dict[str, float] = {}
            for runner in runners:
                key = runner.contestant.key
                if key in failures:
                    continue
                row[key] = statistics.median(runner.blocks_s)
                per_process[key].append(tuple(runner.blocks_s))
                calls[key].extend(runner.calls_s)
                counts[key] += runner.calls
                memory[key] = max(memory.get(key, 0.0), peaks[key])
                load.setdefault(key, runner.load_s)
            table.append(row)
        finally:
            for runner in runners:
                runner.dismiss()
            for runner in runners:
                runner.close()
        on_round()
    return Duel(
        measurements={
            key: Measurement(
                block_medians_s=tuple(per_process[key]),
                calls=counts[key],
                quantiles_s=quantiles(calls[key]),
                batch=conditions.batch,
                peak_memory_bytes=memory.get(key),
                load_s=load.get(key),
            )
            for key in per_process
            if per_process[key]
        },
        rounds=tuple(table),
        failures=failures,
        calls_s={key: tuple(values) for key, values in calls.items()},
        seconds=time.monotonic() - started,
    )


def _start(
    contestants: Sequence[Contestant], conditions: Conditions, failures: dict[str, Infeasible], at_once: int
) -> list[Runner]:
    """Fresh processes, warm one after the other; ``at_once`` of them load at the same time."""
    # The processes are started here and not in the pool: each ends with the thread that started it.
    runners = [Runner(contestant, conditions, ready=False) for contestant in contestants]

    def attempt(step: Callable[[Runner], None], runner: Runner) -> None:
        if runner.contestant.key in failures:
            return
        try:
            step(runner)
        except ChildFailure as exc:
            failures[runner.contestant.key] = exc.outcome

    try:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(partial(attempt, Runner.load), runners))
        for runner in runners:
            attempt(Runner.warm_up, runner)
        return [runner for runner in runners if runner.contestant.key not in failures]
    except BaseException:
        for runner in runners:
            runner.close()
        raise


def _peaks(runners: Sequence[Runner], failures: dict[str, Infeasible]) -> dict[str, float]:
    """Highest resident set of each process that still answers, in bytes."""
    found: dict[str, float] = {}
    for runner in runners:
        key = runner.contestant.key
        if key in failures:
            continue
        try:
            found[key] = runner.peak_memory_bytes()
        except ChildFailure as exc:
            failures[key] = exc.outcome
    return found


def _interleave(
    runners: Sequence[Runner], blocks: int, seconds: float, order: random.Random, failures: dict[str, Infeasible]
) -> None:
    for _ in range(blocks):
        turn = list(runners)
        order.shuffle(turn)
        for runner in turn:
            key = runner.contestant.key
            if key in failures:
                continue
            try:
                runner.block(seconds)
            except ChildFailure as exc:
                failures[key] = exc.outcome
