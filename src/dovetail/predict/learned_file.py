"""What was learned from a calibration as JSON, and back: learning takes seconds, reading does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dovetail.core.calibration import Calibration
from dovetail.core.serial import decode, encode
from dovetail.predict.call_model import LearnedCalls
from dovetail.predict.kernel_model import Choice, Label, LearnedKernels
from dovetail.predict.machine_model import Learned, setting
from dovetail.predict.plan_model import LearnedPlans

SCHEMA = 2
"""Of the layout and of what is learned: raise it whenever either changes."""


def to_json(learned: Learned) -> dict[str, Any]:
    """As JSON values."""
    return {
        "schema": SCHEMA,
        "calibration": encode(learned.calibration),
        "best_rates": dict(learned.best_rates),
        "calls": [{"runtime": key[0], "threads": key[1], **_calls(found)} for key, found in learned.calls.items()],
        "plans": [
            {"runtime": key[0], "form": key[1], "options": dict(key[2]), "threads": threads, **_plans(found)}
            for key, (threads, found) in learned.plans.items()
        ],
    }


def from_json(document: Mapping[str, Any]) -> Learned:
    """The inverse of :func:`to_json`.

    Raises:
        ValueError: it is of another version, or no such document.
    """
    try:
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']}, not {SCHEMA}")
        return Learned(
            calibration=decode(Calibration, document["calibration"]),
            best_rates=document["best_rates"],
            calls={(row["runtime"], row["threads"]): _calls_from(row) for row in document["calls"]},
            plans={
                setting(row["runtime"], row["form"], row["options"]): (row["threads"], _plans_from(row))
                for row in document["plans"]
            },
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not what was learned from a calibration: {error!r}") from error


def _calls(found: LearnedCalls) -> dict[str, Any]:
    return {
        "kernels": _kernels(found.kernels),
        "weights": encode(found.weights),
        "scores": encode(found.scores),
    }


def _calls_from(row: Mapping[str, Any]) -> LearnedCalls:
    return LearnedCalls(
        kernels=_kernels_from(row["kernels"]),
        weights={name: (float(w[0]), float(w[1]), float(w[2])) for name, w in row["weights"].items()},
        scores={name: tuple(found) for name, found in row["scores"].items()},
    )


def _kernels(found: LearnedKernels) -> dict[str, Any]:
    distinct = list(dict.fromkeys(found.labels))
    number = {item: index for index, item in enumerate(distinct)}
    return {
        "roofs": [[list(level), weights.tolist()] for level, weights in found.roofs.items()],
        "labels": encode(distinct),
        "label": [number[item] for item in found.labels],
        "x": found.x.tolist(),
        "residual": found.residual.tolist(),
        "noise": found.noise.tolist(),
        "scale": found.scale,
        "choice": encode(found.choice),
    }


def _kernels_from(row: Mapping[str, Any]) -> LearnedKernels:
    distinct = [decode(Label, item) for item in row["labels"]]
    return LearnedKernels(
        roofs={tuple(level): np.array(weights) for level, weights in row["roofs"]},
        labels=tuple(distinct[index] for index in row["label"]),
        x=np.array(row["x"]),
        residual=np.array(row["residual"]),
        noise=np.array(row["noise"]),
        scale=row["scale"],
        choice=decode(Choice, row["choice"]),
    )


def _plans(found: LearnedPlans) -> dict[str, Any]:
    return {
        "labels": encode(found.labels),
        "usual": found.usual,
        "weights": list(found.weights),
        "log_errors": encode(found.log_errors),
        "calls_s": encode(found.calls_s),
    }


def _plans_from(row: Mapping[str, Any]) -> LearnedPlans:
    labels: Sequence[tuple[str, Any]] = list(row["labels"].items())
    return LearnedPlans(
        labels={family: decode(Label, item) for family, item in labels},
        usual=row["usual"],
        weights=tuple(row["weights"]),
        log_errors=row["log_errors"],
        calls_s=row["calls_s"],
    )
