"""The roofline plot: achieved FLOP/s over arithmetic intensity, kernel by kernel.

After Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore architectures",
CACM 52(4), 2009. Only measured points are drawn; ceilings appear only where a caller gives them with their source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dovetail.core import units
from dovetail.core.outcome import FitResult
from dovetail.core.profile import KernelTime, Profile
from dovetail.core.source import Source
from dovetail.core.workload import Op, Workload
from dovetail.report import phrases, plots
from dovetail.report.figures import Figure, profiles
from dovetail.report.plots import Axis, Line, Mark

_MAX_KERNELS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """A ceiling of the machine: ``min(peak_flop_per_s, intensity * bandwidth_bytes_per_s)``."""

    label: str
    peak_flop_per_s: float
    bandwidth_bytes_per_s: float
    source: Source

    def at(self, intensity: float) -> float:
        """FLOP/s that can be reached at an intensity in FLOP per byte."""
        return min(self.peak_flop_per_s, intensity * self.bandwidth_bytes_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A kernel with the work it did: FLOP, and bytes if every operand crosses memory once."""

    kernel: KernelTime
    flop: float
    moved_bytes: float


def place(profile: Profile, workload: Workload) -> list[Placed]:
    """Kernels whose operators, FLOP and bytes are known; slowest first."""
    ops = {value: op for op in workload.ops for value in op.outputs} | {op.name: op for op in workload.ops}
    readers = _readers(workload)
    placed = []
    for kernel in profile.kernels:
        named = [ops[name] for name in kernel.sources or (kernel.name,) if name in ops]
        own = list({op.name: op for op in named}.values())
        flop = sum(op.flop for op in own if op.flop is not None)
        moved = _moved_bytes(own, readers)
        if kernel.time_s > 0 and flop > 0 and moved is not None and moved > 0:
            placed.append(Placed(kernel=kernel, flop=flop, moved_bytes=moved))
    return sorted(placed, key=lambda p: -p.kernel.time_s)


def _readers(workload: Workload) -> dict[str, int]:
    """How often each tensor is read in the whole model."""
    readers: dict[str, int] = {}
    for op in workload.ops:
        for tensor in op.inputs:
            readers[tensor] = readers.get(tensor, 0) + 1
    return readers


def _moved_bytes(ops: Sequence[Op], readers: Mapping[str, int]) -> float | None:
    """Bytes of fused operators: what passes between them stays inside and does not count."""
    total = 0.0
    inner_reads: dict[str, int] = {}
    for op in ops:
        for tensor in op.inputs:
            inner_reads[tensor] = inner_reads.get(tensor, 0) + 1
    for op in ops:
        if op.bytes is None or op.output_bytes is None:
            return None
        total += op.bytes
        for tensor in op.outputs:
            inside, share = inner_reads.get(tensor, 0), op.output_bytes / len(op.outputs)
            written_out = inside == 0 or readers.get(tensor, 0) > inside
            total -= share * inside + (0.0 if written_out else share)
    return total


def roofline(result: FitResult, roofs: Sequence[Roof] = ()) -> Figure:
    """Kernels of baseline and winner at the intensity of the original operators."""
    found = profiles(result)
    if result.workload is None or not found:
        missing = "the workload was not analysed" if result.workload is None else "no profile was taken"
        return Figure(caption=f"The roofline cannot be drawn: {missing}.")
    placed = {role: place(profile, result.workload) for role, profile in found}
    if not any(placed.values()):
        return Figure(caption="The roofline cannot be drawn: no kernel could be matched with a counted operator.")
    marks = [_mark(role, p, profile) for role, profile in found for p in placed[role][:_MAX_KERNELS]]
    marks.sort(key=lambda m: -m.radius)
    x_values, y_values = [m.x for m in marks], [m.y for m in marks] + [roof.peak_flop_per_s for roof in roofs]
    x = Axis.around(x_values, "arithmetic intensity, FLOP per byte", lambda v: f"{v:.3g}", log=True)
    y = Axis.around(y_values, "achieved, FLOP/s", units.count, log=True)
    svg = plots.scatter(marks, x, y, [_roof_line(roof, x, y) for roof in roofs], title="Roofline")
    return Figure(svg=svg, caption=_caption(found, placed, roofs), legend=tuple((role, role) for role, _ in found))


def _mark(role: str, placed: Placed, profile: Profile) -> Mark:
    kernel = placed.kernel
    share = kernel.time_s / profile.kernel_s if profile.kernel_s > 0 else 0.0
    reached = placed.flop / kernel.time_s
    lines = (
        f"{phrases.clip(phrases.one_line(kernel.name), 60)} ({phrases.one_line(kernel.kind)})",
        f"{units.time(kernel.time_s)}, {phrases.percent(share)} of kernel time",
        f"{units.count(placed.flop, 'FLOP')}, {units.size(placed.moved_bytes)}, {units.count(reached, 'FLOP/s')}",
    )
    radius = 3.0 + 11.0 * math.sqrt(share)
    return Mark(x=placed.flop / placed.moved_bytes, y=reached, role=role, tip="\n".join(lines), radius=radius)


def _roof_line(roof: Roof, x: Axis, y: Axis) -> Line:
    ridge = roof.peak_flop_per_s / roof.bandwidth_bytes_per_s
    start = max(x.low, y.low / roof.bandwidth_bytes_per_s)
    turns = [start, *([ridge] if start < ridge < x.high else []), x.high]
    label = f"{roof.label} ({roof.source.kind}: {roof.source.ref})"
    return Line(points=tuple((v, roof.at(v)) for v in turns), role="roof", label=label)


def _caption(found: Sequence[tuple[str, Profile]], placed: Mapping[str, list[Placed]], roofs: Sequence[Roof]) -> str:
    text = (
        "Higher is better. A marker's area grows with its share of the time. FLOP and bytes are those of the original "
        "operators, with every operand moved once and nothing between fused operators, so both variants are compared at "
        "equal work."
    )
    for role, profile in found:
        matched = sum(p.kernel.time_s for p in placed[role])
        share = phrases.percent(matched / profile.kernel_s if profile.kernel_s > 0 else math.nan, 0)
        cut = f", of which the {_MAX_KERNELS} slowest are drawn" if len(placed[role]) > _MAX_KERNELS else ""
        placeable = f"{len(placed[role])} of {len(profile.kernels)} kernels, {share} of their time"
        text += f" {role.capitalize()}: {placeable}, could be placed{cut}."
    return text if roofs else text + " No ceiling is drawn: the limits of this machine were not measured."
