"""Shows work in progress: live bars on a terminal, one line per event elsewhere, or nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol, TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from dovetail.core import units
from dovetail.report import phrases


class Progress(Protocol):
    """Where a pipeline says how far it is."""

    def stage(self, name: str, total: int | None) -> None:
        """A stage begins; ``total`` steps are expected, ``None`` when unknown."""
        ...

    def advance(self, n: int = 1, text: str = "") -> None:
        """``n`` steps of the stage are done; ``text`` says what the last one was."""
        ...

    def best(self, text: str) -> None:
        """The best answer so far."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line that stays."""
        ...

    def close(self) -> None:
        """Work is over; calling it twice is harmless."""
        ...


class SilentProgress:
    """Shows nothing."""

    def stage(self, name: str, total: int | None) -> None:
        """Ignored."""

    def advance(self, n: int = 1, text: str = "") -> None:
        """Ignored."""

    def best(self, text: str) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""

    def close(self) -> None:
        """Ignored."""


class PlainProgress:
    """One line per event, with the seconds since the start; for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._ascii = not (stream.encoding or "utf-8").lower().startswith("utf")
        self._started = time.monotonic()
        self._done, self._total = 0, 0

    def stage(self, name: str, total: int | None) -> None:
        """Writes the stage's name and number of steps."""
        self._done, self._total = 0, total or 0
        self._write(f"{name}: {total} to do" if total else name)

    def advance(self, n: int = 1, text: str = "") -> None:
        """Writes a step that has a text; others only count."""
        self._done += n
        if text:
            count = f"{self._done}/{self._total}" if self._total else str(self._done)
            self._write(f"{count} {text}", indent="  ")

    def best(self, text: str) -> None:
        """Writes the best answer so far."""
        self._write(f"best so far: {text}", indent="  ")

    def note(self, text: str) -> None:
        """Writes the note."""
        self._write(text, indent="  ")

    def close(self) -> None:
        """Nothing to do: every line is already out."""

    def _write(self, text: str, indent: str = "") -> None:
        line = f"[{time.monotonic() - self._started:7.1f} s] {indent}{phrases.one_line(text)}"
        self._stream.write((phrases.ascii_safe(line) if self._ascii else line) + "\n")
        self._stream.flush()


class _Display(Bars):
    """The bars, and below them the best answer so far."""

    best: RenderableType = Text("")

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield self.best


class _Remaining(TextColumn):
    """What is left of the time budget, or of the stage if that ends sooner."""

    def __init__(self, budget_s: float | None, started: float) -> None:
        super().__init__("")
        self._budget_s, self._started = budget_s, started

    def render(self, task: Task) -> Text:
        elapsed = time.monotonic() - self._started
        if self._budget_s is None:
            return Text(units.duration(elapsed), style="dim")
        left = max(0.0, self._budget_s - elapsed)
        if task.time_remaining is not None:
            left = min(left, task.time_remaining)
        words = f"{units.duration(elapsed)} of {units.duration(self._budget_s)}, stage ends in {units.duration(left)}"
        return Text(words, style="dim")


class LiveProgress:
    """Bars that redraw in place: stage, count, time against the budget, and the best answer so far.

    Args:
        console: a terminal.
        budget_s: time budget in seconds, ``None`` without one.
    """

    def __init__(self, console: Console, budget_s: float | None) -> None:
        self._ascii = console.options.ascii_only
        self._bars = _Display(
            TextColumn("{task.description}"),
            BarColumn(bar_width=18),
            MofNCompleteColumn(),
            _Remaining(budget_s, time.monotonic()),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._name = ""
        self._bars.start()

    def stage(self, name: str, total: int | None) -> None:
        """Replaces the bar by the new stage's."""
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._name = self._clean(name, 24)
        self._task = self._bars.add_task(self._name, total=total)

    def advance(self, n: int = 1, text: str = "") -> None:
        """Moves the bar, and shows the step's text beside the stage's name."""
        if self._task is None:
            return
        shown = f"{self._name} {self._clean(text, 40)}".strip()
        self._bars.update(self._task, advance=n, description=shown)

    def best(self, text: str) -> None:
        """Shows the best answer so far under the bar."""
        self._bars.best = Text(self._clean(f"best so far: {text}", 200), style="green")

    def note(self, text: str) -> None:
        """Prints a line above the bars, where it stays."""
        self._bars.console.print(Text(self._clean(text, 400)))

    def close(self) -> None:
        """Takes the bars away."""
        self._bars.stop()

    def _clean(self, text: str, limit: int) -> str:
        words = phrases.clip(phrases.one_line(text), limit)
        return phrases.ascii_safe(words) if self._ascii else words
