"""Trains the weights of ONNX files on a split: implements :class:`dovetail.core.protocols.Trainer`."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from dovetail.core.errors import DataError, InputError, ModelError
from dovetail.core.measurement import Environment
from dovetail.core.protocols import Array, Dataset, Model
from dovetail.core.recipe import digest
from dovetail.core.serial import encode
from dovetail.core.training import Objective, Schedule, Trained
from dovetail.train import optimizers
from dovetail.train.augment import RECIPES, Augment, image_input, measure_ranges
from dovetail.train.batching import sizes_of, split_off
from dovetail.train.board import Board
from dovetail.train.checkpoint import Checkpoints
from dovetail.train.feed import Batch, Feed
from dovetail.train.graph import TrainableGraph
from dovetail.train.heads import head_of, looks_like_classes
from dovetail.train.loop import Judge, Progress, fit
from dovetail.train.objectives import Criterion, check_labels, chosen_task
from dovetail.train.teacher import Teacher

_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_INLINE_BYTES = 1_500_000_000
_LEAST_S = 1.0
"""Budget where all of it is gone already: enough to say that it is too short."""
_Inputs = Mapping[str, tuple[Any, list[int | None]]]
"""Input name → torch type and sizes, ``None`` where free."""


class GraphTrainer:
    """Trains ONNX files.

    Args:
        training: samples that neither select nor certify; ``None`` without.
        state: folder where checkpoints survive a kill; each training has a folder of its own in it.
        threads: that torch computes with.
        environment: the machine, whose instruction set decides about bfloat16.
        metric: the user's, which tells the loss where the objective says ``auto``.
        progress: used where a call gives none.
        every_s: seconds between checkpoints.
        tensorboard: folder of training curves for TensorBoard; ``None`` for none.
        spent_s: seconds of a schedule's budget that are gone before the call.
    """

    def __init__(
        self,
        training: Dataset | None,
        *,
        state: Path,
        threads: int,
        environment: Environment,
        metric: str = "",
        progress: Progress | None = None,
        every_s: float = 20.0,
        tensorboard: Path | None = None,
        spent_s: float = 0.0,
    ) -> None:
        self._training, self._state, self._threads, self._environment = training, state, threads, environment
        self._metric, self._progress, self._every_s, self._tensorboard = metric, progress, every_s, tensorboard
        self._spent_s = spent_s

    def fit(
        self,
        model: Model,
        *,
        out: Path,
        objective: Objective,
        schedule: Schedule,
        teacher: Model | None = None,
        progress: Callable[[float, str], None] | None = None,
    ) -> Trained:
        """Writes the trained model to ``out``; see the protocol for arguments and errors."""
        started = time.monotonic()
        if self._training is None or not len(self._training):
            raise DataError("there are no training samples", where="training data", hint="add --train FILE")
        if objective.distils and teacher is None:
            raise InputError("a distillation term needs a teacher", where="training")
        identity = self._identity(model, teacher, objective, schedule)
        checkpoints = Checkpoints(self._state / identity, identity, self._every_s)
        with _threads(self._threads):
            session = _Session(self._training, model, teacher if objective.distils else None, objective, schedule, self._metric)
            saved = checkpoints.read()
            if saved is None or not saved.values["finished"]:
                session.prepare(progress or self._progress or (lambda fraction, text: None))
            fitted = fit(
                session.graph,
                session.loss,
                session.feed,
                self._in_time(schedule),
                judge=session.judge,
                checkpoints=checkpoints,
                progress=progress or self._progress,
                bfloat16=bool(_BFLOAT16 & set(self._environment.isa)),
                board=Board(None if self._tensorboard is None else self._tensorboard / identity),
                spent_s=time.monotonic() - started,
            )
            written = _write(session.graph.to_proto(), out)
        return Trained(
            model=written,
            history=fitted.history,
            seconds=fitted.seconds,
            samples_per_s=fitted.samples_per_s,
            score_name="" if session.judge is None else session.judge.name,
            score=fitted.score,
            notes=fitted.notes,
        )

    def _in_time(self, schedule: Schedule) -> Schedule:
        """What is left of the budget. The whole of it names the training, so that it resumes whenever it is called again."""
        if schedule.budget_s is None:
            return schedule
        least_s = min(_LEAST_S, schedule.budget_s)
        return dataclasses.replace(schedule, budget_s=max(least_s, schedule.budget_s - self._spent_s))

    def _identity(self, model: Model, teacher: Model | None, objective: Objective, schedule: Schedule) -> str:
        """Hash over everything that decides the weights; trainings of the same one go on from each other's checkpoints."""
        assert self._training is not None
        files = [None if m is None else [_content(path) for path in m.files()] for m in (model, teacher)]
        data = [self._training.name, self._training.content_hash, len(self._training)]
        return digest([files, encode(objective), encode(schedule), data, self._metric, self._threads, torch.__version__])


class _Session:
    """Student, teacher, batches and loss of one training."""

    def __init__(
        self, dataset: Dataset, model: Model, teacher: Model | None, objective: Objective, schedule: Schedule, metric: str
    ) -> None:
        self._dataset, self._schedule, self._sizes = dataset, schedule, sizes_of(dataset)
        source = _read(model)
        self.graph = TrainableGraph(source, learn_scales=schedule.learn_scales, memory_format=torch.channels_last)
        self._student = head_of(source, objective.output)
        reference = None if teacher is None else _read(teacher)
        frozen = {"memory_format": torch.channels_last, "frozen": True}
        self._teacher_graph = None if reference is None else TrainableGraph(reference, **frozen)
        teacher_head = None if reference is None else head_of(reference, objective.output)
        self._inputs = _inputs(source)
        self._teacher_inputs = {} if reference is None else _inputs(reference)
        trains, judges = split_off(np.asarray(dataset.groups), schedule.hold_out, schedule.seed)
        answer, few = self._probe(trains)
        task, columns = self._settled(objective, answer, len(few), metric)
        objective = dataclasses.replace(objective, task=task)
        pairs = task == "cosine_pairs" and objective.labelled
        labels = dataset.labels if pairs else None
        self._criterion = Criterion(
            objective,
            self._student,
            teacher_head,
            classes=columns > 1 and (task == "classification" or (task is None and self._classes(answer, few.feeds, metric))),
            label_range=(0.0, 1.0) if labels is None else (float(labels.min()), float(labels.max())),
        )
        self._weights = [p for p in self.graph.parameters() if p.requires_grad and not optimizers.is_vector(p)]
        self._teacher = Teacher(self._ask, len(dataset))
        if self._criterion.teacher_taps:
            self._meet(few)
        augment = _augment(dataset, trains, schedule)
        if augment is not None and objective.labelled:
            _check_augment(augment, schedule.augment, dataset.labels, pairs)
        self.feed = self._feed(trains, pairs, augment)
        self._judging = self._feed(judges, pairs) if len(judges) else None
        self._judge_teacher = Teacher(self._ask, len(dataset))
        right = objective.labelled and task in ("classification", "binary")
        score = Judge(name="accuracy" if right else "loss", score=self._score, higher_is_better=right)
        self.judge = None if self._judging is None else score

    def prepare(self, progress: Progress) -> None:
        """Computes the teacher's answers that will be needed again as they are."""
        if not self._criterion.teacher_taps:
            return
        if self._schedule.augment == "none" and self._schedule.epochs > 1:
            self._teacher.remember(_told(self.feed, progress))
        if self._judging is not None:
            self._judge_teacher.remember(_told(self._judging, progress))

    def loss(self, batch: Batch) -> Any:
        """Of a training batch."""
        answers = self._run(batch, self._criterion.student_taps)
        theirs = self._teacher(batch) if self._criterion.teacher_taps else {}
        loss = self._criterion(answers, theirs, batch)
        if not getattr(loss, "requires_grad", False):
            what = f"the loss of a batch of {len(batch)} samples depends on no weight that is trained"
            hint = f"{self._student.output!r} must hold real numbers that weights decide; relations need two samples or more"
            raise ModelError(what, where="training", hint=hint)
        l1 = self._criterion.objective.l1
        return loss + l1 * sum(weight.abs().sum() for weight in self._weights) if l1 else loss

    def _feed(self, indices: Array, pairs: bool, augment: Augment | None = None) -> Feed:
        batch, seed = self._schedule.batch, self._schedule.seed
        return Feed(self._dataset, indices, batch=batch, seed=seed, pairs=pairs, augment=augment, sizes=self._sizes)

    def _score(self) -> float:
        """Accuracy on the held-out samples, or their mean loss."""
        assert self._judging is not None
        total, count, right, answers = 0.0, 0, 0, 0
        for batch in self._judging.in_order():
            found = self._run(batch, self._criterion.student_taps)
            hits = self._criterion.right(found, batch)
            if hits is not None:
                right, answers = right + hits[0], answers + hits[1]
            else:
                theirs = self._judge_teacher(batch) if self._criterion.teacher_taps else {}
                total += float(self._criterion(found, theirs, batch)) * len(batch)
                count += len(batch)
            if not bool(torch.isfinite(found[self._student.scores]).all()):
                return math.nan
        return right / answers if answers else total / count

    def _ask(self, batch: Batch) -> Mapping[str, Any]:
        assert self._teacher_graph is not None
        feeds = self._complete(batch, self._teacher_inputs)
        answers = self._teacher_graph(feeds, taps=self._criterion.teacher_taps)
        return {name: answers[name].detach() for name in self._criterion.teacher_taps}

    def _run(self, batch: Batch, taps: tuple[str, ...]) -> Any:
        return self.graph(self._complete(batch, self._inputs), taps=taps)

    def _complete(self, batch: Batch, inputs: _Inputs) -> dict[str, Any]:
        """What the data hold; recurrent state, which they do not, as zeros."""
        whole = {name: feed for name, feed in batch.feeds.items() if name in inputs}
        for name, (dtype, sizes) in inputs.items():
            if name not in whole:  # its first free axis is the batch's
                free = sizes.index(None) if None in sizes else -1
                shape = [len(batch) if i == free else size or 1 for i, size in enumerate(sizes)]
                whole[name] = torch.zeros(shape, dtype=dtype)
        return whole

    def _meet(self, few: Batch) -> None:
        """Says early what the teacher cannot be asked, or what of its answers cannot be compared."""
        strange = [name for name in self._teacher_inputs if name not in few.feeds and name not in self._inputs]
        if strange:
            what = f"its input {strange[0]!r} is not among the model's: {', '.join(self._inputs)}"
            raise InputError(what, where="teacher", hint="rename its inputs as the model's are named")
        self.graph.eval()
        with torch.no_grad():
            self._criterion.check_teacher(self._run(few, self._criterion.student_taps), self._ask(few))

    def _probe(self, trains: Array) -> tuple[Any, Batch]:
        """The answer to the first samples, and these; says early what does not run."""
        few = trains[: min(2, self._schedule.batch, len(trains))]
        batch = next(Feed(self._dataset, few, batch=2, sizes=self._sizes).in_order())
        self.graph.eval()
        try:
            with torch.no_grad():
                answers = self._run(batch, (self._student.scores,))
        except (RuntimeError, IndexError, ValueError) as error:
            if isinstance(error, ModelError):
                raise
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"the graph does not take a batch of {len(batch)} samples: {reason}", where="training",
                             hint="export it with a free batch axis, or train with batch 1") from error  # fmt: skip
        return answers[self._student.scores], batch

    def _settled(self, objective: Objective, answer: Any, count: int, metric: str) -> tuple[str | None, int]:
        """The loss against labels, checked against them, and the columns of the answer to ``count`` samples."""
        labels = self._dataset.labels
        columns = int(self._student.rows(answer).shape[1]) if answer.ndim > 1 else 1
        if not objective.labelled:
            return None, columns
        task = objective.task
        if task == "auto":
            task = chosen_task(metric, labels, columns, self._student)
        assert task is not None
        compared = answer.numel() // (columns if task == "classification" else 1)
        check_labels(labels, task, columns, 1 if task == "cosine_pairs" else compared // count)
        return task, columns

    def _classes(self, answer: Any, feeds: dict[str, Any], metric: str) -> bool:
        """Whether the output is class scores: by the metric where it tells, else by its looks."""
        try:
            return chosen_task(metric, None, 2, self._student) == "classification"
        except InputError:
            return looks_like_classes(self._student, answer, feeds)


def _told(feed: Feed, progress: Progress) -> Iterator[Batch]:
    done = 0
    for batch in feed.in_order():
        progress(0.0, f"the teacher answers, {done:,} of {feed.samples:,}")
        yield batch
        done += len(batch)


def _augment(dataset: Dataset, trains: Array, schedule: Schedule) -> Augment | None:
    if schedule.augment not in RECIPES:
        raise InputError(f"augment {schedule.augment!r} is not one of {', '.join(RECIPES)}", where="training")
    recipe = RECIPES[schedule.augment]
    if recipe is None:
        return None
    name, layout = image_input(dataset, wanted=schedule.augment)
    ranges = measure_ranges(dataset, trains, name, layout)
    return Augment(recipe, ranges, input=name, layout=layout, seed=schedule.seed)


def _check_augment(augment: Augment, name: str, labels: Array | None, pairs: bool) -> None:
    """Refuses changes of images that their labels would have to follow."""
    if augment.mixes and pairs:
        raise InputError(f"augment {name!r} mixes samples, and a pair's label is no mixture", where="training")
    if labels is not None and labels.ndim > 2:
        what = f"augment {name!r} moves images, and labels of pixels, {list(labels.shape[1:])} here, would stay where they are"
        raise InputError(what, where="training", hint="train without, or from a teacher alone")


def _read(model: Model) -> Any:
    try:
        return onnx.load(model.path)
    except Exception as error:  # protobuf and the file system raise unrelated types
        raise ModelError(f"cannot be read as ONNX: {error}", where=str(model.path)) from error


def _inputs(proto: Any) -> _Inputs:
    """The inputs that are not constants."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    found = {}
    for value in proto.graph.input:
        if value.name not in constants:
            kind = value.type.tensor_type
            sizes = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
            dtype = torch.from_numpy(np.zeros(1, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))).dtype
            found[value.name] = (dtype, sizes)
    return found


def _write(proto: Any, out: Path) -> Model:
    """Writes the model as a whole or not at all; weights that one file cannot hold lie beside it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    if proto.ByteSize() > _INLINE_BYTES:
        onnx.save(proto, partial, save_as_external_data=True, location=f"{out.name}.data")
    else:
        onnx.save(proto, partial)
    os.replace(partial, out)
    return Model(path=out)


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch computes with so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
