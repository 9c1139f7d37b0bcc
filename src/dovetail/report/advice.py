"""Shows advice: the ranked list with reasons, what is excluded and by what, what cannot be told, the Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dovetail.core import units
from dovetail.core.advice import Advice, Change, Option, Standing
from dovetail.core.device import DEPLOYMENT
from dovetail.core.errors import StorageError
from dovetail.core.estimate import Estimate
from dovetail.core.files import write_whole
from dovetail.core.serial import encode
from dovetail.report import columns as fit
from dovetail.report.figures import Figure
from dovetail.report.html import templates
from dovetail.report.phrases import UNKNOWN
from dovetail.report.plots import Axis, Line, Mark, scatter

SCHEMA = 1
_SHOWN = 12
_NAMED = 8


def to_json(advice: Advice) -> dict[str, Any]:
    """A document with its schema version; each option with its standing."""
    content = encode(advice)
    for group in ("ranked", "unknown", "excluded"):
        for written, option in zip(content[group], getattr(advice, group), strict=True):
            written["standing"] = option.standing.value
    return {"schema": SCHEMA, "kind": "advice", "advice": content}


def render(advice: Advice, console: Console, *, every: bool = False) -> None:
    """The whole answer on a terminal.

    Args:
        advice: what to show.
        console: where.
        every: all rows, not only the first of each list.
    """
    console.print(headline(advice), highlight=False, style="bold")
    _render_ranked(advice, console, every)
    for title, options in (("cannot be told", advice.unknown), ("excluded", advice.excluded)):
        shown = options if every else options[:_SHOWN]
        if options:
            console.print(f"\n{title}: {len(options)}", style="bold", highlight=False)
        for option in shown:
            _line(f"{option.device}: {reasons(option)}", console)
        if len(shown) < len(options):
            console.print(f"  and {len(options) - len(shown)} more: --all shows them", highlight=False)
    if advice.changes:
        console.print("\nwhat would move the limit, predicted again", style="bold")
    for change in advice.changes:
        _line(change_text(change), console)
    console.print()
    for note in advice.notes:
        console.print(Text(f"note: {note}"))


def _line(words: str, console: Console) -> None:
    """One entry of a list, its further lines indented."""
    grid = Table.grid(padding=(0, 1))
    grid.add_row("-", Text(words, overflow="fold"))
    console.print(grid)


def headline(advice: Advice) -> str:
    """The answer in a sentence: the best, and the best that is sure."""
    if not advice.ranked:
        lacking = f"; {len(advice.unknown)} lack a number" if advice.unknown else ""
        return f"{advice.job}: no device of the catalogue is known to meet every requirement{lacking}"
    first = advice.ranked[0]
    text = f"{advice.job}: {_number(first)} x {first.device} ({first.standing.value})"
    sure = next((item for item in advice.ranked if item.standing is Standing.SURE), None)
    if sure is None:
        return f"{text}; none is sure"
    return text if sure is first else f"{text}; the first that is sure: {_number(sure)} x {sure.device}"


def _render_ranked(advice: Advice, console: Console, every: bool) -> None:
    shown = advice.ranked if every else advice.ranked[:_SHOWN]
    told = [cells(option) for option in shown]
    rows: dict[str, Sequence[str]] = {name: [row[i] for row in told] for i, name in enumerate(COLUMNS)}
    names, whole = list(COLUMNS), fit.total([_width(rows, name) for name in COLUMNS])
    if whole > console.width:
        # The limit goes below the device's name, then what is missed least goes.
        rows["device"] = [f"{device}\n  {limit}" for device, limit in zip(rows["device"], rows["limit"], strict=True)]
        names = fit.fitting({name: _width(rows, name) for name in names if name != "limit"}, _MISSED, console.width)
    console.print(f"ranked by {advice.prefer}, * on the Pareto front", style="italic", highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, justify="left" if name in _WORDS else "right", no_wrap=name == "device", overflow="fold")
    for row in zip(*(rows[name] for name in names), strict=True):
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    if len(shown) < len(advice.ranked):
        console.print(f"and {len(advice.ranked) - len(shown)} more: --all shows them", highlight=False)
    hidden = [name for name in COLUMNS if name not in (*names, "limit")]
    words = (f"per million {advice.unit}", _LEVEL if "level" in names else "")
    console.print("; ".join(filter(None, words)), highlight=False)
    if hidden:
        console.print(f"{whole} columns show {', '.join(hidden)} too", style="dim", highlight=False)


def _width(rows: Mapping[str, Sequence[str]], name: str) -> int:
    return fit.width([name, *rows[name]])


COLUMNS = ("device", "n", "type", "latency", "$/month", "$/million", "mean W", "level", "limit", "met")
_WORDS = ("device", "limit", "met")
_MISSED = ("level", "type", "mean W", "$/million")
"""Columns that a terminal leaves out where not all fit, the least missed first."""
_LEVEL = "level: what deployment takes, 1 (a package) to 5 (docs/devices.md)"


def cells(option: Option) -> tuple[str, ...]:
    """A row of :data:`COLUMNS`."""
    latency = option.latency_s or option.duration_s
    shown = units.duration if option.latency_s is None else units.time
    limit = option.binds.value if option.binds else UNKNOWN
    return (
        f"{option.device}{' *' if option.front else ''}",
        _number(option),
        option.precision or UNKNOWN,
        UNKNOWN if latency is None else shown(latency.value),
        _value(option.usd_per_month, _usd),
        _value(option.usd_per_million, _usd),
        _value(option.average_w, _watts),
        UNKNOWN if option.deployment is None else str(option.deployment),
        limit if option.count_by in ("one is enough", "rate", limit) else f"{limit}; number by {option.count_by}",
        option.standing.value,
    )


def reasons(option: Option) -> str:
    """Every requirement that excludes it, or every number that is missing; for one that is ranked, the least sure ones."""
    wanted = [item for item in option.judged if item.standing.excludes]
    wanted = wanted or [item for item in option.judged if item.standing is Standing.UNKNOWN]
    wanted = wanted or [item for item in option.judged if item.standing is option.standing]
    return "; ".join(f"{item.requirement} ({item.standing.value}): {item.why}" for item in wanted)


def change_text(change: Change) -> str:
    """One change with its gain and what limits before and after."""
    before = change.binds_before.value if change.binds_before else UNKNOWN
    after = change.binds_after.value if change.binds_after else UNKNOWN
    limit = f"still limited by {before}" if before == after else f"limit moves from {before} to {after}"
    memory = change.memory_gain or 1.0
    kept = f", memory {memory:.2f}× less" if memory > 1.03 else f", memory {1 / memory:.2f}× more" if memory < 0.97 else ""
    note = f" ({change.note})" if change.note else ""
    return f"{change.device}: {change.what}: {units.ratio(change.gain)} the rate{kept}; {limit}{note}"


def _number(option: Option) -> str:
    devices = option.devices
    if devices is None:
        return UNKNOWN
    return f"{devices.value:,.0f}" if devices.high == devices.value else f"{devices.value:,.0f} (to {devices.high:,.0f})"


def _value(found: Estimate | None, shown: Callable[[float], str]) -> str:
    return UNKNOWN if found is None else shown(found.value)


def _usd(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _watts(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def plots(advice: Advice) -> list[Figure]:
    """Cost against latency, power against latency, and power against cost, of what meets the job."""
    axes: dict[str, tuple[str, Callable[[Option], Estimate | None], Callable[[float], str]]] = {
        "latency": ("latency (duration of training)", lambda o: o.latency_s or o.duration_s, lambda v: units.time(v, 2)),
        "cost": ("cost, USD a month (of a training run: in all)", lambda o: o.usd_total or o.usd_per_month, _usd),
        "power": ("mean power, W", lambda o: o.average_w, _watts),
    }
    return [_plot(advice.ranked, axes[x], axes[y]) for x, y in (("latency", "cost"), ("latency", "power"), ("cost", "power"))]


def _plot(options: Sequence[Option], across: tuple[str, Any, Any], up: tuple[str, Any, Any]) -> Figure:
    points = [(item, across[1](item), up[1](item)) for item in options]
    known = [(item, x, y) for item, x, y in points if x is not None and y is not None]
    if not known:
        return Figure(caption=f"Not drawn: no device that meets the job has a known {across[0]} and {up[0]}.")
    x_axis = Axis.around([e for _, x, _ in known for e in (x.low, x.high)], across[0], across[2], log=True)
    y_axis = Axis.around([e for _, _, y in known for e in (y.low, y.high)], up[0], up[2], log=True)
    named = {item.device for item, _, _ in [point for point in known if point[0].front][:_NAMED]}
    marks = [
        Mark(
            x=x.value, y=y.value, role="winner" if item.front else "other", tip=f"{_number(item)} x {item.device}",
            x_range=(x.low, x.high) if item.front else None, y_range=(y.low, y.high) if item.front else None,
            label=item.device if item.device in named else "",
        )
        for item, x, y in sorted(known, key=lambda point: point[0].front)
    ]  # fmt: skip
    left_out = len(points) - len(known)
    caption = f"{len(known)} devices that meet the job; {left_out} lack one of the numbers. Bars: 90 % intervals, on the front."
    lines = (Line(points=_steps([(x.value, y.value) for item, x, y in known]), role="front"),)
    drawn = scatter(marks, x_axis, y_axis, lines, title=f"{up[0]} against {across[0]}")
    return Figure(caption=caption, svg=drawn, legend=(("winner", "on the Pareto front of all three"), ("other", "not on it")))


def _steps(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The lower left edge of the points of one plot."""
    edge: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not edge or y < edge[-1][1]:
            edge.append((x, y))
    return tuple(edge)


def render_html(advice: Advice) -> str:
    """The answer as one page that needs nothing else."""
    return templates().get_template("advice.html.j2").render(
        advice=advice, headline=headline(advice), columns=COLUMNS, figures=plots(advice), deployment=DEPLOYMENT,
        rows=[(cells(option), reasons(option), option.notes) for option in advice.ranked],
        lists=[
            ("Cannot be told", [(option.device, reasons(option)) for option in advice.unknown]),
            ("Excluded", [(option.device, reasons(option)) for option in advice.excluded]),
        ],
        changes=[change_text(change) for change in advice.changes],
    )  # fmt: skip


def write_html(advice: Advice, path: Path) -> None:
    """Writes the page.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        write_whole(path, render_html(advice))
    except OSError as exc:
        raise StorageError(f"the page cannot be written: {exc.strerror}", where=str(path)) from exc
