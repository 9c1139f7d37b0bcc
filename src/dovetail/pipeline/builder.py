"""Builds the model files of recipes in child processes, each chain of passes once."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dovetail import plugins
from dovetail.core.outcome import Infeasible, LayerWidth, MadeStep
from dovetail.core.protocols import Model
from dovetail.core.recipe import PassSpec, Recipe, digest
from dovetail.core.serial import encode
from dovetail.measure.arena import Conditions
from dovetail.measure.child import Child, ChildFailure
from dovetail.pipeline.job import Job

BUILD_LIMIT_S, LEAST_BUILD_S = 900.0, 1.0
BUDGET = "budget"
"""Stage of what failed for want of time alone: with more of it the same may succeed."""
SCORING = frozenset({"float_islands"})
"""Passes that look at quality."""


LOSS_FILE, PRUNED_FILE = "loss.json", "pruned.json"
"""What passes that train, or take something away, leave beside their models."""
_WIDTH = {"layer", "before", "after"}


def _left(path: Path) -> dict[str, Any]:
    """What a pass left beside its model; empty where it left nothing."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A model file, the seconds that its passes took when they were first run, and what they had to say."""

    model: Model
    seconds: float
    notes: tuple[str, ...] = ()


class Builder:
    """Turns recipes into model files under a content-addressed cache.

    Args:
        job: what is being fitted.
        cache: folder that outlives runs.
        conditions: memory limit and log folder of child processes.

    Attributes:
        score: arguments of the worker's scorer, for passes that look at quality; ``None`` while there are none.
        built: passes that really ran.
        sensitivity: layer → quality drop that it causes alone when quantised, once a pass has measured it.
        deadline: of a build, on the monotonic clock; nothing is built beyond it.
        on_progress: told how far a long build is: its share that is done, and a phrase.
    """

    def __init__(self, job: Job, cache: Path, conditions: Conditions) -> None:
        self._job, self._cache, self._conditions = job, cache, conditions
        self.score: dict[str, Any] | None = None
        self.sensitivity: dict[str, float] = {}
        self.deadline = math.inf
        self.on_progress: Callable[[float, str], None] = lambda share, text: None
        self._failed: dict[str, Infeasible] = {}
        self.built = 0

    def build(self, recipe: Recipe, limit_s: float = BUILD_LIMIT_S) -> Built | Infeasible:
        """The recipe's model file, from the cache where it is there."""
        if not recipe.passes:
            return Built(model=self.original(recipe), seconds=0.0)
        current, seconds = self._job.source, 0.0
        notes: tuple[str, ...] = ()
        for last in range(1, len(recipe.passes) + 1):
            key = self._key(recipe.passes[:last])
            if key in self._failed:
                return self._failed[key]
            left_s = self.deadline - time.monotonic()
            step = self._step(key, current, recipe.passes[last - 1], max(LEAST_BUILD_S, min(limit_s, left_s)))
            if isinstance(step, Infeasible):
                if time.monotonic() >= self.deadline:
                    return Infeasible(stage=BUDGET, reason="the budget ended while it was being built")
                self._failed[key] = step
                return step
            current, seconds, notes = step.model, seconds + step.seconds, (*notes, *step.notes)
        return Built(model=current, seconds=seconds, notes=notes)

    def made(self, recipe: Recipe) -> tuple[MadeStep, ...]:
        """How a recipe's model was made, pass by pass, from what the passes left beside their models."""
        steps = []
        for last in range(1, len(recipe.passes) + 1):
            folder = self._cache / "models" / self._key(recipe.passes[:last])
            if not (folder / "built.json").exists():
                return ()
            built = self._from_row(folder, json.loads((folder / "built.json").read_text()))
            loss, pruned = _left(folder / LOSS_FILE), _left(folder / PRUNED_FILE)
            steps.append(
                MadeStep(
                    step=str(recipe.passes[last - 1]),
                    seconds=built.seconds,
                    size_bytes=float(built.model.size_bytes()),
                    loss=tuple((float(epoch), float(value)) for epoch, value in loss.get("loss", [])),
                    layers=tuple(LayerWidth(**row) for row in pruned.get("layers", []) if row.keys() == _WIDTH),
                )
            )
        return tuple(steps)

    def original(self, recipe: Recipe) -> Model:
        """The user's model in the form that the recipe's runtime takes."""
        return self._job.unchanged(plugins.runtime(recipe.runtime).formats)

    def _key(self, passes: tuple[PassSpec, ...]) -> str:
        kinds = [plugins.compression_pass(p.name) for p in passes]
        calibrated, trained = any(kind.needs_calibration for kind in kinds), any(kind.trains for kind in kinds)
        return digest(
            {
                "source": self._job.model_hash,
                "passes": [{**p.to_json(), "version": kind.version} for p, kind in zip(passes, kinds, strict=True)],
                "calibration": self._job.data_hashes.get("calibration") if calibrated else None,
                **({"training": self._job.data_hashes.get("training")} if trained else {}),
                "score": self._scoring() if any(p.name in SCORING for p in passes) else None,
                "isa": list(self._job.environment.isa),
                "versions": dict(self._job.environment.versions),
                "seed": self._job.wish.seed,
            }
        )

    def _scoring(self) -> dict[str, object] | None:
        """What decides the scores that passes see; the files that hold it may lie anywhere."""
        if self.score is None:
            return None
        selection = self._job.data_hashes["selection"]
        return {"judgement": self._job.judgement, "selection": selection, "units": self.score["units"]}

    def _step(self, key: str, model: Model, step: PassSpec, limit_s: float) -> Built | Infeasible:
        folder = self._cache / "models" / key
        done = folder / "built.json"
        if done.exists():
            return self._from_row(folder, json.loads(done.read_text()))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        needs_score, trains = step.name in SCORING, plugins.compression_pass(step.name).trains
        started = time.monotonic()
        try:
            log = self._conditions.logs / f"build-{key}.log"
            with Child(log, memory_limit_bytes=self._conditions.memory_limit_bytes) as child:
                answer = child.call(
                    "build",
                    timeout_s=limit_s,
                    path=str(model.path),
                    format=model.format,
                    step=step.to_json(),
                    workdir=str(folder),
                    environment=encode(self._job.environment),
                    calibration=self._folder("calibration"),
                    workload=encode(self._job.workload) if self._job.workload and needs_score else None,
                    score=self.score if needs_score else None,
                    training=self._training(key) if trains else None,
                    seed=self._job.wish.seed,
                    on_progress=self.on_progress,
                )
        except ChildFailure as exc:
            shutil.rmtree(folder, ignore_errors=True)
            return exc.outcome
        row = {
            "file": str(Path(answer["path"]).relative_to(folder)),
            "format": answer["format"],
            "seconds": time.monotonic() - started,
            "notes": answer["notes"],
        }
        partial = done.with_suffix(".part")
        partial.write_text(json.dumps(row))
        partial.replace(done)
        self.built += 1
        return self._from_row(folder, row)

    def _from_row(self, folder: Path, row: dict[str, Any]) -> Built:
        measured = folder / "sensitivity.json"
        if measured.exists():
            self.sensitivity = {layer["layer"]: layer["drop"] for layer in json.loads(measured.read_text())["layers"]}
        model = Model(path=folder / row["file"], format=row["format"])
        return Built(model=model, seconds=row["seconds"], notes=tuple(row.get("notes", ())))

    def _training(self, key: str) -> dict[str, Any]:
        """Arguments of the worker's trainer. Its checkpoints outlive a build that is killed."""
        return {
            "samples": self._folder("training"),
            "original": str(self._job.source.path),
            "state": str(self._cache / "training" / key),
            "threads": self._job.environment.cores,
            "metric": "" if self._job.metric is None else self._job.metric.name,
        }

    def _folder(self, split: str) -> str | None:
        found = self._job.splits.get(split)
        return None if found is None else str(found.folder)
