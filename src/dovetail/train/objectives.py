"""An objective settled for one model and its data: which tensors are compared, by which losses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dovetail.core.errors import DataError, InputError, ModelError
from dovetail.core.protocols import Array
from dovetail.core.training import Objective
from dovetail.train import losses
from dovetail.train.feed import Batch

_TASK_OF_METRIC = {
    "accuracy": "classification", "top": "classification", "f1": "classification", "auc": "classification",
    "iou": "classification", "perplexity": "classification", "rmse": "regression", "psnr": "regression",
    "mae": "absolute", "spearman": "regression", "pearson": "regression",
}  # fmt: skip
_ONE_HOT = "give the number of the class, not a row of zeros and a one"
_DISTIL = "learn from the original instead: give a distillation term a weight (`logits`, `cosine`); it needs no labels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a model's answer is read.

    Attributes:
        output: name of the judged output.
        scores: tensor before its softmax or sigmoid; the output itself where it has none.
        squashed: ``softmax``, ``sigmoid`` or empty: what lies between the two.
        axis: of the classes; ``None`` to go by the rank: 1 for images ``[N, C, H, W]``, else the last.
    """

    output: str
    scores: str
    squashed: str = ""
    axis: int | None = None

    def rows(self, tensor: Any) -> Any:
        """Scores as ``[rows, C]``, classes last; trailing axes of 1 (``[N, C, 1, 1]``) drop out."""
        axis = (1 if tensor.ndim == 4 else -1) if self.axis is None else self.axis
        moved = tensor.movedim(axis, -1)
        return moved.reshape(-1, moved.shape[-1])


def chosen_task(metric: str, labels: Array | None, columns: int, head: Head) -> str:
    """The loss against labels that suits a metric, labels and the number of outputs per sample.

    Args:
        metric: as the user wrote it, empty when none is known.
        labels: of the training samples.
        columns: numbers per sample, or classes, in the judged output.
        head: where the answer is read.

    Raises:
        InputError: neither the metric nor the labels tell.
    """
    name, _, variant = metric.strip().lower().replace("_", "-").partition(":")
    if variant == "cosine":
        return "cosine_pairs"
    task = _TASK_OF_METRIC.get("top" if re.fullmatch(r"top[-@]?\d+", name) else name)
    if task is None and labels is not None and labels.dtype.kind in "biuf":
        whole = labels.dtype.kind in "biu"
        task = "classification" if whole and (columns > 1 or head.squashed) else "" if whole else "regression"
    if not task:
        what = f"the metric {metric!r} does not tell" if metric else "neither a metric nor the labels tell"
        raise InputError(f"{what} which loss to train with", where="training.task", hint="state the task, or distil")
    return "binary" if task == "classification" and columns == 1 else task


def check_labels(labels: Array | None, task: str, columns: int, answers: int | None = None) -> None:
    """Says early what a loss against labels would fail on.

    Args:
        labels: of all samples.
        task: the loss.
        columns: numbers per sample, or classes, in the judged output.
        answers: labels that the loss takes per sample; ``None`` when that is not known.

    Raises:
        DataError: labels are absent, text, of several shapes, too many or too few, or name a class that the model lacks.
    """
    where = "training data"
    if labels is None:
        raise DataError(f"the {task} loss needs labels, and the training data have none", where=where, hint=_DISTIL)
    if labels.dtype.kind not in "biuf":
        kind = "text" if labels.dtype.kind == "U" else "arrays of several shapes"
        raise DataError(f"the {task} loss needs labels that are numbers; these are {kind}", where=where, hint=_DISTIL)
    held = labels.size // len(labels)
    if answers is not None and held != answers:
        what = f"each sample has {held} label values, and the {task} loss of this model takes {answers}"
        classes = task == "classification" and held == columns * answers
        raise DataError(what, where=where, hint=_ONE_HOT if classes else _DISTIL)
    if task == "classification":
        if labels.dtype.kind == "f" and (labels != np.trunc(labels)).any():
            raise DataError("a class is a whole number; some labels are not", where=where, hint=_DISTIL)
        if labels.min() < 0 or labels.max() >= columns:
            worst = labels.max() if labels.max() >= columns else labels.min()
            what = f"label {int(worst)} lies outside the model's {columns} classes (0..{columns - 1})"
            raise DataError(what, where=where, hint=_DISTIL)
    if task == "binary" and (labels.min() < 0 or labels.max() > 1):
        raise DataError("labels of a single score lie in 0 to 1", where=where, hint=_DISTIL)


class Criterion:
    """The loss of a batch, and how well its answers fit the labels.

    Args:
        objective: with a settled task (not ``auto``).
        student: where the trained model's answer is read; ``teacher`` likewise.
        classes: whether the output is class scores, which decides how logits are compared.
        label_range: least and greatest label, for pairs.
    """

    def __init__(
        self,
        objective: Objective,
        student: Head,
        teacher: Head | None = None,
        *,
        classes: bool = True,
        label_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.objective, self._student, self._teacher, self._label_range = objective, student, teacher, label_range
        kind = objective.logits_loss
        self._logits_loss = kind if kind != "auto" else "kl" if classes else "relative"

    @property
    def student_taps(self) -> tuple[str, ...]:
        """Tensors of the student that the loss reads."""
        inner = tuple(s for s, _ in self.objective.taps) if self.objective.features else ()
        return tuple(dict.fromkeys((self._student.scores, self._student.output, *inner)))

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """Tensors of the teacher that the loss reads."""
        if self._teacher is None or not self.objective.distils:
            return ()
        wanted = [self._teacher.scores] if self.objective.logits else []
        wanted += [self._teacher.output] if self.objective.relations or self.objective.cosine else []
        wanted += [t for _, t in self.objective.taps] if self.objective.features else []
        return tuple(dict.fromkeys(wanted))

    def check_teacher(self, student: Mapping[str, Any], teacher: Mapping[str, Any]) -> None:
        """Compares the shapes of what the two answer to the same samples.

        Raises:
            ModelError: a distillation term cannot compare them.
        """
        pairs = []
        if self._teacher is not None and self.objective.logits:
            ours, theirs = student[self._student.scores], teacher[self._teacher.scores]
            kl = self._logits_loss == "kl"
            pairs.append((self._student.rows(ours), self._teacher.rows(theirs)) if kl else (ours, theirs))
        if self._teacher is not None and self.objective.cosine:
            ours, theirs = student[self._student.output], teacher[self._teacher.output]
            pairs.append((ours.reshape(len(ours), -1), theirs.reshape(len(theirs), -1)))
        for ours, theirs in pairs:
            if ours.shape != theirs.shape:
                raise ModelError(
                    f"it answers {list(theirs.shape)} where the model answers {list(ours.shape)}", where="teacher",
                    hint="choose one with the same outputs, or compare `features` or `relations`",
                )  # fmt: skip

    def __call__(self, student: Mapping[str, Any], teacher: Mapping[str, Any], batch: Batch) -> Any:
        """The weighted sum, a scalar.

        Args:
            student: name → tensor, :attr:`student_taps` among them.
            teacher: likewise; empty where nothing is distilled.
            batch: the labels, and how samples were mixed.
        """
        wish = self.objective
        terms = []
        if wish.labelled:
            terms.append(wish.hard * self._hard(student, batch))
        if wish.logits and self._teacher is not None:
            terms.append(wish.logits * self._soft(student[self._student.scores], teacher[self._teacher.scores]))
        if wish.features:
            pairs = [losses.feature_match(student[s], teacher[t]) for s, t in wish.taps]
            terms.append(wish.features * sum(pairs) / len(pairs))
        if self._teacher is not None and (wish.relations or wish.cosine):
            ours, theirs = student[self._student.output], teacher[self._teacher.output]
            if wish.relations and len(ours) > 1:
                terms.append(wish.relations * losses.relations(ours, theirs))
            if wish.cosine:
                terms.append(wish.cosine * losses.cosine_match(ours, theirs))
        return sum(terms)

    def _soft(self, ours: Any, theirs: Any) -> Any:
        if self._logits_loss == "mse":
            return losses.squared_error(ours, theirs)
        if self._logits_loss == "relative":
            return losses.relative_error(ours, theirs)
        assert self._teacher is not None
        return losses.kl_divergence(self._student.rows(ours), self._teacher.rows(theirs), self.objective.temperature)

    def _hard(self, student: Mapping[str, Any], batch: Batch) -> Any:
        own = self._per_sample(student, batch.labels)
        if batch.mix is None:
            return own.mean()
        other = self._per_sample(student, batch.labels[batch.mix.partner])
        share = batch.mix.share
        if len(own) != len(share):
            share = share.repeat_interleave(len(own) // len(share))
        return (own * share + other * (1 - share)).mean()

    def _per_sample(self, student: Mapping[str, Any], labels: Any) -> Any:
        """``[B]``, or a loss per element of dense labels."""
        wish, head = self.objective, self._student
        if wish.task == "classification":
            return losses.cross_entropy(head.rows(student[head.scores]), labels.reshape(-1), wish.label_smoothing)
        if wish.task == "binary":
            return losses.binary_cross_entropy(student[head.scores], labels)
        if wish.task == "cosine_pairs":
            return losses.pair_error(student[head.output], labels, *self._label_range)
        return losses.error(student[head.output], labels, absolute=wish.task == "absolute")

    def right(self, student: Mapping[str, Any], batch: Batch) -> tuple[int, int] | None:
        """Answers that are right, and answers in all; ``None`` where the task has no right answers."""
        head = self._student
        if self.objective.task == "classification" and self.objective.labelled:
            answers = head.rows(student[head.scores]).argmax(dim=-1)
        elif self.objective.task == "binary" and self.objective.labelled:
            answers = (student[head.scores] > 0).reshape(-1)
        else:
            return None
        return int((answers == batch.labels.reshape(-1)).sum()), answers.numel()

