"""Prints rows of ``peers.jsonl`` and says whether the promise holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import rows
from rich.console import Console
from rich.table import Table

from dovetail.core import units

NEVER_SLOWER, SMALL_S, NEVER_SLOWER_SMALL = 0.97, 0.2e-3, 0.94
"""Least ratio to the best peer; under ``SMALL_S`` a call the lower bound may be ``NEVER_SLOWER_SMALL``."""
MEAN = 1.05
"""Least geometric mean of the ratios."""


def show(found: Sequence[rows.Row]) -> bool:
    """Prints all tables; true when no model is slower than its best peer and the mean is as promised."""
    console = Console(width=180)
    for row in found:
        console.print(_peers(row))
    console.print(_summary(found))
    ratios = [row["figures"]["ratio"]["point"] for row in found if "ratio" in row["figures"]]
    mean = rows.geometric_mean(ratios)
    kept = len(ratios) == len(found) and all(keeps(row["figures"]) for row in found) and mean >= MEAN
    console.print(f"geometric mean of {len(ratios)} ratios: {units.ratio(mean, 3)} (promised: {MEAN:.2f}×)")
    console.print("the promise holds" if kept else "the promise does not hold")
    return kept


def keeps(figures: dict[str, Any]) -> bool:
    """Whether one model is not slower than its best peer."""
    ratio = figures.get("ratio")
    if ratio is None:
        return False
    least = NEVER_SLOWER_SMALL if figures["ours_s"] < SMALL_S else NEVER_SLOWER
    return bool(ratio["point"] >= NEVER_SLOWER and ratio["low"] >= least)


def _summary(found: Sequence[rows.Row]) -> Table:
    table = Table(title="Dovetail against the best peer (ratio above 1: Dovetail is faster)", title_justify="left")
    for column in ("model", "verdict", "quality", "size", "ours", "best peer", "its time", "ratio", "95 % interval", "kept"):
        table.add_column(column)
    for row in found:
        figures, ours = row["figures"], row["figures"]["ours"]
        sizes = f"{units.size(figures['original']['size_bytes'])} → {units.size(ours['size_bytes'])}"
        timed = ["-"] * 5
        if "ratio" in figures:
            ratio = figures["ratio"]
            bounds = f"{ratio['low']:.3f} to {ratio['high']:.3f}"
            kept = "yes" if keeps(figures) else "no"
            timed = [figures["best_peer"], units.time(figures["best_s"]), units.ratio(ratio["point"], 3), bounds, kept]
        own = units.time(figures.get("ours_s", ours["latency_s"]))
        table.add_row(row["config"]["model"], _verdict(row), _change(figures["original"], ours), sizes, own, *timed)
    return table


def _verdict(row: rows.Row) -> str:
    return f"{row['figures']['status']}, n = {row['config']['units'].get('certification', 0):,}"


def _change(original: dict[str, Any], side: dict[str, Any]) -> str:
    return f"{original['value']:.5g} → {side['judged']['value']:.5g}" if side["judged"] else "-"


def _peers(row: rows.Row) -> Table:
    figures, config = row["figures"], row["config"]
    table = Table(title=f"{config['model']}: {config['metric']}, limit {config['max_drop']}", title_justify="left")
    for column in ("peer", "time", "quality", "verdict", "size", "made in", "remarks"):
        table.add_column(column)
    for name, side in {"dovetail": figures["ours"], **figures["peers"]}.items():
        judged = side["judged"]
        made = "" if side["build_s"] is None else units.duration(side["build_s"])
        table.add_row(
            name,
            "-" if side["latency_s"] is None else units.time(side["latency_s"]),
            f"{judged['value']:.5g}" if judged else "-",
            ("keeps it, " if judged["passes"] else "loses too much, ") + judged["verdict"].replace("_", " ") if judged else "-",
            units.size(side["size_bytes"]),
            made,
            side["failure"] or side["note"],
        )
    return table
