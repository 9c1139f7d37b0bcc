"""Times calls inside the process that runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dovetail.core.protocols import Array, Feeds, Outputs
from dovetail.measure.statistics import is_steady

WARM_LIMIT_S = 1.0
"""Longest warm-up: thread pools, caches and clocks settle within a tenth of it; on a busy host nothing ever looks steady."""
_WARM_BLOCK_S = 0.02
_MAX_CALLS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Timed calls in whole rounds over the feeds.

    Attributes:
        typical_s: mean over feeds of the median over rounds, in seconds per call. With feeds of one shape this is the median
            call without the odd outlier; with feeds of several lengths every length counts the same in every block.
        times_s: seconds of each call, in order.
    """

    typical_s: float
    times_s: Array


def block(run: Callable[[Feeds], Outputs], feeds: Sequence[Feeds], seconds: float) -> Block:
    """Calls ``run`` on each of ``feeds`` in turn, in whole rounds, for at least ``seconds``.

    One call goes before, untimed: the process has slept, and its caches and threads wake with it.
    """
    clock = time.perf_counter_ns
    run(feeds[0])
    times: list[int] = []
    end = clock() + int(seconds * 1e9)
    while True:
        for feed in feeds:
            start = clock()
            run(feed)
            times.append(clock() - start)
        if clock() >= end or len(times) >= _MAX_CALLS:
            break
    table = np.asarray(times, dtype=np.float64).reshape(-1, len(feeds)) * 1e-9
    return Block(typical_s=float(np.median(table, axis=0).mean()), times_s=table.ravel())


def warm_up(run: Callable[[Feeds], Outputs], feeds: Sequence[Feeds], limit_s: float = WARM_LIMIT_S) -> tuple[float, bool]:
    """Runs short blocks until they are steady (:func:`dovetail.measure.statistics.is_steady`), or the time is up.

    Returns:
        Seconds per call of the last block, and whether it had become steady.
    """
    deadline = time.perf_counter() + limit_s
    recent: list[float] = []
    while True:
        recent.append(block(run, feeds, _WARM_BLOCK_S).typical_s)
        if is_steady(recent):
            return recent[-1], True
        if time.perf_counter() >= deadline:
            return recent[-1], False
