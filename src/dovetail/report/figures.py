"""Draws a result: picks the numbers for each plot, and says in words what is not in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dovetail.core import units
from dovetail.core.outcome import CandidateRecord, Fate, FitResult
from dovetail.core.profile import Profile
from dovetail.report import phrases, plots, view
from dovetail.report.plots import Axis, Bar, Line, Mark, Strip

_MAX_BARS = 25
_MAX_STRIPS = 8
_MAX_DOTS = 60
_LARGEST_RADIUS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawing with its words.

    Attributes:
        svg: the drawing, empty when there is nothing to draw.
        caption: what is shown and how to read it; without a drawing, what is missing.
        legend: (role, text) of the colours used.
    """

    caption: str
    svg: str = ""
    legend: tuple[tuple[str, str], ...] = ()


ROLES = {
    "winner": "winner",
    "baseline": "baseline",
    "finalist": "finalist or runner-up",
    "other": "out of the race",
    "quality": "quality lost",
}


def role(record: CandidateRecord) -> str:
    """The colour group of a candidate."""
    if record.fate is Fate.WINNER:
        return "winner"
    if record.is_baseline or record.fate is Fate.BASELINE:
        return "baseline"
    if record.fate in (Fate.FINALIST, Fate.RUNNER_UP):
        return "finalist"
    return "quality" if record.fate is Fate.QUALITY else "other"


def pareto(result: FitResult) -> Figure:
    """Latency against quality drop, or against size where no quality is known."""
    timed = [c for c in result.candidates if phrases.known(c.latency_s)]
    judged = [c for c in timed if _drop(result, c) is not None]
    against_quality = any(c.quality is not None for c in judged)
    drawn = judged if against_quality else [c for c in timed if phrases.known(c.size_bytes)]
    if not drawn:
        return Figure(caption="No candidate has both a latency and a quality or size, so there is nothing to plot.")
    ceiling = _drop_ceiling(result, drawn) if against_quality else math.inf
    inside = [c for c in drawn if _height(result, c, against_quality) <= ceiling]
    caption = _pareto_caption(against_quality, len(result.candidates) - len(drawn), len(drawn) - len(inside))
    legend = tuple((r, text) for r, text in ROLES.items() if any(role(c) == r for c in inside))
    return Figure(svg=_pareto_svg(result, inside, against_quality, ceiling), caption=caption, legend=legend)


def _pareto_svg(result: FitResult, drawn: Sequence[CandidateRecord], against_quality: bool, ceiling: float) -> str:
    largest = max((c.size_bytes for c in drawn if c.size_bytes is not None and math.isfinite(c.size_bytes)), default=0.0)
    names = {c.record.recipe.key: c.title for c in view.contenders(result)}
    marks = [_pareto_mark(result, c, against_quality, ceiling, largest, names) for c in drawn]
    marks.sort(key=lambda m: (bool(m.label), -m.radius))
    limit = result.margin if against_quality else None
    xs = [v for m in marks for v in (m.x, *(m.x_range or ()))]
    ys = [v for m in marks for v in (m.y, *(m.y_range or ()))] + ([limit] if limit is not None else [])
    x = Axis.around(xs, "latency, median per call", units.time, log=max(xs) > 4 * min(xs) > 0)
    if against_quality:
        unit, scale = ("pp", 100.0) if phrases.is_share(result.metric) else (f"in {result.metric}", 1.0)
        y = Axis.around(ys, f"quality drop, {unit}", lambda v: f"{v * scale:.3g}" if abs(v) > 1e-12 else "0")
    else:
        y = Axis.around(ys, "size on disk", units.size)
    lines = [Line(points=_front(marks), role="front")]
    if limit is not None:
        lines.append(Line(points=((x.low, limit), (x.high, limit)), role="limit", label=f"permitted drop {result.max_drop}"))
    return plots.scatter(marks, x, y, lines, title="Latency against " + ("quality drop" if against_quality else "size"))


def _pareto_mark(
    result: FitResult,
    record: CandidateRecord,
    against_quality: bool,
    ceiling: float,
    largest: float,
    names: dict[str, str],
) -> Mark:
    assert record.latency_s is not None
    size, interval = record.size_bytes, record.quality.drop if record.quality is not None else None
    sized = size is not None and math.isfinite(size) and largest > 0
    y_range = None
    if against_quality and interval is not None and math.isfinite(interval.high - interval.low):
        y_range = (interval.low, min(interval.high, ceiling))
    tip = f"{phrases.name(record)}\n{phrases.FATES[record.fate]}\n{units.time(record.latency_s)}, {units.size(size)}"
    if interval is not None:
        tip += f"\ndrop {phrases.drop_interval(result.metric, interval)}"
    return Mark(
        x=record.latency_s,
        y=_height(result, record, against_quality),
        role=role(record),
        tip=tip,
        radius=max(3.0, _LARGEST_RADIUS * math.sqrt(size / largest)) if sized and size is not None else 3.0,
        x_range=_process_range(record),
        y_range=y_range,
        label=names.get(record.recipe.key, ""),
        ringed=record.recipe.key in result.front,
    )


def _drop(result: FitResult, record: CandidateRecord) -> float | None:
    """The drop against the original; the original itself has none, by definition."""
    if record.quality is not None and math.isfinite(record.quality.drop.point):
        return record.quality.drop.point
    return 0.0 if record.recipe.key == result.default_baseline else None


def _height(result: FitResult, record: CandidateRecord, against_quality: bool) -> float:
    value = _drop(result, record) if against_quality else record.size_bytes
    assert value is not None
    return value


def _drop_ceiling(result: FitResult, drawn: Sequence[CandidateRecord]) -> float:
    """The largest drop worth drawing: a collapsed candidate must not squeeze the others into a line."""
    limit = result.margin
    if not limit:
        return math.inf
    kept = [c.quality.drop.high for c in drawn if c.quality is not None and role(c) not in ("quality", "other")]
    return max([4 * limit, *(v for v in kept if math.isfinite(v))])


def _process_range(record: CandidateRecord) -> tuple[float, float] | None:
    """Lowest and highest of the processes' median blocks."""
    measured = record.measurement or record.screening
    if measured is None:
        return None
    medians = [sorted(p)[len(p) // 2] for p in measured.block_medians_s if p]
    return (min(medians), max(medians)) if len(medians) > 1 and all(map(math.isfinite, medians)) else None


def _front(marks: Sequence[Mark]) -> tuple[tuple[float, float], ...]:
    """Stairs through the marks that no other beats on both axes."""
    stairs: list[tuple[float, float]] = []
    for mark in sorted(marks, key=lambda m: (m.x, m.y)):
        if not stairs or mark.y < stairs[-1][1]:
            if stairs:
                stairs.append((mark.x, stairs[-1][1]))
            stairs.append((mark.x, mark.y))
    return tuple(stairs)


def _pareto_caption(against_quality: bool, unplaced: int, outside: int) -> str:
    upright = "vertical bars are the interval of the drop" if against_quality else "no quality is known, so size stands upright"
    text = (
        f"Lower left is better. The marker's area is the size on disk. Horizontal bars span the processes' medians; {upright}. "
        "The stairs join the candidates that no other beats on both axes; a ring marks a choice offered to you."
    )
    if unplaced:
        missing = "latency or quality" if against_quality else "latency or size"
        text += f" {unplaced} without a known {missing} cannot be drawn."
    return text + (f" {outside} with a far larger drop lie above the plot." if outside else "")


def latencies(result: FitResult) -> Figure:
    """Block medians per process of the contenders and the next finalists."""
    shown = {c.record.recipe.key: (c.title, c.record) for c in view.contenders(result)}
    for record in view.ranked(result):
        if record.fate in (Fate.FINALIST, Fate.RUNNER_UP) and len(shown) < _MAX_STRIPS:
            shown.setdefault(record.recipe.key, (phrases.name(record), record))
    rows = [s for title, record in shown.values() if (s := _strip(title, record)) is not None]
    if not rows:
        return Figure(caption="No latency was measured.")
    axis = Axis.around([v for r in rows for g in r.groups for v in g], "latency per call, median of a block", units.time)
    return Figure(
        svg=plots.strips(rows, axis, title="Latency distributions"),
        caption="Every dot is the median of one block of calls; each process has its own lane. "
        "The box spans the quartiles over all blocks, the line is their median.",
    )


def _strip(title: str, record: CandidateRecord) -> Strip | None:
    measured = record.measurement or record.screening
    if measured is None:
        return None
    groups = [tuple(v for v in process[:_MAX_DOTS] if math.isfinite(v)) for process in measured.block_medians_s]
    kept = tuple(g for g in groups if g)
    return Strip(label=phrases.clip(title, 110), role=role(record), groups=kept) if kept else None


def profiles(result: FitResult) -> tuple[tuple[str, Profile], ...]:
    """(role, profile) of best baseline and winner, those that were profiled."""
    found = {}
    for contender in view.contenders(result):
        if contender.role != "original" and contender.record.profile is not None:
            found[contender.role] = contender.record.profile
    if "baseline" not in found:
        original = view.find(result, result.default_baseline)
        if original is not None and original.profile is not None:
            found = {"baseline": original.profile, **found}
    return tuple(found.items())


def group_times(result: FitResult) -> Figure:
    """Time by operator group, baseline against winner."""
    winner = view.find(result, result.winner) if result.beats_baseline else None
    if winner is not None and winner.explanation is not None and winner.explanation.groups:
        groups = [(g.group, g.baseline_s, g.candidate_s) for g in winner.explanation.groups]
    else:
        groups = _groups_of_kinds(dict(profiles(result)))
    if not groups:
        return Figure(caption="No profile was taken, so the time per operator is unknown.")
    groups.sort(key=lambda g: -max(v for v in (g[1] or 0.0, g[2] or 0.0)))
    both = any(g[2] is not None for g in groups)
    rows = [Bar(label=name, values=_pair(base, cand, both)) for name, base, cand in groups[:_MAX_BARS]]
    rest = groups[_MAX_BARS:]
    more = f" {len(rest)} smaller groups are left out." if rest else ""
    return Figure(
        svg=plots.bars(rows, title="Time by operator group"),
        caption="Seconds per call, added up over all operators of a group, as the runtimes' own profilers report them." + more,
        legend=(("baseline", "baseline"), ("winner", "winner")) if both else (("baseline", "baseline"),),
    )


def _groups_of_kinds(found: dict[str, Profile]) -> list[tuple[str, float | None, float | None]]:
    totals = {r: {kind: seconds for kind, (_, seconds) in p.by_kind().items()} for r, p in found.items()}
    for r, profile in found.items():
        if phrases.known(profile.call_s):
            totals[r]["outside operators"] = profile.overhead_s
    kinds = dict.fromkeys(kind for t in totals.values() for kind in t)
    return [(k, totals.get("baseline", {}).get(k), totals.get("winner", {}).get(k)) for k in kinds]


def _pair(base: float | None, cand: float | None, both: bool) -> tuple[tuple[str, float | None, str], ...]:
    sides = [("baseline", base)] + ([("winner", cand)] if both else [])
    return tuple((r, v if phrases.known(v) else None, "none" if v is None else units.time(v)) for r, v in sides)


def losses(result: FitResult) -> Figure:
    """Training loss of every training of the answer, one after the other."""
    points: list[tuple[float, float]] = []
    for step in result.made:
        start = points[-1][0] if points else 0.0
        points += [(start + epoch, loss) for epoch, loss in step.loss]
    if len(points) < 2:
        return Figure(caption="Nothing was trained.")
    x = Axis.around([p[0] for p in points], "epochs", lambda value: f"{value:g}")
    y = Axis.around([p[1] for p in points], "training loss", lambda value: f"{value:.3g}")
    marks = [Mark(x=a, y=b, role="other", tip=f"epoch {a:g}: {b:.4g}") for a, b in points]
    line = Line(points=tuple(points), role="front")
    svg = plots.scatter(marks, x, y, (line,), title="training loss over the epochs", height=260.0)
    caption = "Mean loss of each epoch. It may jump where something was taken away, or where rounding begins."
    return Figure(caption=caption, svg=svg)


def sensitivity(result: FitResult) -> Figure:
    """Layers by the drop that each causes alone when quantised."""
    if not result.sensitivity:
        return Figure(caption="Layer sensitivity was not measured.")
    layers = sorted(result.sensitivity.items(), key=lambda item: -item[1] if math.isfinite(item[1]) else math.inf)
    rows = [
        Bar(label=name, values=(("quality", v if math.isfinite(v) else None, phrases.drop(result.metric, v)),))
        for name, v in layers[:_MAX_BARS]
    ]
    more = f" The {len(layers) - _MAX_BARS} least sensitive layers are left out." if len(layers) > _MAX_BARS else ""
    return Figure(
        svg=plots.bars(rows, title="Layer sensitivity"),
        caption="Quality drop when this layer alone is quantised; the most sensitive first." + more,
    )
