"""A/A runs: the same recipe on both sides. A claim of a difference between them is false by construction."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import models
import rows

from dovetail.certify import speed_certificate
from dovetail.core.certificate import Verdict
from dovetail.core.protocols import Model
from dovetail.core.recipe import Recipe, digest, freeze
from dovetail.core.serial import encode
from dovetail.devices.probe import environment
from dovetail.measure.arena import Conditions, Contestant, duel
from dovetail.measure.lock import measuring
from dovetail.pipeline.describe import describe

MODELS = ("resnet8", "resnet20", "autoencoder", "voiceactivity")
RECIPES = (
    Recipe(runtime="onnxruntime"),
    Recipe(runtime="onnxruntime", options=freeze({"threads": 1})),
    Recipe(runtime="openvino"),
    Recipe(runtime="openvino", options=freeze({"precision": "bf16"})),
)
ALLOWED_SHARE = 0.02
PAIRS = 6
CLAIMS = (Verdict.CERTIFIED, Verdict.REFUTED)


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--runs``, ``--models``, ``--block``, ``--blocks``."""
    models.add_models_option(parser, MODELS)
    parser.add_argument("--runs", type=int, default=200, help="A/A runs in all (default: 200)")
    parser.add_argument("--block", type=float, default=0.05, help="seconds per block (default: 0.05)")
    parser.add_argument("--blocks", type=int, default=5, help="blocks per process (default: 5)")


def aa(options: argparse.Namespace, record: Callable[[str, Mapping[str, object], Mapping[str, object]], None]) -> bool:
    """Runs what is missing of ``options.runs``; true when few enough claim a difference.

    Finished runs are kept in the work folder: the same command goes on where it was stopped.
    """
    config: dict[str, Any] = {
        "models": options.models,
        "recipes": [str(recipe) for recipe in RECIPES],
        "pairs": PAIRS,
        "blocks": options.blocks,
        "block_s": options.block,
    }
    machine = encode(environment())
    journal = options.work / "aa" / f"{digest([config, machine])}.jsonl"
    journal.parent.mkdir(parents=True, exist_ok=True)
    finished = list(rows.read(journal))
    sides = _Sides(options.work / "aa")
    cases = [(name, recipe) for recipe in RECIPES for name in options.models]
    number = len(finished)
    while len(_judged(finished)) < options.runs:
        name, recipe = cases[number % len(cases)]
        if any((row["model"], row["recipe"]) == (name, str(recipe)) for row in finished if row not in _judged(finished)):
            row = {"run": number, "model": name, "recipe": str(recipe), "verdict": None, "shown": "does not run here"}
        else:
            row = {"run": number, "model": name, "recipe": str(recipe), **_run(*sides.of(name, recipe), number, options)}
        with journal.open("a") as file:
            file.write(json.dumps(row) + "\n")
        finished.append(row)
        number += 1
        print(f"{len(_judged(finished))}/{options.runs} {name}, {recipe}: {row['shown']}", flush=True)
    judged = _judged(finished)
    false = [row for row in judged if row["verdict"] in CLAIMS]
    allowed = int(ALLOWED_SHARE * options.runs)
    print(f"{len(false)} of {len(judged)} A/A runs claim a difference; {allowed} of {options.runs} may")
    counts = {"judged": len(judged), "false_claims": len(false), "allowed": allowed}
    record("aa", {**config, "runs": options.runs}, {**counts, "runs": finished})
    return len(false) <= allowed


def _judged(finished: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs that ended with a verdict: recipes that a runtime cannot take give none."""
    return [row for row in finished if row["verdict"] not in (None, Verdict.CANNOT_CERTIFY)]


def _run(contestant: Contestant, conditions: Conditions, number: int, options: argparse.Namespace) -> dict[str, Any]:
    sides = [Contestant(recipe=contestant.recipe, model=contestant.model, name=name) for name in ("a", "b")]
    with measuring(lambda text: print(text, file=sys.stderr)):
        found = duel(sides, conditions, rounds=PAIRS, blocks=options.blocks, seconds=options.block, seed=number)
    certificate = speed_certificate(found.log_ratios("a", "b"))
    verdict, interval = certificate.verdict, certificate.interval
    shown = "; ".join(f"side {key} fails: {outcome.reason}" for key, outcome in found.failures.items())
    if interval is not None:
        shown = f"{interval.low:.3f} to {interval.high:.3f}, {verdict.value.replace('_', ' ')}"
    return {"verdict": verdict.value, "shown": shown, "log_ratios": found.log_ratios("a", "b")}


class _Sides:
    """Models with their samples, each described once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[Model, Conditions]] = {}

    def of(self, name: str, recipe: Recipe) -> tuple[Contestant, Conditions]:
        """One side of a run, and what is the same for both."""
        if name not in self._known:
            job = describe(models.request(name, self._folder), lambda text: None)
            self._known[name] = (job.original, models.conditions(job, self._folder / name / "logs"))
        model, conditions = self._known[name]
        return Contestant(recipe=recipe, model=model), conditions
