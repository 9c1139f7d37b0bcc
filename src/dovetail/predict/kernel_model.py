"""Kernel times learned from measured ones: a roofline for each kind of kernel, and a Gaussian process on what it leaves.

The roofline gives times far from anything measured; the process bends it where measurements are near. Gaussian processes:
Rasmussen & Williams, *Gaussian Processes for Machine Learning* (2006), algorithm 2.1 and equation 5.8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from dovetail.core.profile import Kernel
from dovetail.predict.fit import positive_sum
from dovetail.predict.kernel_work import Work, logarithms, work

Floats = NDArray[np.float64]

SHORTEST_S = 2e-7
"""Profilers' clocks do not tell shorter times apart."""
_FEWEST = 6
"""Kernels of one kind that a roofline of its own needs."""
_FEWEST_SCALED = 2
"""Kernels of one kind that the roofline around it is scaled to."""
_ENOUGH = 200
"""Kernels that a roofline is fitted to."""
_WIDTHS = (1.5, 3.0, 6.0)
"""Length scales that are tried, in units of ln over all features together."""
_MOST = 1000
"""Kernels that a process is made of: its cost grows with their cube."""
_CHOOSE_FROM = 250
"""Kernels by which length scale and correlation are chosen."""
_NOISE = 0.2
"""Relative error of a single measured kernel, chosen among 0.08, 0.2 and 0.3. The same call some minutes later, on a shared
host, was measured 3 % to 20 % apart, by runtime and threads."""
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


def label(kernel: Kernel, counted: Work | None = None) -> Label:
    """Of one kernel, whose work may be counted already."""
    family = (counted or work(kernel)).family
    # A product that also activates its results is the same code.
    kind = kernel.kind.removeprefix("Fused")
    return Label(kind=kind, dtype=kernel.dtype, implementation=kernel.implementation, family=family)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is chosen by likelihood.

    Attributes:
        width: length scale, in units of ln over all features together.
        between: correlation between kinds of kernels.
    """

    width: float
    between: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedKernels:
    """What a :class:`KernelModel` knows: enough to make it again without learning.

    Attributes:
        roofs: group of kernels → seconds per unit of each term of a roofline.
        labels: of the kernels that it was learned from; ``x`` their features ``[n, 8]``.
        residual: natural logarithm of measured over the roofline, ``[n]``; ``noise`` its standard deviation.
        scale: standard deviation of the residuals.
    """

    roofs: Mapping[tuple[str, ...], Floats]
    labels: tuple[Label, ...]
    x: Floats
    residual: Floats
    noise: Floats
    scale: float
    choice: Choice


def learn_kernels(
    labels: Sequence[Label],
    x: Floats,
    times: Floats,
    traces: NDArray[np.intp],
    like: LearnedKernels | None = None,
) -> LearnedKernels:
    """Learns from the kernels of one runtime at one number of threads.

    Args:
        labels: of the kernels; at least one.
        x: their features, ``[n, 8]``.
        times: measured seconds, ``[n]``.
        traces: number of the trace that each was measured in; of one trace, repeats are left out.
        like: learned from more of the same kernels: its choice is taken, and its rooflines are where the fits start.
    """
    times = np.maximum(times, SHORTEST_S)
    roofs = _roofs(labels, x, times, like.roofs if like else {})
    residual = np.log(times) - np.log(_floor(roofs, labels, x))
    kept = _apart(labels, x, traces)
    found = LearnedKernels(
        roofs=roofs,
        labels=tuple(labels[i] for i in kept),
        x=x[kept],
        residual=residual[kept],
        # Clocks of whole microseconds tell short kernels badly.
        noise=np.hypot(_NOISE, SHORTEST_S / times[kept]),
        scale=max(0.15, float(np.std(residual[kept]))),
        choice=like.choice if like else Choice(width=_WIDTHS[0], between=0.0),
    )
    return found if like else replace(found, choice=_chosen(found))


def _chosen(learned: LearnedKernels) -> Choice:
    """The choice under which some of the kernels are likeliest."""
    some = slice(None, None, -(-len(learned.x) // _CHOOSE_FROM))
    part = replace(
        learned, labels=learned.labels[some], x=learned.x[some], residual=learned.residual[some], noise=learned.noise[some]
    )
    alike = _Alike(part)
    tried = [Choice(width=width, between=between) for width in _WIDTHS for between in _BETWEEN]
    return max(tried, key=lambda choice: _likelihood(part, alike.own(choice)))


def _likelihood(learned: LearnedKernels, covariance: Floats) -> float:
    factor = linalg.cholesky(covariance, lower=True, check_finite=False)
    alpha = linalg.cho_solve((factor, True), learned.residual, check_finite=False)
    return -0.5 * float(learned.residual @ alpha) - float(np.log(np.diag(factor)).sum())


class KernelModel:
    """Times of kernels of one runtime at one number of threads."""

    def __init__(self, learned: LearnedKernels) -> None:
        self.learned = learned
        self._alike = _Alike(learned)

    @cached_property
    def _process(self) -> tuple[Floats, Floats]:
        """Factor of the covariance, and the weights of the residuals."""
        factor = linalg.cholesky(self._alike.own(self.learned.choice), lower=True, check_finite=False)
        return factor, linalg.cho_solve((factor, True), self.learned.residual, check_finite=False)

    def predict(self, kernels: Sequence[Kernel]) -> tuple[Floats, Floats]:
        """Seconds of each kernel, and the standard deviation of their natural logarithm; both ``[n]``."""
        works = [work(kernel) for kernel in kernels]
        return self.predict_work([label(*pair) for pair in zip(kernels, works, strict=True)], logarithms(works))

    def seconds(self, labels: Sequence[Label], x: Floats) -> Floats:
        """Times alone, from labels and features ``[n, 8]``: quicker than with deviations."""
        if not labels:
            return np.zeros(0)
        cross = self._alike.others(labels, x, self.learned.choice)
        return np.asarray(_floor(self.learned.roofs, labels, x) * np.exp(cross @ self._process[1]))

    def predict_work(self, labels: Sequence[Label], x: Floats) -> tuple[Floats, Floats]:
        """Times and deviations from labels and features, ``[n, 8]``."""
        if not labels:
            return np.zeros(0), np.zeros(0)
        factor, alpha = self._process
        cross = self._alike.others(labels, x, self.learned.choice)
        solved = linalg.solve_triangular(factor, cross.T, lower=True, check_finite=False)
        variance = np.maximum(self.learned.scale**2 - (solved**2).sum(axis=0), 0.0) + _NOISE**2
        return _floor(self.learned.roofs, labels, x) * np.exp(cross @ alpha), np.sqrt(variance)


class _Alike:
    """Covariances of the residuals of kernels: 1 for the same code, less for other code and with distance."""

    def __init__(self, learned: LearnedKernels) -> None:
        self._learned = learned
        self._codes = _Codes(learned.labels)

    @cached_property
    def _between_own(self) -> tuple[list[NDArray[np.bool_]], Floats]:
        return self._codes.agree(self._learned.labels), _square(self._learned.x, self._learned.x)

    def own(self, choice: Choice) -> Floats:
        """``[n, n]`` of the kernels that it was learned from, with noise."""
        return np.asarray(self._covariance(*self._between_own, choice) + np.diag(self._learned.noise**2))

    def others(self, labels: Sequence[Label], x: Floats, choice: Choice) -> Floats:
        """``[m, n]`` of other kernels with them."""
        return self._covariance(self._codes.agree(labels), _square(x, self._learned.x), choice)

    def _covariance(self, agree: Sequence[NDArray[np.bool_]], square: Floats, choice: Choice) -> Floats:
        between = choice.between
        alike = (1 - between) * agree[0] + between / 2 * agree[1] + between / 2 * agree[2]
        return np.asarray(self._learned.scale**2 * alike * np.exp(-0.5 / choice.width**2 * square))


def _floor(roofs: Mapping[tuple[str, ...], Floats], labels: Sequence[Label], x: Floats) -> Floats:
    """Seconds by the roofline of the narrowest group that has one."""
    narrowest = {item: next(roofs[level] for level in item.levels() if level in roofs) for item in set(labels)}
    return np.asarray(np.maximum((_terms(x) * np.array([narrowest[item] for item in labels])).sum(axis=1), SHORTEST_S))


def _apart(labels: Sequence[Label], x: Floats, traces: NDArray[np.intp]) -> NDArray[np.intp]:
    """Indices of kernels that differ from one another, at most :data:`_MOST`: repeats teach little and cost much."""
    first: dict[tuple[object, ...], int] = {}
    for index, (item, row, trace) in enumerate(zip(labels, np.round(x * 4).astype(int), traces.tolist(), strict=True)):
        first.setdefault((item, trace, row.tobytes()), index)
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


def _roofs(
    labels: Sequence[Label], x: Floats, times: Floats, starts: Mapping[tuple[str, ...], Floats]
) -> dict[tuple[str, ...], Floats]:
    """Group → seconds per unit of each term, never negative, fitted in the logarithm.

    From the widest group to the narrowest: each stays near the roofline of the group around it, scaled to its own kernels. Of
    few kernels only that scale is taken.
    """
    members: dict[tuple[str, ...], list[int]] = {}
    around: dict[tuple[str, ...], tuple[str, ...]] = {}
    for index, item in enumerate(labels):
        levels = item.levels()
        for level, wider in zip(levels, (*levels[1:], ()), strict=True):
            members.setdefault(level, []).append(index)
            around[level] = wider
    raw = _terms(x)
    step = -(-len(times) // _ENOUGH)
    found: dict[tuple[str, ...], Floats] = {(): positive_sum(raw[::step], times[::step], start=starts.get(()))}
    for level in sorted(members, key=len):
        rows = members[level]
        if level and len(rows) >= _FEWEST_SCALED:
            near = found[_nearest(level, around, found)]
            prior = near * np.exp(np.median(np.log(times[rows] / np.maximum(raw[rows] @ near, SHORTEST_S))))
            some = rows[:: -(-len(rows) // _ENOUGH)]
            few = len(rows) < _FEWEST
            found[level] = prior if few else positive_sum(raw[some], times[some], prior, start=starts.get(level))
    return found


def _nearest(
    level: tuple[str, ...], around: Mapping[tuple[str, ...], tuple[str, ...]], found: Mapping[tuple[str, ...], Floats]
) -> tuple[str, ...]:
    """The narrowest wider group that has a roofline."""
    wider = around[level]
    while wider not in found:
        wider = around[wider]
    return wider
