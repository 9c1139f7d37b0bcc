"""Renders a training: a table on the terminal, and one page with its curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dovetail.core import units
from dovetail.core.training import Epoch, TrainResult, Tried
from dovetail.report import phrases
from dovetail.report.figures import Figure
from dovetail.report.html import save, templates
from dovetail.report.plots import Axis, Line, Mark, scatter

_ROWS = 12


def headline(result: TrainResult) -> str:
    """One sentence that says what came of it."""
    trained = f"{result.model_name}: {result.history[-1].epoch:g} epochs in {units.duration(result.seconds)}"
    if result.score is None:
        return f"{trained}, loss {result.history[-1].loss:.4g}; no samples were held out to judge it"
    return f"{trained}, held-out {result.score_name} {result.score:.4g}"


def settings(result: TrainResult) -> list[tuple[str, str]]:
    """Names and values of what it was trained with."""
    schedule = result.schedule
    held = f"{schedule.hold_out:.0%} held out, 1,000 at most" if schedule.hold_out else "none held out"
    return [
        ("samples", f"{result.samples:,}, {held}"),
        ("optimizer", f"{schedule.optimizer}, learning rate {schedule.learning_rate:.3g} {schedule.curve}"),
        ("weight decay", f"{schedule.weight_decay:.3g}"),
        ("batch", f"{schedule.batch}" + (f" × {schedule.accumulate}" if schedule.accumulate > 1 else "")),
        ("augmentation", schedule.augment),
        ("speed", f"{result.samples_per_s:,.0f} samples/s, measured"),
    ]


def render_terminal(result: TrainResult, console: Console) -> None:
    """Headline, the course of the training, and what was written."""
    console.print(headline(result), style="bold")
    for name, value in settings(result):
        console.print(f"  {name:<14}{value}", highlight=False)
    if result.tried:
        console.print(_tried_table(result.tried))
    table = Table("epoch", "loss", result.score_name or "score", "learning rate", "time")
    for row in _thinned(result.history):
        table.add_row(*cells(row))
    console.print(table)
    for note in result.notes:
        console.print(f"note: {note}", highlight=False)
    console.print(f"written: {result.folder}/model.onnx, training.json, report.html", highlight=False, soft_wrap=True)


def cells(row: Epoch) -> tuple[str, ...]:
    """A row of the course."""
    score = "" if row.score is None else f"{row.score:.4f}"
    return f"{row.epoch:g}", f"{row.loss:.4f}", score, f"{row.learning_rate:.2e}", units.duration(row.seconds)


def _thinned(history: Sequence[Epoch]) -> list[Epoch]:
    """At most a screenful of rows, evenly spread, the last one always."""
    step = max(1, -(-len(history) // _ROWS))
    return list(history[::-1][::step][::-1])


def _tried_table(tried: Sequence[Tried]) -> Table:
    table = Table("score", *tried[0].settings)
    for row in tried:
        table.add_row("failed" if row.score is None else f"{row.score:.4f}", *map(_shown, row.settings.values()))
    return table


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def render_html(result: TrainResult) -> str:
    """The page."""
    return templates().get_template("training.html.j2").render(
        result=result, headline=headline(result), settings=settings(result), figures=curves(result),
        tried=[(row.score, {k: _shown(v) for k, v in row.settings.items()}) for row in result.tried],
        rows=[cells(row) for row in result.history], score_name=result.score_name or "score",
    )  # fmt: skip


def write_html(result: TrainResult) -> Path:
    """Writes ``report.html`` into the training's folder and returns its path.

    Raises:
        StorageError: it cannot be written.
    """
    return save(render_html(result), result.folder / "report.html")


def curves(result: TrainResult) -> list[Figure]:
    """Loss, score and learning rate over the epochs."""
    drawn: list[tuple[str, list[tuple[float, float]]]] = [
        ("training loss", [(row.epoch, row.loss) for row in result.history]),
        (f"held-out {result.score_name}", [(row.epoch, row.score) for row in result.history if row.score is not None]),
        ("learning rate", [(row.epoch, row.learning_rate) for row in result.history]),
    ]
    return [_curve(name, points) for name, points in drawn if len(points) > 1]


def _curve(name: str, points: list[tuple[float, float]]) -> Figure:
    def text(value: float) -> str:
        return f"{value:.3g}"

    x = Axis.around([p[0] for p in points], "epoch", text)
    y = Axis.around([p[1] for p in points], name, text)
    marks: list[Any] = [Mark(x=a, y=b, role="other", tip=f"epoch {text(a)}: {text(b)}") for a, b in points]
    svg = scatter(marks, x, y, (Line(points=tuple(points), role="front"),), title=f"{name} over the epochs", height=260.0)
    return Figure(caption=phrases.one_line(name), svg=svg)
