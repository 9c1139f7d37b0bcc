"""The search over training settings: it starts from the user's own, and goes on where it was interrupted."""

from dataclasses import replace

import pytest

from dovetail.core.training import Schedule, Tried
from dovetail.search.hyperparameters import RATE_RANGE, USUAL_RATE, Study

pytest.importorskip("optuna")

BASE = Schedule(optimizer="adamw", learning_rate=2e-3, weight_decay=1e-3, batch=32, augment="shifts", seed=3)
CHOICES = ("none", "shifts")


def scored(asked: Tried, number: int) -> Tried:
    """Every third training fails; others are the better the nearer their rate is to the usual one."""
    if number % 3 == 2:
        return asked
    apart = abs(float(asked.settings["learning_rate"]) / USUAL_RATE[str(asked.settings["optimizer"])] - 1)
    return replace(asked, score=1 / (1 + apart), score_name="accuracy")


def test_the_users_own_settings_are_tried_first() -> None:
    asked = Study(BASE, CHOICES).ask()
    assert asked.settings == pytest.approx({
        "optimizer": "adamw", "learning_rate": 2e-3, "weight_decay": 1e-3, "augment": "shifts", "batch": 32,
    })  # fmt: skip


def test_an_interrupted_search_asks_for_what_it_would_have_asked_for() -> None:
    whole, rows = Study(BASE, CHOICES), list[Tried]()
    for number in range(8):
        rows.append(scored(whole.ask(), number))
        whole.tell(rows[-1])
    resumed = Study(BASE, CHOICES, rows[:5])
    for number in range(5, 8):
        row = scored(resumed.ask(), number)
        assert row == rows[number]
        resumed.tell(row)


def test_settings_lie_in_their_ranges_and_become_a_schedule() -> None:
    study = Study(BASE, CHOICES)
    for number in range(6):
        asked = scored(study.ask(), number)
        study.tell(asked)
        made = study.schedule(asked.settings)
        usual = USUAL_RATE[made.optimizer]
        assert usual / RATE_RANGE <= made.learning_rate <= usual * RATE_RANGE and made.augment in CHOICES
        assert made.epochs == BASE.epochs and made.seed == BASE.seed


def test_less_is_better_whatever_the_score_is() -> None:
    assert Tried(settings={}, score=0.9, score_name="accuracy").cost == -0.9
    assert Tried(settings={}, score=0.9, score_name="loss").cost == 0.9
    assert Tried(settings={}, score=None).cost is None
