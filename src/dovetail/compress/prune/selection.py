"""Which units go: a share of every layer, a share of all, or as many as a cost asks for. Widths stay multiples of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dovetail.compress.prune.coupling import Group
from dovetail.compress.prune.importance import comparable, least
from dovetail.core.errors import InputError, ModelError
from dovetail.core.measurement import Environment
from dovetail.core.protocols import Array

SMALL_STEPS = (8, 4)
"""Steps for layers too narrow to lose a whole register's channels."""

Cost = Callable[[Array], float]
"""Cost of the graph when each group has this many units left, ``[groups]``."""


def lanes(environment: Environment, dtype: str = "float32") -> int:
    """Channels that fill the widest register: 16 float32 with AVX-512, else 8; of int8 32 and 16."""
    wide = any(flag.startswith("avx512") for flag in environment.isa)
    return (32 if wide else 16) if dtype == "int8" else (16 if wide else 8)


def step(group: Group, align: int) -> int:
    """Units that go at a time, and that remain at least.

    It makes multiples of ``align`` channels where a group is at least twice as wide, multiples of 8 or 4 in narrower ones, and
    single units in those of fewer than 8 channels.
    """
    channels = len(group) * group.width
    for wanted in (align, *(small for small in SMALL_STEPS if small < align)):
        if 2 * wanted <= channels:
            return min(max(1, -(-wanted // group.width)), max(1, len(group) // 2))
    return 1


def by_ratio(groups: Sequence[Group], scores: Sequence[Array], ratios: Sequence[float], align: int) -> list[int]:
    """Units to take: of each group its own share, rounded to steps; a share of 0 takes nothing.

    Args:
        groups: the groups.
        scores: importance of their units.
        ratios: share to take of each, 0 to below 1.
        align: channels in a full step.

    Raises:
        InputError: a share of 1 or more, which would take every channel, or below 0.
    """
    chosen: list[int] = []
    for group, score, ratio in zip(groups, scores, ratios, strict=True):
        if not 0 <= ratio < 1:
            what = f"a share of {ratio:g} would take every channel" if ratio >= 1 else f"{ratio:g} is no share"
            raise InputError(what, where=group.name, hint="give a number from 0 to below 1")
        if ratio:
            chosen += _taken(group, score, _rounded(group, len(group) * (1 - ratio), align))
    return chosen


def by_rank(groups: Sequence[Group], scores: Sequence[Array], ratio: float, align: int) -> list[int]:
    """Units to take: the least important share of all units, scores of each group taken relative to their mean.

    Raises:
        InputError: a share of 1 or more, or below 0.
    """
    if not groups:
        return []
    ranked = np.concatenate([comparable(score) for score in scores])
    owner = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    if not 0 <= ratio < 1:
        return by_ratio(groups[:1], scores[:1], [ratio], align)
    gone = np.bincount(owner[least(ranked, round(ratio * len(ranked)))], minlength=len(groups))
    shares = [float(count) / len(group) for count, group in zip(gone, groups, strict=True)]
    return by_ratio(groups, scores, [min(share, 1 - 1 / (2 * len(g))) for share, g in zip(shares, groups, strict=True)], align)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a greedy sequence.

    Attributes:
        group: place of the group that shrinks.
        units: those that go in this step.
        left: units left in each group after it, ``[groups]``.
        cost: cost after it.
    """

    group: int
    units: tuple[int, ...]
    left: Array
    cost: float


def greedy(
    groups: Sequence[Group], scores: Sequence[Array], cost: Cost, align: int, weights: Sequence[float] | None = None
) -> list[Step]:
    """Steps in the order of importance lost per cost saved, until no group has a step left that saves anything.

    What layers lose adds up: a channel that runs through ten layers counts ten times as much as one between two of them.

    Args:
        groups: the groups.
        scores: importance of their units.
        cost: cost of the graph as a function of the units left.
        align: channels in a full step.
        weights: factor on what each group's steps save, as measured; 1 by default.
    """
    left = np.array([len(group) for group in groups], np.float64)
    order = [least(score, len(score)) for score in scores]
    losses = [np.concatenate([[0.0], np.cumsum(comparable(score)[o])]) for score, o in zip(scores, order, strict=True)]
    sizes = [step(group, align) for group in groups]
    steps: list[Step] = []
    now = cost(left)
    while True:
        best: tuple[float, int, int, float] | None = None
        for index, group in enumerate(groups):
            count = int(left[index])
            take = count % sizes[index] or sizes[index]
            if count - take < sizes[index]:
                continue
            trial = left.copy()
            trial[index] -= take
            after = cost(trial)
            saved = (now - after) * (weights[index] if weights else 1.0)
            gone = len(group) - count
            lost = float(losses[index][gone + take] - losses[index][gone]) * len(group.layers)
            if saved > 0 and (best is None or lost / saved < best[0]):
                best = (lost / saved, index, take, after)
        if best is None:
            return steps
        _, index, take, now = best
        gone = len(groups[index]) - int(left[index])
        left = left.copy()
        left[index] -= take
        units = tuple(groups[index].units[place] for place in order[index][gone : gone + take])
        steps.append(Step(group=index, units=units, left=left, cost=now))


def shortest(steps: Sequence[Step], cost_after: Callable[[int], float], target: float, unit: str) -> int:
    """The least number of steps after which the cost is at most ``target``, by bisection.

    Raises:
        ModelError: even all steps leave more.
    """
    low, high = 0, len(steps)
    if cost_after(high) > target:
        raise ModelError(
            f"pruning reaches {cost_after(high):.4g} {unit} at the least, {target:.4g} {unit} were asked for",
            hint="ask for less, take a smaller align, or remove whole blocks",
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if cost_after(middle) <= target else (middle + 1, high)
    return low


def parse_ratios(texts: Sequence[str], where: str) -> Mapping[str, float]:
    """``("conv1=0.5",)`` → ``{"conv1": 0.5}``.

    Raises:
        InputError: not of that form.
    """
    found = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            found[""] = 0.0
        if "" in found:
            raise InputError(f"{text!r} is not LAYER=SHARE", where=where, hint="for example conv1=0.25")
    return found


def _rounded(group: Group, wanted: float, align: int) -> int:
    size = step(group, align)
    return int(min(len(group), max(size, round(wanted / size) * size)))


def _taken(group: Group, score: Array, remain: int) -> list[int]:
    return [group.units[place] for place in least(score, len(group) - remain)]
