"""Sums of non-negative terms fitted to measured times, in the logarithm: a factor too much counts as a factor too little."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Floats = NDArray[np.float64]

_SMALL = 1e-3
"""Share of the least time that a term which explains nothing keeps, so that its logarithm exists."""
_LOSS_SCALE = 0.25
"""Error of the logarithm from which a point counts less than by its square."""


def positive_sum(
    terms: Floats, measured: Floats, prior: Floats | None = None, strength: float = 0.05, start: Floats | None = None
) -> Floats:
    """Weights ``w ≥ 0`` for which ``terms·w`` comes closest to ``measured``, in the logarithm and with outliers held down.

    Args:
        terms: ``[n, k]``, never negative, at least one of each row above zero.
        measured: ``[n]``, above zero.
        prior: ``[k]`` weights to stay near, where the points say nothing.
        strength: of that wish, per weight, in units of one point.
        start: ``[k]`` weights that are close already.
    """
    usual = np.maximum(terms.mean(axis=0), 1e-300)
    least = _SMALL * measured.min() / usual
    wanted = np.log(np.maximum(prior if prior is not None else _start(terms / measured[:, None]), least))
    first = wanted if start is None else np.log(np.maximum(start, least))
    logs = np.log(measured)

    def errors(theta: Floats) -> Floats:
        fitted = np.log(terms @ np.exp(theta)) - logs
        return np.asarray(np.concatenate([fitted, np.sqrt(strength) * (theta - wanted)]))

    def slopes(theta: Floats) -> Floats:
        parts = terms * np.exp(theta)
        return np.concatenate([parts / parts.sum(axis=1, keepdims=True), np.sqrt(strength) * np.eye(len(theta))])

    found = optimize.least_squares(errors, first, jac=slopes, loss="soft_l1", f_scale=_LOSS_SCALE, max_nfev=30)
    return np.asarray(np.exp(found.x))


def _start(relative: Floats) -> Floats:
    """Least squares of the relative error, where it is quick to be found."""
    scale = np.maximum(np.abs(relative).max(axis=0), 1e-300)
    found, _ = optimize.nnls(relative / scale, np.ones(len(relative)))
    return np.asarray(found / scale)
