"""Fits weights of the terms of networks' times, and the trees behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.optimize import nnls

from dovetail.predict.nets.model import NetModel, tree_features
from dovetail.predict.nets.setting import Setting
from dovetail.predict.nets.terms import terms_s
from dovetail.predict.trees import Trees
from published.boosting import Boosting
from published.table import Floats

_SHRINK = 0.01
"""Wish for small weights, as a share of the mean time: terms that go together share what they explain."""
_ROUNDS = 4
_FLAT = 0.03
"""Relative error from which a row counts by its error, no longer by its square."""
_LEAST = 40
"""Rows that a setting's own weights need."""
_TREES = Boosting(trees=500, depth=6, rate=0.06, shrink=5.0, clip=0.15)
_QUICK = Boosting(trees=200, depth=6, rate=0.12, shrink=5.0, clip=0.15)


def positive_weights(terms: Floats, seconds: Floats) -> Floats:
    """``[k]`` non-negative weights with the least absolute relative error, by least squares reweighted.

    Args:
        terms: ``[n, k]``, never negative.
        seconds: ``[n]``.
    """
    relative = terms / seconds[:, None]
    scale = relative.mean(axis=0) + 1e-12
    design, importance = relative / scale, np.ones(len(seconds))
    wish = _SHRINK * np.sqrt(len(seconds)) * np.eye(terms.shape[1])
    found = np.zeros(terms.shape[1])
    for _ in range(_ROUNDS):
        root = np.sqrt(importance)
        found, _ = nnls(np.vstack([design * root[:, None], wish]), np.concatenate([root, np.zeros(len(wish))]), maxiter=20_000)
        importance = 1 / np.maximum(np.abs(design @ found - 1), _FLAT)
        importance /= importance.mean()
    return np.asarray(found / scale)


def fit_weights(quantities: Floats, batch: Floats, settings: Sequence[Setting], seconds: Floats) -> dict[str, Any]:
    """Weights of each setting, and of all devices of each way together."""
    terms = terms_s(quantities, batch, settings)
    keys, ways = np.array([s.key for s in settings]), np.array([s.way for s in settings])
    by_way = {str(way): positive_weights(terms[ways == way], seconds[ways == way]) for way in sorted(set(ways))}
    own = []
    for item in sorted(set(settings), key=lambda s: s.key):
        rows = keys == item.key
        if rows.sum() >= _LEAST:
            own.append({"setting": asdict(item), "weights": _rounded(positive_weights(terms[rows], seconds[rows]))})
    return {"settings": own, "ways": {way: _rounded(weights) for way, weights in by_way.items()}}


def fit_trees(
    weights: Mapping[str, Any],
    quantities: Floats,
    batch: Floats,
    pixels: Floats,
    settings: Sequence[Setting],
    log_s: Floats,
    quick: bool,
) -> Trees:
    """Trees for what the weighted sums leave; ``quick`` for errors behind intervals, a little greater ones."""
    model = NetModel(weights)
    found = {setting.key: model.weights(setting) for setting in set(settings)}
    logs, shares = model.sums(quantities, batch, settings, found)
    return (_QUICK if quick else _TREES).fit(tree_features(shares, quantities, batch, pixels, settings), log_s - logs)


def _rounded(weights: Floats) -> list[float]:
    return [float(f"{weight:.5g}") for weight in weights]
