"""Curves of the learning rate, and the plan that lays a curve over a number of steps."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, replace

_DIV, _FINAL_DIV, _RISE = 25.0, 1e4, 0.3
"""Of the one-cycle curve: peak over first rate, peak over last rate, share of rising steps (Smith & Topin 2018; the numbers are
those of ``torch.optim.lr_scheduler.OneCycleLR``, whose last rate is the first over 1e4)."""


def factor(curve: str, progress: float, warmup: float) -> float:
    """The learning rate over its peak, at a share 0..1 of all steps.

    ``cosine`` rises linearly from 0 over the warm-up, then falls to 0 along half a cosine (Loshchilov & Hutter 2017, eq. 5).
    ``one_cycle`` rises from 1/25 along half a cosine, over the warm-up or, without one, over 0.3 of the steps, and falls to
    1/250,000. ``constant`` stays at 1 after the warm-up.
    """
    if curve == "one_cycle":
        rise = warmup or _RISE
        if progress < rise:
            return _between(1 / _DIV, 1.0, progress / rise)
        return _between(1.0, 1 / (_DIV * _FINAL_DIV), (progress - rise) / (1 - rise))
    if progress < warmup:
        return progress / warmup
    return 1.0 if curve == "constant" else _between(1.0, 0.0, (progress - warmup) / (1 - warmup))


def _between(start: float, end: float, share: float) -> float:
    """Half a cosine from ``start`` to ``end``."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many steps there are, and how far along its curve the learning rate is at each.

    Attributes:
        total: optimiser steps.
        bfloat16: whether the forward pass runs in bfloat16.
        knots: (step, progress) in ascending order, the first (0, 0), the last (``total``, 1); linear in between.
        step_s: seconds of a step as measured before the start, NaN when not measured.
    """

    total: int
    bfloat16: bool = False
    knots: tuple[tuple[int, float], ...] = ()
    step_s: float = math.nan

    def __post_init__(self) -> None:
        if not self.knots:
            object.__setattr__(self, "knots", ((0, 0.0), (self.total, 1.0)))

    def progress(self, step: int) -> float:
        """Share of the curve at the middle of a step, so that neither the first nor the last step has a rate of zero."""
        at = step + 0.5
        right = min(bisect.bisect([s for s, _ in self.knots], at), len(self.knots) - 1)
        (s0, p0), (s1, p1) = self.knots[right - 1], self.knots[right]
        return p0 + (p1 - p0) * min(1.0, (at - s0) / (s1 - s0))

    def shortened(self, step: int, total: int) -> Plan:
        """The plan that runs as before up to ``step`` and reaches the end of the curve at ``total``."""
        reached = self.progress(step) if step else 0.0
        knots = (*(k for k in self.knots if k[0] < step), (step, reached), (total, 1.0))
        return replace(self, total=total, knots=knots)
