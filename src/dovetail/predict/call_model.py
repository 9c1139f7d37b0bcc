"""Whole calls from their kernels: what a calibration says of one runtime at one number of threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.core.calibration import Trace
from dovetail.core.estimate import Estimate
from dovetail.core.profile import Kernel
from dovetail.core.source import Source
from dovetail.predict.cross_fit import CrossFit
from dovetail.predict.fit import positive_sum
from dovetail.predict.kernel_model import SHORTEST_S, KernelModel, Label, LearnedKernels, label, learn_kernels
from dovetail.predict.kernel_work import logarithms, work
from dovetail.predict.spread import FEWEST, Spread, conformal
from dovetail.predict.traced import kernels_of

Floats = NDArray[np.float64]

FEWEST_NETWORKS = 8
"""That a setting is predicted from (assumed): a call has seven weights."""
_PRIOR = np.array([1e-6, 1e-7, 1.0])
"""Seconds of a call, of a kernel, and of a second of kernels, before any trace is seen (assumed)."""
_TRUST = 1.0
"""How firmly a call is held to be the sum of its kernels, in units of one trace."""
_LEAST_UNCERTAINTY = 0.05
"""Of a call, for what no kernel tells (assumed)."""
LONG_S = 2e-4
"""Calls from here on are told better than shorter ones, which are mostly what it costs to enter kernels (assumed)."""
_LONG = ", long calls"
_POOLED = ""
"""Name of what was learned from calls of all numeric types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEstimate:
    """What a call is predicted to take.

    Attributes:
        latency_s: of the whole call.
        kernels_s: of each kernel, in order.
        overhead_s: of the call beside its kernels.
    """

    latency_s: Estimate
    kernels_s: tuple[float, ...]
    overhead_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedCalls:
    """What a :class:`CallModel` knows. Calls are told apart by the numeric type that most of their products compute in.

    Attributes:
        kernels: learned from all traces.
        weights: type → seconds of a call, of a kernel, and of a second of kernels; of all types under an empty name.
        scores: type, and type of long calls alone → of each trace, natural logarithm of measured over predicted by fits that
            had not seen its network, over how uncertain those held its kernels to be.
    """

    kernels: LearnedKernels
    weights: Mapping[str, tuple[float, float, float]]
    scores: Mapping[str, tuple[float, ...]]


def learn_calls(traces: Sequence[Trace]) -> tuple[LearnedCalls, CrossFit]:
    """Learns from the traces of one runtime at one number of threads, in whatever precision; of two networks at least.

    A call takes a constant, a time for each kernel, and its kernels' times, scaled: what falls out of the caches between
    kernels is not seen where kernels are timed alone.

    Returns:
        What was learned, and kernels as told by other networks alone.
    """
    timed = kernels_of(traces)
    kernels = learn_kernels(timed.labels, timed.x, timed.times, timed.traces)
    cross = CrossFit(timed, [trace.network for trace in traces], kernels)
    own = [timed.of(number) for number in range(len(traces))]
    calls = np.array([trace.call_s for trace in traces])
    counts = np.array([len(found.labels) for found in own])
    measured = _terms(counts, [float(found.times.sum()) for found in own])
    fold = np.array([cross.fold(trace.network) for trace in traces])
    told = [cross.without(f).predict_work(found.labels, found.x) for f, found in zip(fold.tolist(), own, strict=True)]
    unseen = _terms(counts, [float(seconds.sum()) for seconds, _ in told])
    spread = np.array([uncertainty(*pair) for pair in told])
    types = [_type(found.labels, found.x) for found in own]
    long = unseen @ positive_sum(measured, calls, _PRIOR, _TRUST) >= LONG_S
    weights = {_POOLED: positive_sum(measured, calls, _PRIOR, _TRUST)}
    scores = {_POOLED: _left_out(measured, unseen, calls, fold, _PRIOR) / spread}
    for name in sorted(set(types)):
        rows = np.flatnonzero([kind == name for kind in types])
        if len(rows) >= FEWEST:
            weights[name] = positive_sum(measured[rows], calls[rows], weights[_POOLED], _TRUST)
            errors = _left_out(measured[rows], unseen[rows], calls[rows], fold[rows], weights[_POOLED])
            scores[name] = errors / spread[rows]
            if np.count_nonzero(long[rows]) >= FEWEST:
                scores[name + _LONG] = (errors / spread[rows])[long[rows]]
    found = LearnedCalls(
        kernels=kernels,
        weights={name: (float(w[0]), float(w[1]), float(w[2])) for name, w in weights.items()},
        scores={name: tuple(map(float, found)) for name, found in scores.items()},
    )
    return found, cross


def _left_out(measured: Floats, unseen: Floats, calls: Floats, fold: NDArray[np.intp], prior: Floats) -> Floats:
    """Errors of calls whose kernels and weights were learned from networks of other folds."""
    found = np.empty(len(calls))
    for number in sorted(set(fold.tolist())):
        rest = fold != number
        weights = positive_sum(measured[rest], calls[rest], prior, _TRUST) if rest.any() else prior
        found[~rest] = unseen[~rest] @ weights
    return np.asarray(np.log(calls / found))


class CallModel:
    """Calls of one runtime at one number of threads.

    Args:
        learned: from its traces.
        source: of the calibration, for estimates.
    """

    def __init__(self, learned: LearnedCalls, source: Source) -> None:
        self.kernels = KernelModel(learned.kernels)
        self._learned, self._source = learned, source
        self._spreads: dict[str, Spread] = {name: conformal(np.array(found)) for name, found in learned.scores.items()}

    def predict(self, kernels: Sequence[Kernel]) -> CallEstimate:
        """A call that executes these kernels."""
        works = [work(kernel) for kernel in kernels]
        labels, x = [label(*pair) for pair in zip(kernels, works, strict=True)], logarithms(works)
        seconds, deviation = self.kernels.predict_work(labels, x)
        kind = _type(labels, x)
        name = kind if kind in self._learned.weights else _POOLED
        weights = np.array(self._learned.weights[name])
        value = float((_terms(np.array([len(kernels)]), [float(seconds.sum())]) @ weights)[0])
        spread = self._spreads[name + _LONG if value >= LONG_S and name + _LONG in self._spreads else name]
        width = uncertainty(seconds, deviation)
        return CallEstimate(
            latency_s=Estimate(
                value=value,
                low=value * spread.low**width,
                high=value * spread.high**width,
                source=self._source,
                coverage=spread.coverage,
            ),
            kernels_s=tuple(map(float, seconds * weights[2])),
            overhead_s=float(weights[0] + weights[1] * len(kernels)),
        )


def enough(traces: Sequence[Trace]) -> bool:
    """Whether something can be learned from them."""
    return len({trace.network for trace in traces}) >= FEWEST_NETWORKS


def _type(labels: Sequence[Label], x: Floats) -> str:
    """Numeric type in which most of the products compute, by FLOP; without products, most of the kernels' elements."""
    flop = np.exp(x[:, 0]) if len(x) else np.zeros(0)
    products = [item.family != "move" for item in labels]
    sums: dict[str, float] = {}
    for item, own, product in zip(labels, flop.tolist(), products, strict=True):
        if product or not any(products):
            sums[item.dtype] = sums.get(item.dtype, 0.0) + own
    return max(sums, key=lambda name: sums[name], default=_POOLED)


def _terms(counts: NDArray[np.intp], sums: Sequence[float]) -> Floats:
    """``[n, 3]`` a constant, the number of kernels, the sum of their times."""
    return np.column_stack([np.ones(len(counts)), counts.astype(np.float64), np.array(sums)])


def uncertainty(seconds: Floats, deviation: Floats) -> float:
    """Standard deviation of the logarithm of the kernels' sum, as they are known.

    Intervals are in units of it (normalised conformal prediction: Papadopoulos et al., ICTAI 2008): kernels like those measured
    make narrow ones, strangers wide ones. Errors of like kernels go together, so deviations are averaged by time, not added
    in squares.
    """
    total = max(float(seconds.sum()), SHORTEST_S)
    return _LEAST_UNCERTAINTY + float((seconds * deviation).sum()) / total


def widening(seconds: Floats, deviation: Floats) -> float:
    """Factor on either end for kernels unlike those measured; 1 when all are like them."""
    usual = 0.2
    return float(np.exp(max(0.0, uncertainty(seconds, deviation) - _LEAST_UNCERTAINTY - usual)))
