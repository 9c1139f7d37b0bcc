"""Times calls for profiles. Claims of speed are measured elsewhere, process by process."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from time import perf_counter

from dovetail.core.protocols import Feeds, Outputs

_WARM_UP = 3


def call_times(call: Callable[[Feeds], Outputs], feeds: Feeds, repeats: int) -> list[float]:
    """Seconds of each of ``repeats`` calls, after three that are not counted."""
    for _ in range(_WARM_UP):
        call(feeds)
    times = []
    for _ in range(repeats):
        start = perf_counter()
        call(feeds)
        times.append(perf_counter() - start)
    return times


def median(times: Sequence[float]) -> float:
    """Middle value of at least one."""
    return statistics.median(times)


def usual_mean(times: Sequence[float]) -> float:
    """Mean without the slowest tenth: disturbances only ever add, and a mean is finer than a clock of whole microseconds."""
    ordered = sorted(times)
    return statistics.fmean(ordered[: max(1, len(ordered) - len(ordered) // 10)])
