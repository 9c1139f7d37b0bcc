"""What a training run minimises, how it goes about it, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dovetail.core.errors import InputError
from dovetail.core.measurement import Environment
from dovetail.core.protocols import Model

TASKS = ("auto", "classification", "binary", "regression", "absolute", "cosine_pairs")
"""Losses against labels: cross-entropy, binary cross-entropy, squared and absolute error, squared error of a pair's cosine.
``auto`` chooses by metric, labels and output."""

LOGIT_LOSSES = ("auto", "kl", "mse")
OPTIMIZERS = ("sgd", "adamw")
CURVES = ("cosine", "one_cycle", "constant")
PRECISIONS = ("auto", "bfloat16", "float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is minimised: a weighted sum of a loss against labels and of terms that compare with a teacher.

    Attributes:
        task: one of :data:`TASKS`; ``None`` uses no labels.
        hard: weight of the loss against labels.
        label_smoothing: share of the label's probability that is spread over all classes, 0 to 1.
        logits: weight of the distillation of logits.
        logits_loss: ``kl`` (Hinton 2015, at the temperature), ``mse``, or ``auto``: ``kl`` where the output is class scores,
            else the squared error over the teacher's variance.
        temperature: of ``kl``.
        features: weight of the normalised squared error between the tensors of ``taps``.
        taps: pairs (tensor of the student, tensor of the teacher).
        relations: weight of relational distillation (Park 2019): distances and cosines between the samples of a batch.
        cosine: weight of ``1 - cos(student, teacher)`` of the output.
        l1: factor of the sum of the weights' magnitudes, which prepares unstructured pruning.
        output: output that is judged; the first when empty.
    """

    task: str | None = None
    hard: float = 1.0
    label_smoothing: float = 0.0
    logits: float = 0.0
    logits_loss: str = "auto"
    temperature: float = 4.0
    features: float = 0.0
    taps: tuple[tuple[str, str], ...] = ()
    relations: float = 0.0
    cosine: float = 0.0
    l1: float = 0.0
    output: str = ""

    def __post_init__(self) -> None:
        _check(self.task is None or self.task in TASKS, f"task {self.task!r} is not one of {', '.join(TASKS)}")
        _check(self.logits_loss in LOGIT_LOSSES, f"logits_loss {self.logits_loss!r} is not one of {', '.join(LOGIT_LOSSES)}")
        weights = (self.hard, self.logits, self.features, self.relations, self.cosine, self.l1)
        _check(all(math.isfinite(w) and w >= 0 for w in weights), "weights of an objective are finite and not negative")
        _check(self.temperature > 0, f"the temperature is above zero, not {self.temperature}")
        _check(0 <= self.label_smoothing < 1, f"label_smoothing lies in 0 to 1, not at {self.label_smoothing}")
        _check(not self.features or bool(self.taps), "the features term needs `taps`: pairs of tensors to compare")
        _check(self.labelled or self.distils, "nothing is minimised: give a task, or a weight to a distillation term")

    @property
    def labelled(self) -> bool:
        """Whether labels are used."""
        return self.task is not None and self.hard > 0

    @property
    def distils(self) -> bool:
        """Whether a teacher is needed."""
        return any((self.logits, self.features, self.relations, self.cosine))


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how to train.

    Attributes:
        epochs: passes over the training samples, a fraction allowed.
        batch: samples per forward call.
        optimizer: ``sgd`` (Nesterov momentum) or ``adamw``.
        learning_rate: the peak.
        weight_decay: of weights; biases, norms and scales have none.
        momentum: of ``sgd``.
        curve: of the learning rate, one of :data:`CURVES`.
        warmup: share of all steps in which the rate rises from zero.
        ema: decay of the average of the weights per step (0.999), ``None`` for none.
        accumulate: forward calls whose gradients make one step.
        precision: ``auto`` takes bfloat16 where the processor has instructions for it and a step is measured to be faster.
        augment: name in :data:`dovetail.train.augment.RECIPES`.
        seed: of order, augmentation and dropout.
        budget_s: seconds in all; the schedule is shortened to end with them. ``None`` for no limit.
        clip: largest norm of the gradient, ``None`` for no limit.
        hold_out: share of the independent units that judge instead of training, at most as many as hold 1,000 samples;
            0 for none.
        patience: epochs without a better score after which training stops, ``None`` for never.
        keep: ``best`` returns the weights of the best score on the held-out samples, ``last`` those of the last step.
        keep_zeros: weights that are zero at the start stay zero.
        learn_scales: also trains the scales of a quantised graph (LSQ, Esser 2020).
    """

    epochs: float = 10.0
    batch: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.05
    weight_decay: float = 5e-4
    momentum: float = 0.9
    curve: str = "cosine"
    warmup: float = 0.05
    ema: float | None = None
    accumulate: int = 1
    precision: str = "auto"
    augment: str = "none"
    seed: int = 0
    budget_s: float | None = None
    clip: float | None = None
    hold_out: float = 0.1
    patience: int | None = None
    keep: str = "best"
    keep_zeros: bool = False
    learn_scales: bool = False

    def __post_init__(self) -> None:
        _check(self.optimizer in OPTIMIZERS, f"optimizer {self.optimizer!r} is not one of {', '.join(OPTIMIZERS)}")
        _check(self.curve in CURVES, f"curve {self.curve!r} is not one of {', '.join(CURVES)}")
        _check(self.precision in PRECISIONS, f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        _check(self.keep in ("best", "last"), f"keep {self.keep!r} is not one of best, last")
        _check(math.isfinite(self.epochs) and self.epochs > 0, f"epochs is above zero, not {self.epochs}")
        _check(self.batch >= 1 and self.accumulate >= 1, "batch and accumulate are 1 or more")
        _check(math.isfinite(self.learning_rate) and self.learning_rate > 0, "the learning rate is above zero")
        _check(self.weight_decay >= 0 and 0 <= self.momentum < 1, "weight decay is not negative and momentum in 0 to 1")
        _check(0 <= self.warmup < 1, f"warmup is a share of all steps, 0 to 1, not {self.warmup}")
        _check(self.ema is None or 0 < self.ema < 1, f"ema is a decay in 0 to 1, not {self.ema}")
        _check(self.budget_s is None or self.budget_s > 0, f"budget_s is above zero, not {self.budget_s}")
        _check(self.clip is None or self.clip > 0, f"clip is above zero, not {self.clip}")
        _check(0 <= self.hold_out < 1, f"hold_out is a share, 0 to 1, not {self.hold_out}")
        _check(self.patience is None or self.patience >= 1, f"patience is 1 or more, not {self.patience}")
        _check(0 <= self.seed < 2**32, f"a seed is a whole number of 32 bits, not {self.seed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """A row of a training's history, at the end of an epoch.

    Attributes:
        step: optimiser steps done.
        epoch: epochs done.
        loss: mean over the epoch's steps.
        score: on the held-out samples, ``None`` without.
        learning_rate: of the last step.
        seconds: since the start, pauses between a kill and the resume left out.
    """

    step: int
    epoch: float
    loss: float
    score: float | None
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of a training.

    Attributes:
        model: the source graph with other weights.
        score_name: ``accuracy`` or ``loss``, as the history's scores are; empty without held-out samples.
        samples_per_s: trained samples over the seconds of training steps.
        notes: phrases for people.
    """

    model: Model
    history: tuple[Epoch, ...]
    seconds: float
    samples_per_s: float
    score_name: str = ""
    score: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """Settings that a search tried.

    Attributes:
        settings: by names of :class:`Schedule`.
        score: on the held-out samples; ``None`` where the training failed.
        score_name: ``accuracy``, of which more is better, or ``loss``.
    """

    settings: Mapping[str, str | int | float]
    score: float | None
    score_name: str = ""

    @property
    def cost(self) -> float | None:
        """The score with less being better."""
        return -self.score if self.score is not None and self.score_name == "accuracy" else self.score


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """The answer of ``dovetail train``.

    Attributes:
        folder: holds ``model.onnx``, ``training.json`` and ``report.html``.
        schedule: that the weights were trained with.
        samples: that were trained on or held out.
        tried: what the search tried, in order; empty without one.
        notes: phrases for people.
    """

    folder: Path
    model_name: str
    objective: Objective
    schedule: Schedule
    history: tuple[Epoch, ...]
    score_name: str
    score: float | None
    seconds: float
    samples_per_s: float
    samples: int
    environment: Environment
    tried: tuple[Tried, ...] = ()
    notes: tuple[str, ...] = ()


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise InputError(what, where="training")
