"""Why one variant is slower or faster than another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One named cause with the time it costs.

    Attributes:
        name: short stable name (``unfused_quantize``, ``reorder``, ``fallback_kernel``, ``call_overhead``).
        cost_s: seconds per call that the candidate spends on it beyond the baseline; negative where it gains.
        text: one sentence for people, with the numbers.
        operators: the operators concerned.
    """

    name: str
    cost_s: float
    text: str
    operators: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTime:
    """Time of one operator group on both sides, in seconds per call; ``None`` where a side has no such group."""

    group: str
    baseline_s: float | None
    candidate_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """An operator-level comparison of a candidate with the baseline."""

    summary: str
    causes: tuple[Cause, ...]
    groups: tuple[GroupTime, ...]
