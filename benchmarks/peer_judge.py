"""Judges every side of a benchmark alike: same certification samples, metric, limit and test."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from dovetail.certify import quality_certificate
from dovetail.core.certificate import Verdict
from dovetail.core.protocols import Array
from dovetail.core.recipe import Recipe
from dovetail.measure.arena import Conditions, Contestant, Runner
from dovetail.pipeline.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Quality on the certification split (the selection split where nothing is left to certify on).

    Attributes:
        drop: against the original, positive when worse, in the metric's unit.
        verdict: of the certificate; ``observed`` where the data are too few for one.
        passes: whether it counts as keeping the quality.
    """

    value: float
    drop: float
    verdict: str
    passes: bool


class Judge:
    """Judges contestants by the job's metric against the original as ONNX Runtime runs it."""

    def __init__(self, job: Job, conditions: Conditions, folder: Path) -> None:
        self._job, self._conditions, self._folder = job, conditions, folder
        folder.mkdir(parents=True, exist_ok=True)
        self._split = job.splits.get("certification") or job.splits["selection"]

    @cached_property
    def original(self) -> Array:
        """Rows of the original."""
        contestant = Contestant(recipe=Recipe(runtime="onnxruntime"), model=self._job.original)
        if self._needs_reference:
            self.reference("selection")
            self._store_outputs(contestant, self._split.folder, self._outputs)
        return self._rows(contestant, "original")

    def reference(self, split: str) -> Path | None:
        """The original's outputs on a split, where the metric compares with them."""
        if not self._needs_reference:
            return None
        folder = self._folder / f"outputs-{split}"
        contestant = Contestant(recipe=Recipe(runtime="onnxruntime"), model=self._job.original)
        self._store_outputs(contestant, self._job.splits[split].folder, folder)
        return folder

    def judge(self, contestant: Contestant, name: str) -> Judged:
        """Quality of one contestant.

        Raises:
            ChildFailure: it does not run on some sample.
        """
        metric = self._job.metric
        assert metric is not None, "every reference model names a metric"
        original, found = self.original, self._rows(contestant, name)
        reference, value = metric.value(original), metric.value(found)
        drop = reference - value if metric.higher_is_better else value - reference
        if not self._can_certify:
            return Judged(value=value, drop=drop, verdict="observed", passes=drop <= self._job.wish.max_drop.margin(reference))
        verdict = self._verdict(original, found)
        return Judged(value=value, drop=drop, verdict=verdict.value, passes=verdict is Verdict.CERTIFIED)

    @cached_property
    def _can_certify(self) -> bool:
        """Whether the data suffice for the original itself, whose drop is exactly zero."""
        return len(self.original) > 1 and self._verdict(self.original, self.original) is Verdict.CERTIFIED

    def _verdict(self, original: Array, found: Array) -> Verdict:
        assert self._job.metric is not None
        return quality_certificate(self._job.metric, original, found, max_drop=self._job.wish.max_drop).verdict

    @property
    def _needs_reference(self) -> bool:
        return self._job.metric is not None and self._job.metric.needs_reference

    @property
    def _outputs(self) -> Path:
        return self._folder / "outputs"

    def _store_outputs(self, contestant: Contestant, split: Path, folder: Path) -> None:
        if not folder.exists():
            with Runner(contestant, self._conditions) as runner:
                runner.call("reference", split=str(split), state=dict(self._job.state), folder=str(folder))

    def _rows(self, contestant: Contestant, name: str) -> Array:
        out = self._folder / f"{name}.npy"
        with Runner(contestant, self._conditions) as runner:
            runner.call(
                "score",
                split=str(self._split.folder),
                metric=self._job.metric_spec,
                state=dict(self._job.state),
                out=str(out),
                reference=str(self._outputs) if self._needs_reference else None,
            )
        found: Array = np.load(out, allow_pickle=False)
        return found
