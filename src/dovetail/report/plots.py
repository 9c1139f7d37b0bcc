"""Draws plots as SVG text: pure functions of numbers, with no plotting library.

Colours come from the page: a mark has the class ``m-<role>``, a line ``l-<role>``, a bar ``b-<role>``, a strip ``s-<role>``, so
that one drawing serves light and dark. Every mark carries a ``<title>``, which browsers show as a tooltip. Lengths are in SVG
user units (about a pixel).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 880.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 76.0, 20.0, 16.0, 50.0
_GUTTER = 210.0
_CHAR = 6.6
"""Average width of a character at the 12-unit font of the labels; decides clipping and label placement only."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A labelled range of values.

    Attributes:
        label: quantity with its unit.
        low: value at the start; above zero on a log axis.
        high: value at the end, above ``low``.
        text: formats a tick.
        log: logarithmic scale.
    """

    label: str
    low: float
    high: float
    text: Callable[[float], str]
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"an axis goes from low to high, above zero on a log scale, not from {self.low} to {self.high}")

    @classmethod
    def around(
        cls, values: Iterable[float], label: str, text: Callable[[float], str], *, log: bool = False, pad: float = 0.07
    ) -> Axis:
        """An axis that holds all values, with a margin of ``pad`` of its length on both sides.

        Raises:
            ValueError: no value to hold, or one at or below zero on a log scale.
        """
        held = [v for v in values if math.isfinite(v)]
        if not held:
            raise ValueError(f"nothing to draw on the axis {label!r}")
        low, high = min(held), max(held)
        if log:
            factor = max(high / low, 1.5) ** pad
            return cls(label=label, low=low / factor, high=high * factor, text=text, log=True)
        span = (high - low) or abs(high) * 0.2 or 1.0
        return cls(label=label, low=low - pad * span, high=high + pad * span, text=text)

    def place(self, value: float, start: float, stop: float) -> float:
        """Position of a value when the axis runs from ``start`` to ``stop``."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(max(value, 1e-300)), math.log(low), math.log(high)
        return start + (value - low) / (high - low) * (stop - start)

    def ticks(self, target: int = 6) -> list[float]:
        """Round values on the axis, about ``target`` of them."""
        return _log_ticks(self.low, self.high, target) if self.log else _linear_ticks(self.low, self.high, target)


def _linear_ticks(low: float, high: float, target: int) -> list[float]:
    raw = (high - low) / max(1, target)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, target: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**d for d in decades for m in steps if low <= m * 10.0**d <= high]
        if len(found) <= target + 1:
            break
    if len(found) < 2:
        return [v for v in _linear_ticks(low, high, target) if v > 0]
    return found[:: math.ceil(len(found) / (target + 1))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point with optional error bars.

    Attributes:
        radius: of the marker; its area is what the eye compares.
        tip: tooltip.
        label: text beside the marker, empty for none.
        ringed: draws a ring around the marker.
    """

    x: float
    y: float
    role: str
    tip: str
    radius: float = 4.0
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    label: str = ""
    ringed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A polyline through points, with a label at its end."""

    points: tuple[tuple[float, float], ...]
    role: str
    label: str = ""


def scatter(marks: Sequence[Mark], x: Axis, y: Axis, lines: Sequence[Line] = (), *, title: str, height: float = 400.0) -> str:
    """A scatter plot; marks come in drawing order, the last on top."""
    box = (_LEFT, _TOP, WIDTH - _RIGHT, height - _BOTTOM)
    body = [_x_axis(x, box), _y_axis(y, box)]
    body += [_line(line, x, y, box) for line in lines]
    body += [_mark(mark, x, y, box) for mark in marks]
    body.append(_labels(marks, x, y, box))
    return _svg(title, height, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One row of a strip plot: values per group (a process), drawn as dots around a box of the quartiles."""

    label: str
    role: str
    groups: tuple[tuple[float, ...], ...]


def strips(rows: Sequence[Strip], x: Axis, *, title: str) -> str:
    """Horizontal strips: every value a dot, groups stacked in the row, box from quartile to quartile, line at the median."""
    step = 58.0
    height = step * len(rows) + _BOTTOM + 8
    box = (_RIGHT, 4.0, WIDTH - _RIGHT, height - _BOTTOM)
    body = [_x_axis(x, box)]
    body += [_strip(row, x, box, step * i) for i, row in enumerate(rows)]
    return _svg(title, height, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One labelled row of bars: (role, value, text at its end) each; a value of ``None`` shows only the text."""

    label: str
    values: tuple[tuple[str, float | None, str], ...]


def bars(rows: Sequence[Bar], *, title: str) -> str:
    """Horizontal bars from zero, grouped by row; negative values go to the left."""
    series = max(len(row.values) for row in rows)
    thick, gap = (15.0, 9.0) if series == 1 else (13.0, 12.0)
    values = [v for row in rows for _, v, _ in row.values if v is not None]
    axis = Axis.around([0.0, *values], "", str, pad=0.0) if any(values) else Axis(label="", low=0.0, high=1.0, text=str)
    room = max(len(text) for row in rows for _, _, text in row.values) * _CHAR + 10
    step = thick * series + gap
    gutter = min(_GUTTER, 20 + _CHAR * max(len(row.label) for row in rows))
    start = gutter + (room if axis.low < 0 else 0)
    stop = WIDTH - _RIGHT - room
    height = step * len(rows) + 12
    zero = axis.place(0.0, start, stop)
    body = [f'<line class="axis" x1="{zero:.1f}" y1="2" x2="{zero:.1f}" y2="{height - 6:.1f}"/>']
    for i, row in enumerate(rows):
        top = 6 + i * step
        body.append(_row_label(row.label, gutter - 10, top + thick * series / 2))
        body += [_bar(row.label, v, axis, (start, stop), top + k * thick, thick - 2) for k, v in enumerate(row.values)]
    return _svg(title, height, body)


def _bar(label: str, value: tuple[str, float | None, str], axis: Axis, span: tuple[float, float], y: float, h: float) -> str:
    role, number, text = value
    zero = axis.place(0.0, *span)
    end = zero if number is None else axis.place(number, *span)
    anchor, x = ("end", end - 5) if end < zero else ("start", end + 5)
    shape = f'<rect x="{min(zero, end):.1f}" y="{y:.1f}" width="{abs(end - zero):.1f}" height="{h:.1f}" rx="1.5"/>'
    words = f'<text x="{x:.1f}" y="{y + h / 2:.1f}" dy=".35em" text-anchor="{anchor}">{escape(text)}</text>'
    return f'<g class="b-{role}">{_tip(f"{label}: {text}")}{shape}{words}</g>'


def _strip(row: Strip, x: Axis, box: Box, top: float) -> str:
    values = sorted(v for group in row.groups for v in group)
    middle, half = top + 40, 13.0
    q1, q2, q3 = (x.place(_quantile(values, q), box[0], box[2]) for q in (0.25, 0.5, 0.75))
    lanes = max(1, len(row.groups) - 1)
    dots = "".join(
        f'<circle cx="{x.place(v, box[0], box[2]):.1f}" cy="{middle + half * (2 * k / lanes - 1) * 0.85:.1f}" r="2.2"/>'
        for k, group in enumerate(row.groups)
        for v in group
    )
    frame = f'<rect x="{q1:.1f}" y="{middle - half:.1f}" width="{max(1.0, q3 - q1):.1f}" height="{2 * half:.0f}" rx="2"/>'
    median = f'<line x1="{q2:.1f}" y1="{middle - half - 3:.1f}" x2="{q2:.1f}" y2="{middle + half + 3:.1f}"/>'
    tip = f"{row.label}: median {x.text(_quantile(values, 0.5))}, {len(row.groups)} processes, {len(values)} blocks"
    words = f'<text class="name" x="{box[0]:.0f}" y="{top + 17:.1f}">{escape(row.label)}</text>'
    return f'<g class="s-{row.role}">{_tip(tip)}{frame}{dots}{median}</g>{words}'


def _quantile(ordered: Sequence[float], q: float) -> float:
    at = q * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def _x_axis(axis: Axis, box: Box) -> str:
    left, top, right, bottom = box
    parts = []
    for value in axis.ticks(7):
        at = axis.place(value, left, right)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{top:.1f}" x2="{at:.1f}" y2="{bottom:.1f}"/>')
        words = escape(axis.text(value))
        parts.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{words}</text>')
    parts.append(f'<line class="axis" x1="{left:.1f}" y1="{bottom:.1f}" x2="{right:.1f}" y2="{bottom:.1f}"/>')
    label = escape(axis.label)
    parts.append(f'<text class="label" x="{(left + right) / 2:.1f}" y="{bottom + 38:.1f}" text-anchor="middle">{label}</text>')
    return "".join(parts)


def _y_axis(axis: Axis, box: Box) -> str:
    left, top, right, bottom = box
    parts = []
    for value in axis.ticks(6):
        at = axis.place(value, bottom, top)
        parts.append(f'<line class="grid" x1="{left:.1f}" y1="{at:.1f}" x2="{right:.1f}" y2="{at:.1f}"/>')
        words = escape(axis.text(value))
        parts.append(f'<text class="tick" x="{left - 7:.1f}" y="{at:.1f}" dy=".35em" text-anchor="end">{words}</text>')
    parts.append(f'<line class="axis" x1="{left:.1f}" y1="{top:.1f}" x2="{left:.1f}" y2="{bottom:.1f}"/>')
    middle = (top + bottom) / 2
    turned = f'x="14" y="{middle:.1f}" transform="rotate(-90 14 {middle:.1f})" text-anchor="middle"'
    parts.append(f'<text class="label" {turned}>{escape(axis.label)}</text>')
    return "".join(parts)


def _line(line: Line, x: Axis, y: Axis, box: Box) -> str:
    left, top, right, bottom = box
    points = [(x.place(a, left, right), y.place(b, bottom, top)) for a, b in line.points]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    drawn = f'<polyline class="l-{line.role}" points="{path}"/>'
    if not line.label:
        return drawn
    at_x, at_y = points[-1]
    return drawn + f'<text class="note" x="{at_x - 6:.1f}" y="{at_y - 6:.1f}" text-anchor="end">{escape(line.label)}</text>'


def _mark(mark: Mark, x: Axis, y: Axis, box: Box) -> str:
    left, top, right, bottom = box
    cx, cy = x.place(mark.x, left, right), y.place(mark.y, bottom, top)
    spans = ""
    if mark.x_range is not None:
        low, high = (x.place(v, left, right) for v in mark.x_range)
        spans += f'<line class="err" x1="{low:.1f}" y1="{cy:.1f}" x2="{high:.1f}" y2="{cy:.1f}"/>'
    if mark.y_range is not None:
        low, high = (y.place(v, bottom, top) for v in mark.y_range)
        spans += f'<line class="err" x1="{cx:.1f}" y1="{low:.1f}" x2="{cx:.1f}" y2="{high:.1f}"/>'
    ring = f'<circle class="ring" cx="{cx:.1f}" cy="{cy:.1f}" r="{mark.radius + 4:.1f}"/>' if mark.ringed else ""
    dot = f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{mark.radius:.1f}"/>'
    return f'<g class="m-{mark.role}">{_tip(mark.tip)}{spans}{ring}{dot}</g>'


def _labels(marks: Sequence[Mark], x: Axis, y: Axis, box: Box) -> str:
    """Labels beside their marks, each on the first side where it fits the plot and covers no label before it."""
    left, top, right, bottom = box
    taken: list[Box] = []
    parts = []
    for mark in (m for m in marks if m.label):
        cx, cy = x.place(mark.x, left, right), y.place(mark.y, bottom, top)
        width, away = len(mark.label) * _CHAR, mark.radius + 8
        sides = ((cx + away, cy), (cx - away - width, cy), (cx - width / 2, cy - away - 6), (cx - width / 2, cy + away + 6))
        for at_x, at_y in sides:
            area = (at_x, at_y - 7, at_x + width, at_y + 7)
            inside = left <= area[0] and area[2] <= right and top <= area[1] and area[3] <= bottom
            if inside and not any(_overlap(area, other) for other in taken):
                break
        taken.append(area)
        parts.append(f'<text class="name" x="{at_x:.1f}" y="{at_y:.1f}" dy=".35em">{escape(mark.label)}</text>')
    return "".join(parts)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _row_label(label: str, x: float, y: float) -> str:
    """A label left of the bars; a long one keeps its end, where names of layers differ."""
    room = int((_GUTTER - 16) / _CHAR)
    shown = label if len(label) <= room else "…" + label[-room + 1 :]
    return f'<text class="name" x="{x:.0f}" y="{y:.1f}" dy=".35em" text-anchor="end">{_tip(label)}{escape(shown)}</text>'


def _tip(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def _svg(title: str, height: float, body: Iterable[str]) -> str:
    head = f'<svg class="plot" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">'
    return head + "".join(body) + "</svg>"
