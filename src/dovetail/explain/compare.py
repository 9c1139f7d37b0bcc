"""Compares two profiles group by group and names what the difference consists of.

The difference of two calls is the sum of the differences of their groups, call overhead included, so the causes and the
remainder add up to it by construction. Inside a group of computing kernels, the time that the candidate spends beyond the
baseline is shared among the causes in proportion to the time of the kernels that show them.
"""

from __future__ import annotations

from collections.abc import Sequence

from dovetail.core import units
from dovetail.core.explanation import Cause, Explanation, GroupTime
from dovetail.core.measurement import Environment
from dovetail.core.profile import KernelTime, Profile, total_s
from dovetail.core.workload import Workload
from dovetail.explain import groups
from dovetail.explain.symptoms import TEXTS, Patient

_NAMED = 3
_NEGLIGIBLE = 0.01


def explain(
    baseline: Profile, candidate: Profile, workload: Workload | None = None, environment: Environment | None = None
) -> Explanation:
    """Why the candidate takes more or less time per call than the baseline.

    Args:
        baseline: profile of what it is compared with, on the same feeds.
        candidate: profile of the variant to be explained.
        workload: the candidate's operators; without it nothing is said of FLOPs, intensity and channels.
        environment: the machine; without it nothing is said of instruction sets.
    """
    rows = tuple(_row(group, baseline, candidate) for group in groups.GROUPS)
    patient = Patient(baseline=baseline, candidate=candidate, workload=workload, environment=environment)
    causes = [cause for row in rows for cause in _causes(row, patient)]
    causes.sort(key=lambda cause: -abs(cause.cost_s))
    shown = tuple(row for row in rows if row.baseline_s is not None or row.candidate_s is not None)
    return Explanation(summary=_summary(baseline, candidate, causes), causes=tuple(causes), groups=shown)


def _members(profile: Profile, group: str) -> tuple[KernelTime, ...]:
    return tuple(kernel for kernel in profile.kernels if groups.group_of(kernel) == group)


def _row(group: str, baseline: Profile, candidate: Profile) -> GroupTime:
    if group == groups.OVERHEAD:
        # Not clamped at zero as Profile.overhead_s is, so that groups always add up to the call.
        spent = (baseline.call_s - baseline.kernel_s, candidate.call_s - candidate.kernel_s)
        return GroupTime(group=group, baseline_s=spent[0], candidate_s=spent[1])
    before, after = _members(baseline, group), _members(candidate, group)
    return GroupTime(
        group=group,
        baseline_s=total_s(before) if before else None,
        candidate_s=total_s(after) if after else None,
    )


def _causes(row: GroupTime, patient: Patient) -> list[Cause]:
    extra_s = (row.candidate_s or 0.0) - (row.baseline_s or 0.0)
    kernels = _members(patient.candidate, row.group)
    if extra_s == 0.0:
        return []
    if row.group == groups.OVERHEAD:
        return [_cause("call_overhead", extra_s, (), row)]
    if row.group == groups.OTHER:
        return [_cause("remainder", extra_s, kernels, row)]
    if row.group in (groups.LAYOUT, groups.CONVERT):
        return [_cause("reorder" if row.group == groups.LAYOUT else "convert", extra_s, kernels, row)]
    if extra_s < 0:
        return [_cause("faster_kernel" if kernels else "fused_away", extra_s, kernels, row)]
    return _shared(extra_s, kernels, row, patient)


def _shared(extra_s: float, kernels: Sequence[KernelTime], row: GroupTime, patient: Patient) -> list[Cause]:
    """Shares a group's extra time among the symptoms of its kernels."""
    showing: dict[str, list[KernelTime]] = {}
    for kernel in kernels:
        showing.setdefault(patient.symptom(kernel), []).append(kernel)
    whole_s = total_s(kernels)
    return [_cause(name, extra_s * total_s(some) / whole_s, some, row) for name, some in showing.items() if total_s(some) > 0]


def _cause(name: str, cost_s: float, kernels: Sequence[KernelTime], row: GroupTime) -> Cause:
    slowest = sorted(kernels, key=lambda kernel: -kernel.time_s)
    what = TEXTS[name].format(group=row.group)
    count = f" ({len(kernels)} in {units.time(total_s(kernels))})" if kernels else ""
    return Cause(
        name=name,
        cost_s=cost_s,
        text=f"{what}{count}",
        operators=tuple(kernel.name for kernel in slowest[:_NAMED]),
    )


def _summary(baseline: Profile, candidate: Profile, causes: Sequence[Cause]) -> str:
    difference_s = candidate.call_s - baseline.call_s
    ratio = units.ratio(candidate.call_s / baseline.call_s)
    if abs(difference_s) < _NEGLIGIBLE * baseline.call_s:
        return f"{units.time(candidate.call_s)} per call, {ratio} the baseline's time: no difference to explain."
    word = "slower" if difference_s > 0 else "faster"
    head = f"{units.time(abs(difference_s))} {word} per call ({units.time(candidate.call_s)}, {ratio} the baseline's time)."
    same_way = [cause for cause in causes if cause.cost_s * difference_s > 0 and cause.name != "remainder"]
    if not same_way:
        return head
    return f"{head} The largest part, {units.time(abs(same_way[0].cost_s))}: {same_way[0].text}."
