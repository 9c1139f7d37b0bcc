"""Sums of oblivious decision trees: all nodes of one level ask the same question, so a tree is a table of ``2^depth`` leaves.

Boosted trees of this shape overfit less than free ones and are read without branches (Prokhorenkova et al., "CatBoost:
unbiased boosting with categorical features", NeurIPS 2018, section 3).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_STEPS = 32767
"""Leaves are stored as whole steps of their greatest magnitude over this: a smaller file, and errors below 1e-4 of a leaf."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trees:
    """``T`` trees of depth ``D``.

    Attributes:
        start: what is said before any tree.
        features: ``[T, D]`` column that a level asks about.
        thresholds: ``[T, D]``; a level answers yes above it.
        leaves: ``[T, 2^D]`` what each tree adds; the first level is the highest bit of the index.
    """

    start: float
    features: Indices
    thresholds: Floats
    leaves: Floats

    def __post_init__(self) -> None:
        depth = self.features.shape[1]
        if self.thresholds.shape != self.features.shape or self.leaves.shape != (len(self.features), 1 << depth):
            raise ValueError(f"trees of depth {depth} have {depth} thresholds and {1 << depth} leaves each")

    def __call__(self, x: Floats) -> Floats:
        """``[n]`` from ``[n, columns]``."""
        columns = np.ascontiguousarray(x.T)
        total = np.full(len(x), self.start)
        for asked, limits, leaves in zip(self.features, self.thresholds, self.leaves, strict=True):
            leaf = np.zeros(len(x), dtype=np.int16)
            for column, limit in zip(asked, limits, strict=True):
                leaf += leaf
                leaf += columns[column] > limit
            total += leaves[leaf]
        return total

    def to_json(self) -> dict[str, Any]:
        """JSON values: numbers packed as base64 of little-endian bytes."""
        scale = float(np.abs(self.leaves).max(initial=0.0)) / _STEPS or 1.0
        return {
            "start": float(self.start),
            "depth": int(self.features.shape[1]),
            "features": _packed(self.features, "<u1"),
            "thresholds": _packed(self.thresholds, "<f8"),
            "leaf_step": scale,
            "leaves": _packed(np.rint(self.leaves / scale), "<i2"),
        }

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Trees:
        """What :meth:`to_json` wrote."""
        depth = int(values["depth"])
        leaves = _unpacked(values["leaves"], "<i2").astype(np.float64) * float(values["leaf_step"])
        return cls(
            start=float(values["start"]),
            features=_unpacked(values["features"], "<u1").astype(np.intp).reshape(-1, depth),
            thresholds=_unpacked(values["thresholds"], "<f8").astype(np.float64).reshape(-1, depth),
            leaves=leaves.reshape(-1, 1 << depth),
        )


def _packed(values: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values.astype(dtype)).tobytes()).decode("ascii")


def _unpacked(text: str, dtype: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=dtype)
