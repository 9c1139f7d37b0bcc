"""Errors on rows about language models, by how far a row is from the fitted ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from dovetail.predict.llm_asked import Asked, regimes
from dovetail.predict.spread import conformal
from published.table import Floats


class Errors:
    """Logarithmic errors on rows that were not fitted, by quantity and by how far the row is from the fitted ones."""

    def __init__(self, quantities: Sequence[str]) -> None:
        self._found: dict[str, dict[str, list[tuple[str, float]]]] = {name: {} for name in quantities}

    def add(self, quantity: str, effects: Mapping[str, Mapping[str, float]], asked: Asked, errors: Floats) -> None:
        """Errors of one quantity, ``[n]``, of the questions that they were made on."""
        keys = asked.keys()
        groups = {"model": keys["model"], "device": keys["device"]}
        for index, (kind, error) in enumerate(zip(regimes(effects, keys), errors, strict=True)):
            group = groups.get(str(kind), keys["cell"])[index]
            self._found[quantity].setdefault(str(kind), []).append((group, float(error)))

    def spreads(self) -> dict[str, dict[str, dict[str, float]]]:
        """Quantity → regime → spread. Who knows less gets no narrower interval."""
        return {quantity: _spreads(found) for quantity, found in self._found.items()}


def _spreads(found: Mapping[str, Sequence[tuple[str, float]]]) -> dict[str, dict[str, float]]:
    """A regime without errors of its own takes those of unknown models and devices, and without these all that there are."""
    far = [error for regime in ("model", "device", "both") for error in found.get(regime, ())]
    every = far or [error for some in found.values() for error in some]
    run = spread_of(list(found.get("run", ())) or every)
    cell = envelope(run, spread_of([*found.get("cell", ()), *every]))
    model, device = (envelope(run, spread_of(list(found.get(regime, ())) or every)) for regime in ("model", "device"))
    return {"run": run, "cell": cell, "model": model, "device": device, "both": envelope(model, device)}


def envelope(*spreads: Mapping[str, float]) -> dict[str, float]:
    """The narrowest spread that holds all of them."""
    return {"low": min(one["low"] for one in spreads), "high": max(one["high"] for one in spreads)}


def spread_of(errors: Sequence[tuple[str, float]], coverage: float = 0.9) -> dict[str, float]:
    """Spread of errors that come in groups (of one model, of one device), each given with its group.

    The rows of a group err alike, so that the number of groups, not of rows, says how well the spread is known: its ends are
    moved out by Student's quantile for the groups over that of the normal distribution.
    """
    spread = conformal(np.array([error for _, error in errors]), coverage)
    groups = max(len({group for group, _ in errors}), 2)
    tail = (1 + coverage) / 2
    wider = float(stats.t.ppf(tail, groups - 1) / stats.norm.ppf(tail))
    return {"low": spread.low**wider, "high": spread.high**wider}
