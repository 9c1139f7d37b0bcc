"""Errors of predictions as text, and as ``docs/accuracy.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"
HEAD = ("rows", "n", "median", "mean", "90 %", "coverage", "trivial models: median (mean)")


def lines(figures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Cells of one set's table: the fitted rows, then each split and part."""
    yield _line("fitted", figures["fitted"])
    for split, parts in figures["unseen"].items():
        for part, error in parts.items():
            yield _line(", ".join(filter(None, (split, part))), error)


def _line(label: str, error: Mapping[str, Any]) -> tuple[str, ...]:
    shares = [_percent(error[key]) for key in ("median", "mean", "p90", "coverage")]
    trivial = error["baselines"].items()
    plain = "; ".join(f"{name} {_percent(median)} ({_percent(mean)})" for name, (median, mean) in trivial)
    return label, f"{error['n']:,}", *shares, plain


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def promises(figures: Mapping[str, Any]) -> Iterator[str]:
    """One sentence a gate and a rank correlation."""
    for gate in figures["gates"]:
        where = ", ".join(filter(None, (gate["split"], gate["part"])))
        found = "no rows" if gate["value"] is None else _percent(gate["value"])
        missed = "" if gate["kept"] else ": missed"
        yield f"{gate['statistic']} on {where}: {found}, wanted at most {_percent(gate['limit'])}{missed}"
    for split, parts in figures["unseen"].items():
        if parts[""].get("kendall"):
            tau, works = parts[""]["kendall"]
            yield f"ranking of devices, {split}: Kendall τ {tau:.2f} over {works} works"


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
    ]
    for row in rows:
        figures = row["figures"]
        table = ["| " + " | ".join(cells) + " |" for cells in (HEAD, ["---"] * len(HEAD), *lines(figures))]
        parts += ["", f"## {row['config']['model']}", "", f"{row['config']['source']}; {row['date'][:10]}.", "", *table, ""]
        parts += [f"- {promise}" for promise in promises(figures)]
    PAGE.write_text("\n".join(parts) + "\n", encoding="utf-8")
