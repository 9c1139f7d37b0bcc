"""What the search costs: ``python benchmarks/search_cost.py [--models resnet8,resnet20]``.

Three ways through the same space with the same trials: all recipes; the product's race; random order, stopped when it has
searched for as long as the race. Each starts from an empty cache. Their answers are then measured again, in fresh processes.
Promised: the race's answer is within 2 % of the best, found in at most a quarter of the time. Appends a row a model to
``benchmarks/results/search_cost.jsonl``. An interrupted run goes on where it was stopped, with its time counted on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import models
import rows
from rich.console import Console
from rich.table import Table

from dovetail.certify import ratio_interval
from dovetail.core import units
from dovetail.core.outcome import FitResult
from dovetail.core.serial import encode
from dovetail.measure.arena import duel
from dovetail.measure.lock import measuring
from dovetail.pipeline.describe import describe
from dovetail.pipeline.optimize import optimize
from dovetail.report.progress import SilentProgress
from dovetail.search.goal import Strategy

MODELS = ("resnet8", "resnet20", "resnet56", "autoencoder", "superresolution")
RUNTIMES = ("onnxruntime", "openvino", "litert")
WITHIN, SHARE, LEAST_SPACE = 0.98, 0.25, 60
UNLIMITED = "100h"
WAITING = "waiting for another measurement"
"""Stage that is no cost of the search."""


class Clock(SilentProgress):
    """Adds up the time of a fit over interruptions, and ends its search when a share of time is used.

    Args:
        path: file that keeps the seconds.
        search_limit_s: the search is finished, as by Ctrl-C, when it has taken this long.
    """

    def __init__(self, path: Path, search_limit_s: float = math.inf) -> None:
        self._path, self._limit_s = path, search_limit_s
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
        self._stage, self._last = "start", time.monotonic()

    def stage(self, name: str, total: int | None) -> None:
        """Files the time of the stage before."""
        self._tick()
        self._stage = name

    def advance(self, n: int = 1, text: str = "") -> None:
        """Files the time of a step."""
        self._tick()
        if self._stage == "search":
            print(f"  {units.duration(self.seconds['search'])} {text}", file=sys.stderr, flush=True)
            if self.seconds["search"] >= self._limit_s:
                self._limit_s = math.inf
                os.kill(os.getpid(), signal.SIGINT)

    def close(self) -> None:
        """Files the rest."""
        self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._last
        self._last = now
        self._path.write_text(json.dumps(self.seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """One finished way through the space.

    Attributes:
        seconds: of the whole fit.
        search_s: of its search alone, without describing the job, choosing and certifying.
        tried: recipes that were built and run, or failed to.
        labels: all recipes of the space.
    """

    strategy: str
    seconds: float
    search_s: float
    tried: int
    headline: str
    answer: str
    labels: list[str]


def walk(name: str, strategy: Strategy, runtimes: str, folder: Path, search_limit_s: float = math.inf) -> Walk:
    """Fits a model with one strategy from an empty cache, or reads the finished result."""
    home = folder / strategy.value
    done = home / "walk.json"
    if done.exists():
        return Walk(**json.loads(done.read_text()))
    home.mkdir(parents=True, exist_ok=True)
    print(f"{name}: {strategy.value}", file=sys.stderr, flush=True)
    clock = Clock(home / "seconds.json", search_limit_s)
    request = models.request(name, home, cache=home / "cache", budget=UNLIMITED, runtimes=runtimes.split(","))
    result = optimize(request, clock, strategy)
    clock.close()
    found = _walk(strategy, result, clock)
    done.write_text(json.dumps(asdict(found)))
    return found


def _walk(strategy: Strategy, result: FitResult, clock: Clock) -> Walk:
    waited_s = sum(row.seconds for row in result.ledger if row.stage == WAITING)
    return Walk(
        strategy=strategy.value,
        seconds=sum(clock.seconds.values()) - waited_s,
        search_s=clock.seconds["search"],
        tried=sum(c.screening is not None or c.infeasible is not None for c in result.candidates),
        headline=result.headline,
        answer=result.record(result.winner).label,
        labels=sorted(c.label for c in result.candidates),
    )


def compare(name: str, options: argparse.Namespace) -> rows.Row:
    """All three walks of one model, their answers measured again; files the row."""
    folder = options.work / "search" / options.runtimes.replace(",", "+") / name
    full = walk(name, Strategy.EXHAUSTIVE, options.runtimes, folder)
    print(f"{name}: {len(full.labels)} recipes\n  " + "\n  ".join(full.labels), flush=True)
    race = walk(name, Strategy.RACE, options.runtimes, folder)
    chance = walk(name, Strategy.RANDOM, options.runtimes, folder, race.search_s)
    walks = {w.strategy: w for w in (full, race, chance)}
    job = describe(models.request(name, folder / "again"), lambda text: None)
    sides = [models.answer(folder / strategy / name / "fit", strategy) for strategy in walks]
    with measuring(lambda text: print(text, file=sys.stderr)):
        found = duel(sides, models.conditions(job, folder / "logs"), rounds=options.rounds)
    latency_s = {key: measured.latency_s for key, measured in found.measurements.items()}
    best = min(latency_s, key=latency_s.__getitem__)
    ratios = {key: found.log_ratios(key, best) for key in latency_s if key != best}
    figures: dict[str, Any] = {
        "walks": {key: {k: v for k, v in asdict(w).items() if k != "labels"} for key, w in walks.items()},
        "space": len(full.labels),
        "latency_s": latency_s,
        "best": best,
        "speed_of_best": {best: None, **{key: encode(ratio_interval(logs)) for key, logs in ratios.items()}},
        "time_share": race.seconds / full.seconds,
        "search_share": race.search_s / full.search_s,
    }
    return rows.append("search_cost", {"model": name, "runtimes": options.runtimes, "rounds": options.rounds}, figures)


def keeps(figures: dict[str, Any]) -> bool:
    """Whether the race found what is as good, in a quarter of the time, in a space worth the name."""
    near = _speed(figures, "race") >= WITHIN
    return near and figures["time_share"] <= SHARE and figures["space"] >= LEAST_SPACE


def _speed(figures: dict[str, Any], strategy: str) -> float:
    ratio = figures["speed_of_best"][strategy]
    return 1.0 if ratio is None else float(ratio["point"])


def show(found: list[rows.Row]) -> bool:
    """Prints the table; true when every model keeps the promise."""
    table = Table(title="Search cost (speed: that of the best answer is 1)", title_justify="left")
    for column in ("model", "space", "strategy", "tried", "time", "share", "speed", "answer", "kept"):
        table.add_column(column)
    for row in found:
        figures = row["figures"]
        full = figures["walks"]["exhaustive"]["seconds"]
        for strategy, one in figures["walks"].items():
            kept = ("yes" if keeps(figures) else "no") if strategy == "race" else ""
            numbers = (str(one["tried"]), units.duration(one["seconds"]), f"{one['seconds'] / full:.0%}")
            speed = units.ratio(_speed(figures, strategy), 3)
            table.add_row(row["config"]["model"], str(figures["space"]), strategy, *numbers, speed, one["answer"], kept)
    Console(width=160).print(table)
    return all(keeps(row["figures"]) for row in found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models.add_models_option(parser, MODELS)
    parser.add_argument("--runtimes", default=",".join(RUNTIMES), help=f"of the space (default: {','.join(RUNTIMES)})")
    parser.add_argument("--rounds", type=int, default=8, help="fresh processes a side at the end (default: 8)")
    parser.add_argument("--show", action="store_true", help="print the table of the latest rows and measure nothing")
    options = parser.parse_args()
    found = rows.latest("search_cost") if options.show else [compare(name, options) for name in options.models]
    return 0 if show(found) else 1


if __name__ == "__main__":
    sys.exit(main())
