"""Which layers to leave in float: a knapsack."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

MAX_STATES = 20_000
"""Up to here the choice is exact; beyond, drops are rounded up to half as many levels, so the limit still holds."""


def choose_islands(sensitivity: Mapping[str, float], cost_s: Mapping[str, float], max_drop: float) -> set[str]:
    """Layers to keep in float so that the rest loses at most ``max_drop`` and the time given up is least.

    Assumes that drops add up: the drop of a quantised network is the sum of the drops of its layers quantised one at a
    time. Noise powers of independent layers do; measured drops only roughly, which is why the result must be evaluated as a
    whole.

    Solved by dynamic programming over the non-dominated (drop, time saved) pairs (Nemhauser and Ullmann, "Discrete dynamic
    programming and capital allocation", Management Science 15(9), 1969).

    Args:
        sensitivity: layer → drop when it alone is quantised; zero or less counts as none.
        cost_s: layer → seconds per call that it costs to keep it in float; zero or less makes float free.
        max_drop: the drop permitted, in the unit of ``sensitivity``; 0 or more.

    Returns:
        Names of the float layers.
    """
    free = {name for name in sensitivity if cost_s[name] <= 0}
    layers = sorted(name for name in sensitivity if name not in free and sensitivity[name] > 0)
    drops, gains = np.zeros(1), np.zeros(1)
    steps = []
    for name in layers:
        drops, gains, origin = _extended(drops, gains, sensitivity[name], cost_s[name], max_drop)
        steps.append(origin)
    state = int(np.argmax(gains))
    islands = set(free)
    for name, (parent, taken) in zip(reversed(layers), reversed(steps), strict=True):
        if not taken[state]:
            islands.add(name)
        state = int(parent[state])
    return islands


_Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
_Origin = tuple[np.ndarray[tuple[int], np.dtype[np.intp]], np.ndarray[tuple[int], np.dtype[np.bool_]]]


def _extended(drops: _Floats, gains: _Floats, drop: float, gain: float, limit: float) -> tuple[_Floats, _Floats, _Origin]:
    """The non-dominated states after one more layer: whence each came, and whether the layer is quantised in it."""
    count = len(drops)
    all_drops = np.concatenate([drops, drops + drop])
    all_gains = np.concatenate([gains, gains + gain])
    if len(all_drops) > MAX_STATES:
        all_drops = np.ceil(all_drops * (MAX_STATES / 2 / limit)) * (limit / (MAX_STATES / 2))
    order = np.lexsort((-all_gains, all_drops))
    order = order[all_drops[order] <= limit]
    ordered = all_gains[order]
    better = np.concatenate([[True], ordered[1:] > np.maximum.accumulate(ordered)[:-1]])
    kept = order[better]
    return all_drops[kept], all_gains[kept], (kept % count, kept >= count)
