"""Kernel times learned from measured ones: a roofline for each kind of kernel, and a Gaussian process on what it leaves.

The roofline gives times far from anything measured; the process bends it where measurements are near. Gaussian processes:
Rasmussen & Williams, *Gaussian Processes for Machine Learning* (2006), algorithm 2.1 and equation 5.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from dovetail.core.profile import Kernel, KernelTime
from dovetail.predict.fit import positive_sum
from dovetail.predict.kernel_work import features, work

Floats = NDArray[np.float64]

SHORTEST_S = 2e-7
"""Profilers' clocks do not tell shorter times apart."""
_FEWEST = 6
"""Kernels of one kind that a roofline of its own needs."""
_ENOUGH = 200
"""Kernels that a roofline is fitted to."""
_WIDTHS = (1.5, 3.0, 6.0)
"""Length scales that are tried, in units of ln over all features together."""
_MOST = 1000
"""Kernels that a process is made of: its cost grows with their cube."""
_CHOOSE_FROM = 250
"""Kernels by which length scale and correlation are chosen."""
_NOISE = 0.08
"""Least relative error of a single measured kernel."""
_BETWEEN = (0.0, 0.4, 0.8)
"""Correlations between kinds of kernels that are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What decides which code runs, from the most to the least specific."""

    kind: str
    dtype: str
    implementation: str
    family: str

    def levels(self) -> tuple[tuple[str, ...], ...]:
        """Groups that the kernel belongs to, the narrowest first."""
        full = (self.kind, self.dtype, self.implementation)
        return (full, (self.kind, self.dtype), (self.family, self.dtype), (self.family,), ())


def label(kernel: Kernel) -> Label:
    """Of one kernel."""
    return Label(kind=kernel.kind, dtype=kernel.dtype, implementation=kernel.implementation, family=work(kernel).family)


class KernelModel:
    """Learned from the kernels of one runtime at one number of threads.

    Args:
        kernels: with their measured times; at least one.
        groups: of each kernel: the network that it was measured in; of one network, repeats are left out.
        like: a model whose choice of length scale and correlation is taken; ``None`` chooses.

    Attributes:
        chosen: length scale and correlation.
    """

    def __init__(self, kernels: Sequence[KernelTime], groups: Sequence[str], like: KernelModel | None = None) -> None:
        labels, x = [label(kernel) for kernel in kernels], features(kernels)
        times = np.maximum(np.array([kernel.time_s for kernel in kernels]), SHORTEST_S)
        self._roofs = _roofs(labels, x, times)
        residual = np.log(times) - np.log(self._floor(labels, x))
        kept = _apart(labels, x, groups)
        self._labels, self._x = [labels[i] for i in kept], x[kept]
        self._residual = residual[kept]
        self._scale = max(0.15, float(np.std(self._residual)))
        # Clocks of whole microseconds tell short kernels badly.
        self._noise = np.hypot(_NOISE, SHORTEST_S / times[kept])
        square = _square(self._x, self._x)
        self._codes = _Codes(self._labels)
        agree = self._codes.agree(self._labels)
        self.chosen: tuple[float, float] = like.chosen if like else self._chosen(square, agree)
        self._process: _Process = self._fit(square, agree, *self.chosen)

    def predict(self, kernels: Sequence[Kernel]) -> tuple[Floats, Floats]:
        """Seconds of each kernel, and the standard deviation of their natural logarithm; both ``[n]``."""
        return self.predict_work([label(kernel) for kernel in kernels], features(kernels))

    def predict_work(self, labels: Sequence[Label], x: Floats) -> tuple[Floats, Floats]:
        """The same from labels and features, ``[n, 8]``."""
        if not labels:
            return np.zeros(0), np.zeros(0)
        process = self._process
        cross = self._covariance(_square(x, self._x), self._codes.agree(labels), process.width, process.between)
        solved = linalg.solve_triangular(process.factor, cross.T, lower=True, check_finite=False)
        variance = np.maximum(self._scale**2 - (solved**2).sum(axis=0), 0.0) + _NOISE**2
        return self._floor(labels, x) * np.exp(cross @ process.alpha), np.sqrt(variance)

    def _chosen(self, square: Floats, agree: Sequence[NDArray[np.bool_]]) -> tuple[float, float]:
        """Length scale and correlation under which some of the kernels are likeliest."""
        some = slice(None, None, -(-len(square) // _CHOOSE_FROM))
        part = square[some, some], [pairs[some, some] for pairs in agree]
        tried = [self._fit(*part, width, between, some) for width in _WIDTHS for between in _BETWEEN]
        best = max(tried, key=lambda process: process.likelihood)
        return best.width, best.between

    def _fit(
        self,
        square: Floats,
        agree: Sequence[NDArray[np.bool_]],
        width: float,
        between: float,
        part: slice = slice(None),
    ) -> _Process:
        """One choice, for all kernels or for a part of them."""
        residual = self._residual[part]
        covariance = self._covariance(square, agree, width, between) + np.diag(self._noise[part] ** 2)
        factor = linalg.cholesky(covariance, lower=True, check_finite=False)
        alpha = linalg.cho_solve((factor, True), residual, check_finite=False)
        likelihood = -0.5 * float(residual @ alpha) - float(np.log(np.diag(factor)).sum())
        return _Process(width=width, between=between, factor=factor, alpha=alpha, likelihood=likelihood)

    def _covariance(self, square: Floats, agree: Sequence[NDArray[np.bool_]], width: float, between: float) -> Floats:
        """1 for the same code, ``between`` shared out over kinds and families that agree; less with distance."""
        alike = (1 - between) * agree[0] + between / 2 * agree[1] + between / 2 * agree[2]
        return np.asarray(self._scale**2 * alike * np.exp(-0.5 / width**2 * square))

    def _floor(self, labels: Sequence[Label], x: Floats) -> Floats:
        """Seconds by the roofline of the narrowest group that has one."""
        found = [next(self._roofs[level] for level in item.levels() if level in self._roofs) for item in labels]
        return np.asarray(np.maximum((_terms(x) * np.array(found)).sum(axis=1), SHORTEST_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    """One choice of length scale and of correlation between kinds, fitted."""

    width: float
    between: float
    factor: Floats
    alpha: Floats
    likelihood: float


def _apart(labels: Sequence[Label], x: Floats, groups: Sequence[str]) -> NDArray[np.intp]:
    """Indices of kernels that differ from one another, at most :data:`_MOST`: repeats teach little and cost much."""
    first: dict[tuple[object, ...], int] = {}
    for index, (item, row, group) in enumerate(zip(labels, np.round(x * 4).astype(int), groups, strict=True)):
        first.setdefault((item, group, row.tobytes()), index)
    kept = np.array(list(first.values()), dtype=np.intp)
    if len(kept) > _MOST:
        kept = np.sort(np.random.default_rng(0).choice(kept, _MOST, replace=False))
    return kept


def _square(a: Floats, b: Floats) -> Floats:
    """``[len(a), len(b)]`` squared distances."""
    return np.asarray(np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T, 0.0))


_LEVELS = (0, 1, 3)
"""Levels of a label that say how alike two kernels are: their code, their kind and type, their family."""


class _Codes:
    """Labels as numbers, one for each of :data:`_LEVELS`; labels that are new later agree with none."""

    def __init__(self, labels: Sequence[Label]) -> None:
        self._known: list[dict[tuple[str, ...], int]] = [{} for _ in _LEVELS]
        rows = [item.levels() for item in labels]
        self.numbers = [
            np.array([known.setdefault(row[level], len(known)) for row in rows])
            for known, level in zip(self._known, _LEVELS, strict=True)
        ]

    def agree(self, labels: Sequence[Label]) -> list[NDArray[np.bool_]]:
        """Which pairs agree, a table for each level: ``[len(labels), n]``."""
        rows = [item.levels() for item in labels]
        theirs = [
            np.array([known.get(row[level], -1) for row in rows]) for known, level in zip(self._known, _LEVELS, strict=True)
        ]
        return [one[:, None] == own[None, :] for one, own in zip(theirs, self.numbers, strict=True)]


def _terms(x: Floats) -> Floats:
    """``[n, 5]`` a constant, FLOP, bytes read, bytes of weights, bytes written: what a time is a sum of."""
    return np.concatenate([np.ones((len(x), 1)), np.exp(x[:, :4])], axis=1)


def _roofs(labels: Sequence[Label], x: Floats, times: Floats) -> dict[tuple[str, ...], Floats]:
    """Group → seconds per unit of each term, never negative, fitted in the logarithm, near that of all kernels."""
    members: dict[tuple[str, ...], list[int]] = {}
    for index, item in enumerate(labels):
        for level in item.levels():
            members.setdefault(level, []).append(index)
    raw = _terms(x)
    step = -(-len(times) // _ENOUGH)
    general = positive_sum(raw[::step], times[::step])
    found = {}
    for level, rows in members.items():
        if level and len(rows) >= _FEWEST:
            some = rows[:: -(-len(rows) // _ENOUGH)]
            found[level] = positive_sum(raw[some], times[some], general)
    return {**found, (): general}
