"""Progress on a terminal, in a log, and nowhere."""

from __future__ import annotations

import io

from rich.console import Console

from dovetail.report.progress import LiveProgress, PlainProgress, Progress, SilentProgress


def drive(progress: Progress) -> None:
    progress.stage("measure", 3)
    progress.advance(text="int8 \x1b[31m[bold]µs")
    progress.advance()
    progress.best("142 µs, 1.77×")
    progress.note("steal time 4 %")
    progress.stage("certify", None)
    progress.advance(text="winner")
    progress.close()
    progress.close()


def test_plain_lines() -> None:
    stream = io.StringIO()
    drive(PlainProgress(stream))
    lines = [line.partition("] ")[2] for line in stream.getvalue().splitlines()]
    assert lines == [
        "measure: 3 to do",
        "  1/3 int8 [31m[bold]µs",
        "  best so far: 142 µs, 1.77×",
        "  steal time 4 %",
        "certify",
        "  1 winner",
    ]


def test_plain_lines_in_ascii() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    drive(PlainProgress(stream))
    stream.flush()
    assert stream.buffer.getvalue().isascii()  # type: ignore[attr-defined]


def test_live_display_shows_stage_count_budget_and_best() -> None:
    stream = io.StringIO()
    drive(LiveProgress(Console(file=stream, force_terminal=True, width=100), 600.0))
    shown = stream.getvalue()
    for words in ("measure", "/3", "of 10 min 00 s", "142 µs, 1.77×", "steal time 4 %", "certify"):
        assert words in shown
    assert "\x1b[31m[bold]" not in shown


def test_live_display_without_a_budget() -> None:
    stream = io.StringIO()
    drive(LiveProgress(Console(file=stream, force_terminal=True, width=100), None))
    assert "certify" in stream.getvalue()


def test_silence() -> None:
    drive(SilentProgress())
