"""Fits the tile model of matrix products, and the trees behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from dovetail.predict.gemm.features import flags, work_features
from dovetail.predict.gemm.shapes import Gemms, Gpus, take
from dovetail.predict.gemm.tiles import TileModel
from dovetail.predict.trees import Trees
from published.boosting import Boosting
from published.table import Floats

_BELIEFS = {
    "share_64": (0.85, 0.4), "share_128": (1.73, 0.4), "share_256": (2.44, 0.4), "share_512": (2.94, 0.4), "fill": (4.16, 0.7),
    "waves": (0.0, 1.0), "blur": (0.0, 1.0), "stream": (1.73, 0.4), "cache": (1.61, 0.4), "launch": (1.39, 0.4),
    "gather": (0.69, 0.5), "gather_rate": (0.0, 0.5), "overlap": (0.7, 0.5),
}  # fmt: skip
"""Mean and standard deviation of each parameter before rows are seen: small tiles reach 0.7 of the reachable peak and large
ones 0.95, starting a tile costs 64 steps of the sum, streams reach 0.85 of the bandwidth, the cache is 5 times as fast as the
memory, a launch takes 4 µs."""
_STRENGTH = 0.1
"""Weight of the beliefs, as a share of the rows': errors of rows on one device hang together, so rows weigh less than they are
many. Chosen by errors on a device that was not fitted."""
_ROW_ERROR = 0.08
_ROWS = 1200
_ROUNDS = 20
_TREES = Boosting(trees=800, depth=7, rate=0.04, shrink=1.0, clip=0.06)
_QUICK = Boosting(trees=250, depth=7, rate=0.1, shrink=1.0, clip=0.06)


def fit_tiles(gemms: Gemms, gpus: Gpus, log_s: Floats) -> TileModel:
    """Most probable parameters under normal beliefs, and errors that count linearly from 5 % on.

    Args:
        gemms: measured products; an even sample of them is used.
        gpus: where they ran.
        log_s: ``[n]`` ln of the seconds measured.
    """
    some = np.random.default_rng(0).permutation(len(log_s))[:_ROWS]
    gemms, gpus = take(gemms, gpus, some)
    mean, width = np.array(list(_BELIEFS.values())).T

    def errors(vector: Floats) -> Floats:
        found = TileModel.of_vector(vector).log_seconds(gemms, gpus) - log_s[some]
        return np.concatenate([found, np.sqrt(_STRENGTH * len(some)) * _ROW_ERROR * (vector - mean) / width])

    found = least_squares(errors, mean, loss="soft_l1", f_scale=0.05, max_nfev=_ROUNDS, x_scale=width)
    return TileModel.of_vector(found.x)


def fit_trees(gemms: Gemms, gpus: Gpus, fitted: Mapping[str, Any], log_s: Floats, quick: bool = False) -> Trees:
    """Trees for what the tile model of ``fitted`` leaves; ``quick`` for errors behind intervals, a little greater ones."""
    tiles = TileModel.of_json(fitted["tiles"]).log_seconds(gemms, gpus)
    known = flags(gpus.name, gemms.role, fitted["devices"])
    x = np.concatenate([known, work_features(gemms, gpus, tiles)], axis=1)
    return (_QUICK if quick else _TREES).fit(x, log_s - tiles)
