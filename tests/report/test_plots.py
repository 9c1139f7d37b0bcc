"""Scales, ticks and drawings."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.report.plots import Axis, Bar, Line, Mark, Strip, bars, scatter, strips


def axis(low: float, high: float, log: bool = False) -> Axis:
    return Axis(label="x", low=low, high=high, text=lambda v: f"{v:g}", log=log)


@given(st.floats(1e-9, 1e9), st.floats(1.01, 1e6), st.booleans())
def test_ticks_are_few_ascending_and_on_the_axis(low: float, factor: float, log: bool) -> None:
    found = axis(low, low * factor, log).ticks(6)
    assert 2 <= len(found) <= 14
    assert found == sorted(set(found))
    assert all(low * (1 - 1e-6) <= v <= low * factor * (1 + 1e-6) for v in found)


def test_ticks_are_round() -> None:
    assert axis(0.0, 1.0).ticks(5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert axis(1e-4, 1e-1, log=True).ticks(6) == pytest.approx([1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1])


def test_places_are_proportional() -> None:
    assert axis(0, 10).place(5, 0, 100) == 50
    assert axis(1, 100, log=True).place(10, 0, 100) == pytest.approx(50)
    assert axis(0, 10).place(10, 100, 0) == 0


def test_axis_rejects_nonsense() -> None:
    with pytest.raises(ValueError, match="from low to high"):
        axis(2, 1)
    with pytest.raises(ValueError, match="above zero on a log scale"):
        axis(-1, 1, log=True)
    with pytest.raises(ValueError, match="nothing to draw"):
        Axis.around([math.nan], "x", str)


def test_equal_values_still_make_an_axis() -> None:
    for values in ([0.0], [3.0, 3.0], [-2.0]):
        made = Axis.around(values, "x", str)
        assert made.low < values[0] < made.high


def numbers(svg: str) -> list[float]:
    return [float(v) for v in re.findall(r' (?:cx|cy|x1|x2|y1|y2|r|width|height|x|y)="([^"]+)"', svg)]


def test_drawings_are_valid_xml_with_escaped_text() -> None:
    mark = Mark(x=1, y=2, role="winner", tip="<&>", label="a<b", ringed=True, x_range=(0.5, 1.5), y_range=(1, 3))
    line = Line(points=((0, 0), (2, 2)), role="front", label='"<"')
    drawings = [
        scatter([mark], axis(0, 3), axis(0, 4), [line], title='a "plot" & more'),
        strips([Strip(label="<s>", role="winner", groups=((1.0, 1.1), (1.2,)))], axis(0, 3), title="s"),
        bars([Bar(label="l" * 80, values=(("baseline", 1.0, "1 s"), ("winner", None, "none")))], title="b"),
        bars(
            [Bar(label="down", values=(("quality", -1.0, "-1"),)), Bar(label="up", values=(("quality", 2.0, "2"),))], title="b"
        ),
    ]
    for svg in drawings:
        ElementTree.fromstring(svg)
        assert all(math.isfinite(v) for v in numbers(svg))


def test_labels_do_not_cover_each_other() -> None:
    marks = [Mark(x=1 + i * 0.001, y=1, role="winner", tip="", label=f"label number {i}") for i in range(3)]
    svg = scatter(marks, axis(0, 2), axis(0, 2), title="t")
    places = re.findall(r'class="name" x="([\d.]+)" y="([\d.]+)"', svg)
    assert len(set(places)) == 3
