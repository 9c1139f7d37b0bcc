"""What a terminal shows: verdict first, 80 columns, plain where it must be."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
import sample
from rich.console import Console

from dovetail.core.outcome import FitResult
from dovetail.report.terminal import render_certificates, render_doctor, render_explanation, render_result, render_verify


class Sink(io.TextIOWrapper):
    """A terminal's stream in memory."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]


def shown(result: FitResult, encoding: str = "utf-8", colour: bool = False) -> str:
    sink = Sink(encoding)
    render_result(
        result, Console(file=sink, width=80, force_terminal=colour or None, color_system="standard" if colour else None)
    )
    return sink.text()


@dataclass(frozen=True)
class Line:
    name: str
    status: str
    detail: str
    hint: str = ""


def test_certified_fit_reads_from_verdict_to_next_step() -> None:
    text = shown(sample.fit())
    order = ["Certified", "1.77 times as fast", "Before and after", "264 µs", "α = 0.025", "Candidates", "What the search cost"]
    places = [text.index(words) for words in [*order, "fit/report.html", "dovetail verify fit"]]
    assert places == sorted(places)
    assert "1.74× to 1.80×" in text and "drop 0.11 pp" in text


@pytest.mark.parametrize("name", sample.EVERY)
def test_tables_fit_eighty_columns_without_colour(name: str) -> None:
    text = shown(sample.EVERY[name]())
    assert "\x1b" not in text
    copyable = ("Artifact", "Report", "Next")
    assert all(len(line) <= 80 for line in text.splitlines() if not line.startswith(copyable))


@pytest.mark.parametrize("name", sample.EVERY)
def test_ascii_terminal_gets_ascii(name: str) -> None:
    text = shown(sample.EVERY[name](), encoding="ascii")
    assert text.isascii()
    assert "264 us" in text or name in ("with_nan",)


def test_a_name_can_neither_style_nor_steer_the_terminal() -> None:
    text = shown(sample.hostile(), colour=True)
    assert "[bold red]" in text.replace("\n", "")
    assert "\x1b[31m[bold red]" not in text


def test_infeasible_says_what_could_be_met() -> None:
    text = shown(sample.infeasible())
    assert text.startswith("Infeasible")
    assert "Nearest limit that can be met: latency 145 µs" in text and "No artifact was written." in text


def test_nothing_beats_the_baseline_is_an_answer() -> None:
    text = shown(sample.nothing_beats())
    assert text.startswith("Nothing beats the baseline")
    assert "claims about other candidates" in text


def test_unknown_numbers_say_so() -> None:
    text = shown(sample.without_data())
    assert text.startswith("Best effort") and "unknown" in text and "nan" not in text.lower()


def test_certificates_explanation_and_checks() -> None:
    sink = Sink("utf-8")
    console = Console(file=sink, width=80)
    render_certificates(sample.certificates(), console)
    render_explanation(sample.explanation(), console)
    checks = [Line("onnxruntime", "ok", "1.31.0"), Line("torch", "missing", "not installed", "pip install 'dovetail[torch]'")]
    render_doctor(checks, console)
    render_verify("fit", False, checks, sample.certificates(), console)
    text = sink.text()
    assert "Cannot certify: n = 320" in text
    assert "unfused quantize" in text and "142 µs" in text and "none" in text
    assert "pip install 'dovetail[torch]'" in text
    assert "Not verified  " in text
