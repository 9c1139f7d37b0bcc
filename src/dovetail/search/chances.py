"""Whether fresh samples could certify a candidate's quality, and how likely they are to, judged from the selection split."""

from __future__ import annotations

import math
from statistics import NormalDist

from dovetail.core.outcome import Quality

Z_ALPHA = 1.645
"""One-sided 95 % quantile of the normal distribution."""


def _errors(quality: Quality, units: int) -> tuple[float, float]:
    """Standard error of a drop on the selection split, and on ``units`` fresh units; infinite without any."""
    z = NormalDist().inv_cdf(0.5 + quality.drop.confidence / 2)
    error = max((quality.drop.high - quality.drop.low) / (2 * z), 1e-12)
    return error, error * math.sqrt(quality.n / units) if units else math.inf


def certifiable(quality: Quality, margin: float, units: int) -> bool:
    """Whether ``units`` fresh units could certify it, if they showed no drop at all."""
    return certifiable_drop(quality, margin, units) >= 0


def certifiable_drop(quality: Quality, margin: float, units: int) -> float:
    """Drop on the selection split up to which ``units`` fresh units are more likely than not to certify such a candidate.

    Below zero where they could not certify one that loses nothing.
    """
    return margin - Z_ALPHA * _errors(quality, units)[1]


def certification_chance(quality: Quality, margin: float, units: int, z_alpha: float = Z_ALPHA) -> float:
    """Probability that ``units`` fresh units certify a drop of at most ``margin``, judged from the selection split.

    Normal approximation: the selection estimate has the standard error of its interval, the certification estimate that error
    scaled to ``units``; certified when estimate + z·error stays within the margin.
    """
    error, later = _errors(quality, units)
    if not math.isfinite(later):
        return 0.0
    return NormalDist().cdf((margin - quality.drop.point - z_alpha * later) / math.hypot(error, later))
