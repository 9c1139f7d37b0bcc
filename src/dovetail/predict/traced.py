"""The kernels of many traces, counted once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.core.calibration import Trace
from dovetail.predict.kernel_model import Label, label
from dovetail.predict.kernel_work import logarithms, work

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """Kernels that take time: folded views and the like are reported with none.

    Attributes:
        labels: of each; ``x`` their features ``[n, 8]``; ``times`` measured seconds ``[n]``.
        traces: number of the trace that each belongs to, ``[n]``.
    """

    labels: tuple[Label, ...]
    x: Floats
    times: Floats
    traces: NDArray[np.intp]

    def some(self, kept: NDArray[np.intp]) -> Kernels:
        """Those at some places."""
        labels = tuple(self.labels[i] for i in kept)
        return Kernels(labels=labels, x=self.x[kept], times=self.times[kept], traces=self.traces[kept])

    def of(self, trace: int) -> Kernels:
        """Those of one trace."""
        return self.some(np.flatnonzero(self.traces == trace))


def kernels_of(traces: Sequence[Trace]) -> Kernels:
    """Of all traces, in order."""
    timed = [(number, kernel) for number, trace in enumerate(traces) for kernel in trace.kernels if kernel.time_s > 0]
    works = [work(kernel) for _, kernel in timed]
    numbers = np.array([number for number, _ in timed], dtype=np.intp)
    return Kernels(
        labels=tuple(label(kernel, counted) for (_, kernel), counted in zip(timed, works, strict=True)),
        x=logarithms(works),
        times=np.array([kernel.time_s for _, kernel in timed]),
        traces=numbers,
    )
