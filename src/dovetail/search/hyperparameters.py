"""Which settings of a training to try next: a thin layer over optuna, whose sampler learns from what was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dovetail.core.errors import InputError
from dovetail.core.training import Schedule, Tried

RATE_RANGE = 10.0
"""Learning rates from a tenth to ten times the usual one are tried."""
OPTIMIZERS = ("sgd", "adamw")
USUAL_RATE = {"sgd": 0.05, "adamw": 1e-3}


class Study:
    """Ask/tell over schedules.

    Args:
        base: the schedule that settings are laid over.
        augmentations: names to choose from.
        tried: what an interrupted study tried.

    Raises:
        InputError: optuna is not installed.
    """

    def __init__(self, base: Schedule, augmentations: Sequence[str], tried: Sequence[Tried] = ()) -> None:
        try:
            import optuna
        except ImportError as exc:
            raise InputError("a search needs optuna", where="train", hint="pip install 'dovetail[torch]'") from exc
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._base, self._augmentations = optuna, base, tuple(augmentations)
        self._study = optuna.create_study(
            direction="minimize",
            sampler=optuna.samplers.TPESampler(seed=base.seed, n_startup_trials=4),
        )
        self._study.enqueue_trial(self._usual())
        for row in tried:
            self._replay(row)

    def ask(self) -> Tried:
        """Settings to try next."""
        trial = self._study.ask()
        optimizer = trial.suggest_categorical("optimizer", OPTIMIZERS)
        settings: dict[str, str | int | float] = {
            "optimizer": optimizer,
            "learning_rate": USUAL_RATE[optimizer] * trial.suggest_float("rate", 1 / RATE_RANGE, RATE_RANGE, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True),
            "augment": trial.suggest_categorical("augment", self._augmentations),
            "batch": trial.suggest_categorical("batch", (32, 64, 128)),
        }
        self._trial = trial
        return Tried(settings=settings, score=None)

    def tell(self, tried: Tried) -> None:
        """What became of the settings that were asked for last."""
        state = None if tried.cost is not None else self._optuna.trial.TrialState.FAIL
        self._study.tell(self._trial, tried.cost, state=state)

    def schedule(self, settings: Mapping[str, Any], base: Schedule | None = None) -> Schedule:
        """A schedule, the study's by default, with settings laid over it."""
        return replace(base or self._base, **settings)

    def _replay(self, row: Tried) -> None:
        """Asks as before, so that the sampler stands where it stood, and tells what came of it."""
        self.ask()
        self.tell(row)

    def _usual(self) -> dict[str, Any]:
        optimizer = self._base.optimizer
        rate = min(max(self._base.learning_rate / USUAL_RATE[optimizer], 1 / RATE_RANGE), RATE_RANGE)
        return {
            "optimizer": optimizer,
            "rate": rate,
            "weight_decay": min(max(self._base.weight_decay, 1e-5), 1e-1),
            "augment": self._base.augment if self._base.augment in self._augmentations else self._augmentations[0],
            "batch": self._base.batch if self._base.batch in (32, 64, 128) else 128,
        }
