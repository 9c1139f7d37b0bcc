"""Measured energy in the reports, and what they say where it is unknown."""

import io
from dataclasses import replace

import sample
from rich.console import Console

from dovetail.core.energy import MeasuredEnergy
from dovetail.core.measurement import Interval
from dovetail.core.outcome import FitResult
from dovetail.report import view
from dovetail.report.html import render_html
from dovetail.report.terminal import render_result

MEASURED = MeasuredEnergy(
    per_sample_j=Interval(point=0.0123, low=0.0121, high=0.0125),
    above_idle_j=Interval(point=0.0081, low=0.0079, high=0.0083),
    power_w=20.0,
    idle_power_w=Interval(point=7.0, low=6.9, high=7.1),
    blocks=6,
    calls=600,
    meter="rapl",
    scope="package-0",
)
UNKNOWN = "unknown, no sensor: rapl: no RAPL counter under sys/class/powercap"


def metered() -> FitResult:
    """The winner alone was measured."""
    result = sample.fit()
    candidates = tuple(replace(c, energy=MEASURED) if c.recipe.key == result.winner else c for c in result.candidates)
    return replace(result, candidates=candidates, energy_note="measured with rapl (package-0)")


def shown(result: FitResult) -> str:
    stream = io.StringIO()
    render_result(result, Console(file=stream, width=140))
    return stream.getvalue()


def test_measured_energy_is_a_row_of_the_comparison() -> None:
    row = next(row for row in view.before_after(metered()) if row.label == "Energy a sample")
    assert row.cells[-1] == ("12.3 mJ", "8.1 mJ above idle\n(7.9 mJ to 8.3 mJ)")
    assert all(cell == ("unknown", "") for cell in row.cells[:-1])
    assert "measured with rapl (package-0)" in shown(metered())
    assert "12.3 mJ" in render_html(metered())


def test_where_nothing_could_be_measured_the_reason_is_told_and_no_row() -> None:
    result = replace(sample.fit(), energy_note=UNKNOWN)
    assert not any(row.label == "Energy a sample" for row in view.before_after(result))
    assert "Energy: unknown, no sensor" in shown(result)
    assert "no RAPL counter" in render_html(result)
