"""Errors of predictions as text, and as ``docs/accuracy.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from promises import percent, promises

from dovetail.core.files import write_whole

PAGE = Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"
HEAD = ("rows", "n", "median", "mean", "90 %", "coverage", "trivial models: median (mean)")


def lines(figures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Cells of one set's table: the fitted rows, then each split and part."""
    yield _line("fitted", figures["fitted"])
    for split, parts in figures["unseen"].items():
        for part, error in parts.items():
            yield _line(", ".join(filter(None, (split, part))), error)


def _line(label: str, error: Mapping[str, Any]) -> tuple[str, ...]:
    shares = [percent(error[key]) for key in ("median", "mean", "p90", "coverage")]
    trivial = error["baselines"].items()
    plain = "; ".join(f"{name} {percent(median)} ({percent(mean)})" for name, (median, mean) in trivial)
    return label, f"{error['n']:,}", *shares, plain


def text(name: str, figures: Mapping[str, Any]) -> str:
    """One set for the terminal."""
    body = [HEAD, *lines(figures)]
    widths = [max(len(line[i]) for line in body) for i in range(len(HEAD))]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in body]
    return "\n".join([f"== {name}", *rows, *(f"- {promise}" for promise in promises(figures))])


def write(rows: Sequence[Mapping[str, Any]]) -> None:
    """The page from the latest row of each set."""
    parts = [
        "# How far predictions lie from what was measured",
        "",
        "Written by `make validate`. Absolute relative errors. *Fitted*: on the rows that the parameters were fitted to.",
        "*Unseen*: each row predicted with parameters fitted without its model or device (five folds of whole groups).",
        "*Coverage*: share of rows inside their 90 % interval. Trivial models are fitted and judged on the same rows.",
        "Rows of which the product says nothing are left out.",
        *_missed(rows),
        *_CHOSEN,
    ]
    for row in rows:
        figures = row["figures"]
        table = ["| " + " | ".join(cells) + " |" for cells in (HEAD, ["---"] * len(HEAD), *lines(figures))]
        parts += ["", f"## {row['config']['model']}", "", f"{row['config']['source']}; {row['date'][:10]}.", "", *table, ""]
        parts += [f"- {promise}" for promise in promises(figures)]
    write_whole(PAGE, "\n".join(parts) + "\n")


def _missed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was promised and not kept, of all sets."""
    found = [f"- {row['config']['model']}: {item.text}" for row in rows for item in promises(row["figures"]) if not item.kept]
    return ["", "## Missed", "", *(found or ["Nothing."])]


_CHOSEN = (
    "",
    "## What the folds have seen",
    "",
    "Every parameter is fitted without the rows that are judged. Some choices were made once, with the errors on left-out rows",
    "in view, and are not made anew in each fold, so that these errors are a little too good:",
    "",
    "- gemm: the weight of the beliefs (0.1), number, depth and rate of the trees, the rule for the clock under a power limit;",
    "- vision: number, depth and rate of the trees, the factors on the errors behind intervals;",
    "- hailo, vitis_zoo, vitis_2_5: the precision of the priors and of the choice between the two ways to run, the kinds of",
    "  networks that are told apart. Depths and kinds of the zoos' networks come from their names, not from their files;",
    "- serving, trtllm, llamacpp, mlperf: the spreads of corrections and the noise. What is expected of shares and overheads",
    "  is from general knowledge.",
)
