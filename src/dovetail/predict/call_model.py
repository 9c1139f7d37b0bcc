"""Whole calls from their kernels: what a calibration says of one runtime at one number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.core.calibration import Calibration, Trace
from dovetail.core.estimate import Estimate
from dovetail.core.profile import Kernel, KernelTime
from dovetail.core.source import Source, SourceKind
from dovetail.predict.cross_fit import CrossFit
from dovetail.predict.fit import positive_sum
from dovetail.predict.kernel_model import SHORTEST_S, KernelModel
from dovetail.predict.spread import Spread, conformal

Floats = NDArray[np.float64]


FEWEST_NETWORKS = 8
"""That a setting is predicted from (assumed): a call has seven weights."""
_PRIOR = np.array([1e-6, 1e-7, 1.0])
"""Seconds of a call, of a kernel, and of a second of kernels, before any trace is seen (assumed)."""
_TRUST = 1.0
"""How firmly a call is held to be the sum of its kernels, in units of one trace."""


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


class CallModel:
    """Learned from the traces of one runtime at one number of threads.

    A call takes a constant, a time for each kernel, and its kernels' times, scaled: what falls out of the caches between
    kernels is not seen where kernels are timed alone.

    Args:
        traces: of that runtime and number of threads, in whatever precision; of two networks at least.
        source: of the calibration, for estimates.

    Attributes:
        kernels: learned from all traces; ``cross`` from a part of the networks each.
        log_errors: of each trace, natural logarithm of measured over predicted, by fits that had not seen its network.
    """

    def __init__(self, traces: Sequence[Trace], source: Source) -> None:
        timed = [(trace, _timed(trace.kernels)) for trace in traces]
        kernels = [kernel for _, found in timed for kernel in found]
        groups = [trace.network for trace, found in timed for _ in found]
        self._source = source
        self.kernels = KernelModel(kernels, groups)
        self.cross = CrossFit(kernels, groups, self.kernels)
        calls = np.array([trace.call_s for trace, _ in timed])
        counts = [len(found) for _, found in timed]
        measured = _terms(counts, [sum(kernel.time_s for kernel in found) for _, found in timed])
        self._weights = positive_sum(measured, calls, _PRIOR, _TRUST)
        fold, unseen = np.array([self.cross.fold(trace.network) for trace, _ in timed]), np.empty(len(timed))
        for number in self.cross.folds:
            rest, out = fold != number, np.flatnonzero(fold == number)
            weights = positive_sum(measured[rest], calls[rest], _PRIOR, _TRUST)
            sums = [float(self.cross.without(number).predict(timed[i][1])[0].sum()) for i in out]
            unseen[out] = _terms([counts[i] for i in out], sums) @ weights
        self.log_errors = np.log(calls / unseen)
        self._spread: Spread = conformal(self.log_errors)

    def predict(self, kernels: Sequence[Kernel]) -> CallEstimate:
        """A call that executes these kernels."""
        seconds, deviation = self.kernels.predict(kernels)
        terms = _terms([len(kernels)], [float(seconds.sum())])
        value = float((terms @ self._weights)[0])
        widened = widening(seconds, deviation)
        return CallEstimate(
            latency_s=Estimate(
                value=value,
                low=value * self._spread.low / widened,
                high=value * self._spread.high * widened,
                source=self._source,
                coverage=self._spread.coverage,
            ),
            kernels_s=tuple(map(float, seconds * self._weights[2])),
            overhead_s=float(self._weights[0] + self._weights[1] * len(kernels)),
        )


def source_of(calibration: Calibration) -> Source:
    """What estimates from a calibration rest on."""
    return Source(kind=SourceKind.DERIVED, ref=f"calibration of {calibration.environment.cpu}", date=calibration.date[:10])


def call_models(calibration: Calibration) -> dict[tuple[str, int], CallModel]:
    """(runtime, threads) → model, for all that the calibration has traces of."""
    source = source_of(calibration)
    grouped: dict[tuple[str, int], list[Trace]] = {}
    for trace in calibration.traces:
        if trace.kernels:
            grouped.setdefault((trace.runtime, trace.threads), []).append(trace)
    return {key: CallModel(traces, source) for key, traces in grouped.items() if enough(traces)}


def enough(traces: Sequence[Trace]) -> bool:
    """Whether something can be learned from them."""
    return len({trace.network for trace in traces}) >= FEWEST_NETWORKS


def _timed(kernels: Sequence[KernelTime]) -> list[KernelTime]:
    """Those that take time: folded views and the like are reported with none."""
    return [kernel for kernel in kernels if kernel.time_s > 0]


def _terms(counts: Sequence[int], sums: Sequence[float]) -> Floats:
    """``[n, 3]`` a constant, the number of kernels, the sum of their times."""
    return np.column_stack([np.ones(len(counts)), np.array(counts, dtype=np.float64), np.array(sums)])


def widening(seconds: Floats, deviation: Floats) -> float:
    """Factor on either end for kernels unlike those measured; 1 when all are like them.

    Errors of like kernels go together, so their deviations are averaged by time, not added in squares.
    """
    total = max(float(seconds.sum()), SHORTEST_S)
    usual = 0.2
    return float(np.exp(max(0.0, float((seconds * deviation).sum()) / total - usual)))
