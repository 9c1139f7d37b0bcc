"""Divides one set of samples into calibration, selection and certification, by whole independent units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dovetail.core.protocols import Array

CALIBRATION_SHARE, CALIBRATION_MOST, SELECTION_SHARE = 0.10, 512, 0.30
_MOST_CLASSES, _LEAST_MEMBERS = 1000, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitIndices:
    """Sample indices of the three splits, ascending, and what the data were too few for.

    ``certification`` is empty when fewer than three independent units exist; ``notes`` then says so.
    """

    calibration: Array
    selection: Array
    certification: Array
    notes: tuple[str, ...] = ()


def units_of(groups: Array) -> list[Array]:
    """Sample indices of every independent unit, units in the order of their first sample.

    Args:
        groups: ``[n]``, equal for samples of one unit.
    """
    if not len(groups):
        return []
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    unit_of_sample = rank[inverse]
    order = np.argsort(unit_of_sample, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(unit_of_sample[order])) + 1)


def split_units(labels: Array | None, groups: Array, *, seed: int) -> SplitIndices:
    """Seeded split: calibration min(512, 10 %), selection 30 %, certification the rest.

    Stratified by label where labels are at most 1000 classes; classes with fewer than 10 units share one stratum. With a
    single unit, calibration and selection share it.

    Args:
        labels: ``[n, ...]`` or ``None``; only one number or text per sample can be a class.
        groups: ``[n]`` integers.
        seed: the same seed and data give the same split.
    """
    units = units_of(groups)
    order = _stratified_order(_strata(labels, units), np.random.default_rng(seed))
    sizes = np.array([len(units[u]) for u in order])
    n = int(sizes.sum())
    calibration, selection = _cuts(sizes, min(CALIBRATION_MOST, CALIBRATION_SHARE * n), SELECTION_SHARE * n)

    def samples(chosen: Array) -> Array:
        return np.sort(np.concatenate([units[u] for u in chosen])) if len(chosen) else np.empty(0, dtype=np.int64)

    if len(units) == 1:
        note = "1 independent unit: calibration and selection share it, and nothing is left to certify on"
        return SplitIndices(
            calibration=samples(order), selection=samples(order), certification=samples(order[1:]), notes=(note,)
        )
    notes = ("2 independent units: one calibrates, one selects, and nothing is left to certify on",) if len(units) == 2 else ()
    return SplitIndices(
        calibration=samples(order[:calibration]),
        selection=samples(order[calibration:selection]),
        certification=samples(order[selection:]),
        notes=notes,
    )


def _cuts(sizes: Array, calibration: float, selection: float) -> tuple[int, int]:
    """Numbers of leading units that calibrate, and that calibrate or select; each split gets a unit where there are enough."""
    reached = np.cumsum(sizes)
    first = max(1, int(np.searchsorted(reached, calibration, side="right")))
    second = max(first + 1, int(np.searchsorted(reached, reached[first - 1] + selection, side="right")))
    if len(sizes) >= 3 and second >= len(sizes):
        second = len(sizes) - 1
        first = min(first, second - 1)
    return first, second


def _strata(labels: Array | None, units: list[Array]) -> Array:
    """``[n_units]`` stratum numbers; all zero where labels are not classes."""
    none = np.zeros(len(units), dtype=np.int64)
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iuU":
        return none
    classes, stratum, members = np.unique([labels[u[0]] for u in units], return_inverse=True, return_counts=True)
    if len(classes) > _MOST_CLASSES:
        return none
    rare = members < _LEAST_MEMBERS
    return np.where(rare[stratum], len(classes), stratum)


def _stratified_order(strata: Array, rng: np.random.Generator) -> Array:
    """An order of all units whose every prefix holds each stratum in proportion.

    Members of a stratum, shuffled, sit evenly spaced on [0, 1) from a random offset; all strata are then merged.
    """
    keys = np.empty(len(strata))
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        keys[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(keys, kind="stable")


def overlap(a: Array, b: Array) -> int:
    """How many samples of ``b`` also occur in ``a``, by the digests of their feeds."""
    return int(np.isin(b, a).sum())
