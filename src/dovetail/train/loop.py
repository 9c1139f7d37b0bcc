"""The training loop, over any module: a step at a time, in time, resumable, and with the best weights at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from dovetail.core import units
from dovetail.core.errors import InputError, ModelError
from dovetail.core.serial import decode, encode
from dovetail.core.training import Epoch, Schedule
from dovetail.train import optimizers, pace
from dovetail.train.board import Board
from dovetail.train.checkpoint import Checkpoints
from dovetail.train.ema import Ema, Tensors, copied, load, state_of
from dovetail.train.feed import Batch, prefetched
from dovetail.train.schedules import Plan, factor

Progress = Callable[[float, str], None]
_PROGRESS_S = 0.5
_SLOWER = "steps took longer than planned"
_WORTH_TIMING = 50
"""Steps from which on it pays to time both precisions."""
_LOOKS = 50
"""How often in a training its pace is compared with the budget."""


class Batches(Protocol):
    """Training batches; :class:`dovetail.train.feed.Feed` has them."""

    def __len__(self) -> int:
        """Batches per epoch."""
        ...

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Those of an epoch from a number on, the same whenever they are asked for."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """What tells good weights from bad ones between epochs.

    Attributes:
        name: ``loss`` or ``accuracy``.
        score: of the module as it is, which is in evaluation mode.
    """

    name: str
    score: Callable[[], float]
    higher_is_better: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What came of a training; the module holds the weights."""

    history: tuple[Epoch, ...]
    seconds: float
    samples_per_s: float
    score: float | None
    notes: tuple[str, ...]


class _Diverged(Exception):
    """The loss is not finite."""


def fit(
    module: Any,
    loss: Callable[[Batch], Any],
    feed: Batches,
    schedule: Schedule,
    *,
    judge: Judge | None = None,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
    bfloat16: bool = False,
    board: Board | None = None,
    spent_s: float = 0.0,
) -> Fitted:
    """Trains a module in place.

    Args:
        module: a ``torch.nn.Module``; its parameters that require a gradient are trained.
        loss: the loss of a batch, a scalar tensor; it calls the module.
        feed: the batches of each epoch.
        schedule: how long and how.
        judge: scores the weights after each epoch; without one the last weights are the best.
        checkpoints: where to save and resume; ``None`` for neither.
        progress: called with (fraction, text), at most twice a second.
        bfloat16: whether the processor computes in it.
        board: TensorBoard curves.
        spent_s: seconds of the budget that are gone already.

    Raises:
        InputError: the budget is too short for one epoch, or an epoch has too few batches for one step.
        ModelError: there is nothing to train, or the loss became NaN before any epoch was done.
    """
    run = _Run(module, loss, feed, schedule, judge, checkpoints, progress, board or Board(None), spent_s)
    torch.manual_seed(schedule.seed)
    with _deterministic():
        if not run.resume():
            run.begin(bfloat16)
        return run.train()


class _Run:
    """One training on its way."""

    def __init__(
        self,
        module: Any,
        loss: Callable[[Batch], Any],
        feed: Batches,
        schedule: Schedule,
        judge: Judge | None,
        checkpoints: Checkpoints | None,
        progress: Progress | None,
        board: Board,
        spent_s: float,
    ) -> None:
        self._module, self._loss, self._feed, self._schedule, self._judge = module, loss, feed, schedule, judge
        self._checkpoints, self._progress, self._board = checkpoints, progress, board
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        if not self._parameters:
            raise ModelError("the model has no weights to train", hint="choose passes that need no training")
        self._optimizer = optimizers.build(self._parameters, schedule)
        self._ema = None if schedule.ema is None else Ema(module, schedule.ema)
        self._masks = _masks(self._parameters) if schedule.keep_zeros else ([], [])
        self._per_epoch = _steps(feed, schedule)
        self._plan = Plan(total=max(1, round(schedule.epochs * self._per_epoch)))
        self._step, self._loss_sum, self._loss_count, self._rate = 0, 0.0, 0, 0.0
        self._history: list[Epoch] = []
        self._notes: list[str] = []
        self._best: Tensors = {}
        self._best_at, self._best_score = -1, math.nan
        self._started, self._spent_s = time.monotonic(), spent_s
        self._trained, self._training_s = 0, 0.0
        self._here, self._last_told = (0, time.monotonic()), 0.0
        self._stopped = self._finished = False

    # -- start and resume ---------------------------------------------------------------------------------------------

    def begin(self, bfloat16: bool) -> None:
        """Measures where time decides, settles the plan and writes the first checkpoint, which holds it."""
        schedule = self._schedule
        wanted = schedule.precision
        low = wanted == "bfloat16"
        asked = wanted == "auto" and bfloat16 and self._plan.total >= _WORTH_TIMING
        if asked or schedule.budget_s is not None:
            with self._rehearsal() as step:
                low = pace.bfloat16_is_faster(step) if asked else low
                costs = None if schedule.budget_s is None else self._costs(step, low)
            if costs is not None and schedule.budget_s is not None:
                total = pace.steps_within(schedule.budget_s, self._seconds(), costs, schedule.epochs)
                if total < self._plan.total:
                    self._notes.append(_shortened(schedule, total / self._per_epoch))
                self._plan = Plan(total=total, step_s=costs.step_s)
        self._plan = dataclasses.replace(self._plan, bfloat16=low)
        if low:
            self._notes.append("forward passes in bfloat16")
        self._here = (0, time.monotonic())
        self._save()

    def _costs(self, step: Callable[[bool], object], low: bool) -> pace.Costs:
        step_s = pace.step_seconds(lambda: step(low))
        started = time.perf_counter()
        self._scored()
        return pace.Costs(step_s=step_s, judge_s=time.perf_counter() - started, steps=self._per_epoch)

    @contextlib.contextmanager
    def _rehearsal(self) -> Iterator[Callable[[bool], object]]:
        """A function that makes a step of training; after the block everything is as it was."""
        before, random = copied(state_of(self._module)), torch.get_rng_state()
        epochs = (self._feed.batches(number) for number in range(1_000_000))
        with contextlib.closing(prefetched(batch for epoch in epochs for batch in epoch)) as batches:
            self._module.train()
            yield lambda low: self._optimise([next(batches) for _ in range(self._schedule.accumulate)], 0.0, low)
        load(self._module, before)
        torch.set_rng_state(random)
        self._optimizer = optimizers.build(self._parameters, self._schedule)

    def resume(self) -> bool:
        """Goes back to the last checkpoint; false where there is none."""
        saved = None if self._checkpoints is None else self._checkpoints.read()
        if saved is None:
            return False
        values = saved.values
        self._finished = values["finished"]
        load(self._module, _under("model.", saved.tensors))
        if not self._finished:
            optimizers.restore(self._optimizer, _under("optimizer.", saved.tensors))
            if self._ema is not None:
                self._ema.restore(_under("ema.", saved.tensors))
            torch.set_rng_state(saved.tensors["random"])
            self._best = dict(_under("best.", saved.tensors))
        self._best_at, self._best_score = values["best_at"], values["best_score"]
        self._plan = decode(Plan, values["plan"])
        self._step, self._loss_sum, self._loss_count = values["step"], values["loss_sum"], values["loss_count"]
        self._history = [decode(Epoch, row) for row in values["history"]]
        self._notes = list(values["notes"])
        self._spent_s += values["seconds"]
        self._trained, self._training_s = values["trained"], values["training_s"]
        self._here = (self._step, time.monotonic())
        return True

    def _save(self) -> None:
        if self._checkpoints is None:
            return
        tensors = _named("model.", state_of(self._module))
        if not self._finished:
            tensors |= _named("optimizer.", optimizers.state_of(self._optimizer)) | _named("best.", self._best)
            tensors |= _named("ema.", {} if self._ema is None else self._ema.average)
            tensors["random"] = torch.get_rng_state()
        values = {
            "plan": encode(self._plan),
            "step": self._step,
            "loss_sum": self._loss_sum,
            "loss_count": self._loss_count,
            "history": encode(self._history),
            "best_at": self._best_at,
            "best_score": self._best_score,
            "notes": self._notes,
            "seconds": self._seconds(),
            "trained": self._trained,
            "training_s": self._training_s,
            "finished": self._finished,
        }
        self._checkpoints.write(self._step, tensors, values)

    # -- training -----------------------------------------------------------------------------------------------------

    def train(self) -> Fitted:
        """From the current step to the end."""
        try:
            while not (self._finished or self._stopped) and self._step < self._plan.total:
                self._epoch()
        except _Diverged as fault:
            self._fall_back(str(fault))
        if not self._finished:
            self._finished = True
            if self._best and self._schedule.keep == "best":
                load(self._module, self._best)
            elif self._ema is not None:
                load(self._module, self._ema.average)
            self._save()
        self._board.close()
        self._module.eval()
        speed = self._trained / self._training_s if self._training_s else math.nan
        score = None if self._judge is None or math.isnan(self._best_score) else self._final_score()
        return Fitted(
            history=tuple(self._history),
            seconds=self._seconds(),
            samples_per_s=speed,
            score=score,
            notes=tuple(self._notes),
        )

    def _final_score(self) -> float | None:
        return self._best_score if self._schedule.keep == "best" else self._history[-1].score

    def _epoch(self) -> None:
        """The rest of the epoch that the current step lies in, then a look at what it brought."""
        number, within = divmod(self._step, self._per_epoch)
        each = self._schedule.accumulate
        last = min((number + 1) * self._per_epoch, self._plan.total)
        self._module.train()
        with contextlib.closing(prefetched(self._feed.batches(number, within * each))) as batches:
            while self._step < last:
                self._one_step(batches)
                if self._checkpoints is not None and self._checkpoints.due() and self._step < last:
                    self._save()
                self._tell()
                last = min(last, self._in_time())
        self._close_epoch()
        if self._checkpoints is not None and self._checkpoints.due():
            self._save()

    def _one_step(self, feed: Iterator[Batch]) -> None:
        started = time.perf_counter()
        schedule = self._schedule
        batches = [next(feed) for _ in range(schedule.accumulate)]
        self._rate = schedule.learning_rate * factor(schedule.curve, self._plan.progress(self._step), schedule.warmup)
        loss = self._optimise(batches, self._rate, self._plan.bfloat16)
        if not math.isfinite(loss):
            raise _Diverged(f"the loss became {loss} at step {self._step + 1} of {self._plan.total}")
        if self._ema is not None:
            self._ema.update(self._step)
        self._step += 1
        self._loss_sum, self._loss_count = self._loss_sum + loss, self._loss_count + 1
        self._trained += sum(len(batch.indices) for batch in batches)
        self._training_s += time.perf_counter() - started

    def _optimise(self, batches: list[Batch], rate: float, low: bool) -> float:
        """One optimiser step; the mean loss of its batches before it."""
        self._optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for batch in batches:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
                loss = self._loss(batch)
            (loss / len(batches) if len(batches) > 1 else loss).backward()
            total += float(loss.detach()) / len(batches)
        if not math.isfinite(total):
            return total
        if self._schedule.clip is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._schedule.clip, foreach=True)
        optimizers.set_rate(self._optimizer, rate)
        self._optimizer.step()
        if self._masks[0]:
            with torch.no_grad():
                torch._foreach_mul_(self._masks[0], self._masks[1])
        return total

    def _close_epoch(self) -> None:
        """Judges the weights, files a row, and keeps them if they are the best so far."""
        score = self._scored()
        if (score is None or math.isfinite(score)) and not all(bool(torch.isfinite(p).all()) for p in self._parameters):
            score = math.nan  # rounding to 8 bits turns such weights into levels, so that loss and score stay finite
        if score is not None and not math.isfinite(score):
            raise _Diverged(f"the weights gave {score} after step {self._step} of {self._plan.total}")
        row = Epoch(
            step=self._step,
            epoch=self._step / self._per_epoch,
            loss=self._loss_sum / max(1, self._loss_count),
            score=score,
            learning_rate=self._rate,
            seconds=self._seconds(),
        )
        self._loss_sum, self._loss_count = 0.0, 0
        self._history.append(row)
        self._board.add(row)
        if self._better(score):
            with self._averaged():
                self._best = copied(state_of(self._module))
            self._best_at, self._best_score = len(self._history) - 1, math.nan if score is None else score
        self._stop_early()

    def _scored(self) -> float | None:
        if self._judge is None:
            return None
        self._module.eval()
        with self._averaged(), torch.no_grad():
            score = self._judge.score()
        self._module.train()
        return score

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        """The weights that would be handed out: the moving average where there is one."""
        return contextlib.nullcontext() if self._ema is None else self._ema.swapped()

    def _better(self, score: float | None) -> bool:
        if score is None or math.isnan(self._best_score) or self._judge is None:
            return True
        return score > self._best_score if self._judge.higher_is_better else score < self._best_score

    def _stop_early(self) -> None:
        patience = self._schedule.patience
        without = len(self._history) - 1 - self._best_at
        if patience is not None and self._judge is not None and without >= patience and self._step < self._plan.total:
            what = f"{without} epochs without a better {self._judge.name}"
            self._notes.append(f"stopped after epoch {len(self._history)}: {what}")
            self._stopped = True

    def _fall_back(self, fault: str) -> None:
        """After a loss that is not finite: the best weights so far, or an error."""
        if not self._best:
            raise ModelError(
                f"{fault}, before one epoch was done",
                where="training",
                hint=f"lower the learning rate ({self._schedule.learning_rate:g}), or limit the gradient's norm with `clip`",
            )
        load(self._module, self._best)
        self._notes.append(f"{fault}; the weights after epoch {self._best_at + 1} are kept")
        self._finished = True
        self._save()

    # -- time ---------------------------------------------------------------------------------------------------------

    def _seconds(self) -> float:
        """Since the start, in all processes that worked on it."""
        return self._spent_s + time.monotonic() - self._started

    def _per_step_s(self) -> float:
        """Seconds per step in this process so far, epochs' judgements included; NaN before the first."""
        first, since = self._here
        return (time.monotonic() - since) / (self._step - first) if self._step > first else math.nan

    def _in_time(self) -> int:
        """The last step, brought forward where the budget would run out before it."""
        budget, plan = self._schedule.budget_s, self._plan
        if budget is None or self._step % max(1, plan.total // _LOOKS):
            return plan.total
        step_s, left_s = self._per_step_s(), budget - self._seconds()
        if (plan.total - self._step) * step_s <= left_s:
            return plan.total
        total = max(self._step + 1, self._step + int(left_s * (1 - pace.RESERVE) / step_s))
        if total < plan.total:
            self._plan = plan.shortened(self._step, total)
            self._notes = [note for note in self._notes if not note.startswith(_SLOWER)]
            self._notes.append(f"{_SLOWER}: {total:,} were made")
            if self._step % self._per_epoch:  # at its end, the epoch has to be judged first
                self._save()
        return self._plan.total

    def _tell(self) -> None:
        now = time.monotonic()
        if self._progress is None or now - self._last_told < _PROGRESS_S:
            return
        self._last_told = now
        total = self._plan.total
        parts = [
            f"epoch {self._step / self._per_epoch:.1f} of {total / self._per_epoch:.1f}",
            f"loss {self._loss_sum / max(1, self._loss_count):.3g}",
        ]
        if self._judge is not None and self._history and self._history[-1].score is not None:
            parts.append(f"{self._judge.name} {self._history[-1].score:.4g}")
        parts.append(f"{units.duration((total - self._step) * self._per_step_s())} left")
        self._progress(self._step / total, ", ".join(parts))


def _steps(feed: Batches, schedule: Schedule) -> int:
    """Optimiser steps per epoch."""
    if len(feed) < schedule.accumulate:
        what = f"an epoch has {len(feed)} batches, and {schedule.accumulate} make one step"
        raise InputError(what, where="training", hint="lower `batch` or `accumulate`")
    return len(feed) // schedule.accumulate


def _shortened(schedule: Schedule, epochs: float) -> str:
    assert schedule.budget_s is not None
    return f"{epochs:.1f} instead of {schedule.epochs:g} epochs fit {units.duration(schedule.budget_s)}"


def _masks(parameters: list[Any]) -> tuple[list[Any], list[Any]]:
    """Parameters that hold zeros, and where they do not, as factors of 0 and 1."""
    sparse = [p for p in parameters if not optimizers.is_vector(p) and bool((p == 0).any())]
    return sparse, [(p != 0).to(p.dtype) for p in sparse]


def _named(prefix: str, tensors: Mapping[str, Any]) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Any]) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Sums in a fixed order where torch offers it, so that a resumed training ends bitwise as an unbroken one."""
    was, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was, warn_only=warned)
        torch.utils.deterministic.fill_uninitialized_memory = filled
