"""Fits the models of edge accelerators: sums of terms with shrunk coefficients, and intervals from networks left out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from dovetail.predict.edge.additive import Additive, Design
from dovetail.predict.spread import FEWEST, conformal
from published.table import Floats, folds

BASE, CONDITION, BY_TAG, OVERALL, BY_GROUP = 0.02, 1.0, 40.0, 10.0, 40.0
"""Precision of the prior of each coefficient, in natural logarithms: 1 says that conditions differ by about e before rows
are seen, 100 by a factor of 1.1. Chosen once by errors on left-out networks of all three zoos."""

SCALE = 0.25
"""Errors (of the logarithm) up to about this count squared, greater ones ever less: some published rows are wrong."""

ROUNDS = 300


def names(items: Sequence[Mapping[str, float]], groups: Sequence[Hashable] | None = None, least: int = 1) -> tuple[str, ...]:
    """Names that occur with a value other than 0, sorted; in at least so many groups of rows."""
    held: dict[str, set[Hashable]] = {}
    for item, group in zip(items, groups or range(len(items)), strict=True):
        for name, value in item.items():
            if value:
                held.setdefault(name, set()).add(group)
    return tuple(sorted(name for name, found in held.items() if len(found) >= least))


def blank(terms: Sequence[str], conditions: Sequence[str], tags: Sequence[str], groups: Sequence[str]) -> Additive:
    """A model with all coefficients zero, to encode rows for."""
    j, c, t, g = len(terms), len(conditions), len(tags), len(groups)
    return Additive(
        terms=tuple(terms),
        conditions=tuple(conditions),
        tags=tuple(tags),
        groups=tuple(groups),
        base=np.zeros(j),
        by_condition=np.zeros((j, c)),
        by_tag=np.zeros((j, t)),
        overall=np.zeros(t),
        by_group=np.zeros((g, t)),
        centre=np.zeros(t),
    )


def fit(empty: Additive, design: Design, log_seconds: Floats, named: Mapping[str, float] | None = None) -> Additive:
    """Most probable coefficients under Student's t errors (3 degrees of freedom) and normal priors.

    Args:
        empty: its names.
        design: ``[n]`` rows.
        log_seconds: ``[n]`` measured.
        named: conditions with a prior precision of their own: single devices, which should differ less than kinds of them.
    """
    told = ~np.isnan(design.tags)
    centre = np.where(told, design.tags, 0.0).sum(axis=0) / np.maximum(told.sum(axis=0), 1)
    shape = _Shape(empty, centre, named or {})
    start, weights = shape.start(design, log_seconds), shape.precision()
    tags = np.where(told, design.tags - centre, 0.0)

    def loss(step: Floats) -> tuple[float, Floats]:
        model = shape.model(start + step / weights)
        logs = model.log_terms(design)
        total = np.logaddexp.reduce(logs, axis=1)
        error = (total - log_seconds) / SCALE
        slope = 4 * error / 3 / (1 + error**2 / 3) / SCALE
        by_term = np.exp(logs - total[:, None]) * slope[:, None]
        parts = (
            by_term.sum(axis=0),
            by_term.T @ design.conditions,
            by_term.T @ tags,
            tags.T @ slope,
            (design.groups * slope[:, None]).T @ tags,
        )
        gradient = np.concatenate([part.ravel() for part in parts]) / weights + step
        return float(2 * np.log1p(error**2 / 3).sum() + 0.5 * (step @ step)), gradient

    found = optimize.minimize(
        loss, np.zeros(start.size), jac=True, method="L-BFGS-B", options={"maxiter": ROUNDS, "maxcor": 30}
    )
    return shape.model(start + found.x / weights)


class _Shape:
    """Coefficients of a model as one vector and back."""

    def __init__(self, empty: Additive, centre: Floats, named: Mapping[str, float]) -> None:
        self.empty, self.centre, self.named = empty, centre, named
        j, c, t, g = map(len, (empty.terms, empty.conditions, empty.tags, empty.groups))
        self.shapes = ((j,), (j, c), (j, t), (t,), (g, t))

    def precision(self) -> Floats:
        """Square roots of the priors' precisions."""
        conditions = np.array([self.named.get(name, CONDITION) for name in self.empty.conditions])
        levels = (BASE, conditions, BY_TAG, OVERALL, BY_GROUP)
        return np.sqrt(np.concatenate([np.broadcast_to(v, s).ravel() for s, v in zip(self.shapes, levels, strict=True)]))

    def start(self, design: Design, log_seconds: Floats) -> Floats:
        """Every term takes an equal part of the time of the rows that have it; no effects."""
        base = [_middle(log_seconds, design.sizes[:, j]) - np.log(len(self.empty.terms)) for j in range(len(self.empty.terms))]
        rest = sum(int(np.prod(s)) for s in self.shapes[1:])
        return np.concatenate([base, np.zeros(rest)])

    def model(self, vector: Floats) -> Additive:
        """The model with these coefficients."""
        ends = np.cumsum([int(np.prod(s)) for s in self.shapes])[:-1]
        parts = [p.reshape(s) for p, s in zip(np.split(vector, ends), self.shapes, strict=True)]
        e = self.empty
        return Additive(
            terms=e.terms,
            conditions=e.conditions,
            tags=e.tags,
            groups=e.groups,
            base=parts[0],
            by_condition=parts[1],
            by_tag=parts[2],
            overall=parts[3],
            by_group=parts[4],
            centre=self.centre,
        )


def _middle(log_seconds: Floats, size: Floats) -> float:
    present = size > 0
    return float(np.median(log_seconds[present] - np.log(size[present]))) if present.any() else float(np.median(log_seconds))


Fit = Callable[[NDArray[np.intp]], Any]
LogSeconds = Callable[[Any, NDArray[np.intp]], Floats]


def left_out(
    groups: Sequence[Hashable], fit_rows: Fit, predict_rows: Sequence[LogSeconds], log_seconds: Floats
) -> list[Floats]:
    """Errors ``ln(measured / predicted)`` of rows whose group was left out of the fit, one array for each way to predict."""
    fold = folds(groups)
    errors = [np.full(len(groups), np.nan) for _ in predict_rows]
    for number in np.unique(fold):
        rows = np.flatnonzero(fold == number)
        fitted = fit_rows(np.flatnonzero(fold != number))
        for found, predict in zip(errors, predict_rows, strict=True):
            found[rows] = log_seconds[rows] - predict(fitted, rows)
    return errors


def spread(errors: Floats) -> list[float]:
    """Factors of a 90 % interval; of few errors by Student's t around none, as their least and greatest hold less."""
    told = errors[np.isfinite(errors)]
    found = conformal(told)
    low, high = found.low, found.high
    if len(told) < FEWEST:
        half = float(stats.t.isf(0.05, len(told)) * np.sqrt(np.mean(told**2) * (1 + 1 / len(told))))
        low, high = min(low, float(np.exp(-half))), max(high, float(np.exp(half)))
    return [round(low, 4), round(high, 4)]


def power_law(fitted_flop: Floats, fitted_s: Floats, flop: Floats) -> Floats:
    """``t = a · flop^b``, a trivial model."""
    slope, start = np.polyfit(np.log(fitted_flop), np.log(fitted_s), 1)
    return np.exp(start + slope * np.log(flop))
