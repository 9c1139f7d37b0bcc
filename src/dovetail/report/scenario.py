"""Shows a scenario: the plain chain, the product beside what can be expected, what each factor brings, what was assumed."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dovetail.core import units
from dovetail.core.scenario import Composition, Parallel, StepTime
from dovetail.core.serial import encode

SCHEMA_VERSION = 1


def render_terminal(found: Composition, console: Console) -> None:
    """Prints a composition."""
    console.print(f"[bold]{escape(found.name)}[/bold]: estimates; nothing was run", highlight=False)
    console.print(_chain_table(found))
    console.print(_row_table(found))
    if found.contributions:
        console.print(_factor_table(found))
    for line in _lines(found):
        console.print(line, highlight=False)
    if found.assumptions:
        console.print(_assumption_table(found))


def _table(title: str, *columns: str, left: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right")
    return table


def _chain_table(found: Composition) -> Table:
    columns = ("factor", "what it scales", "rate of one machine", "machines", "memory of one", "power of all")
    table = _table("Plain chain: no losses, a ceiling", *columns, left=columns[:2])
    for step in found.chain:
        rate, memory = units.count(step.flop_per_s, "FLOP/s", 4), units.size(step.memory_bytes, 4)
        table.add_row(step.factor, step.does, rate, f"{step.machines:,}", memory, _power(step.power_w))
    return table


def _row_table(found: Composition) -> Table:
    columns = ("quantity", "product", "plain chain", "realistic", "if assumptions hold")
    table = _table("Multiplied, chained, and as it can be expected", *columns, left=(columns[0], columns[4]))
    for row in found.rows:
        real = row.realistic
        shown = [_shown(row.quantity, value) for value in (row.naive, row.plain, real.value, real.low, real.high)]
        interval = f"{shown[3]} to {shown[4]}" if real.low < real.high else "as given"
        table.add_row(row.label, *shown[:3], interval)
    return table


def _factor_table(found: Composition) -> Table:
    columns = ("factor", "product takes", "alone", "brings", "lost")
    table = _table("What each factor brings to the realistic speed-up", *columns, left=columns[:1])
    for part in found.contributions:
        table.add_row(part.factor, *(_ratio(value) for value in (part.naive, part.alone, part.delivered, part.lost)))
    return table


def _assumption_table(found: Composition) -> Table:
    columns = ("key", "taken", "range", "what it is")
    table = _table("Assumed, not stated and not measured; put the key into the file", *columns, left=(columns[0], columns[3]))
    for item in found.assumptions:
        table.add_row(item.key, f"{item.value:g}", f"{item.low:g} to {item.high:g}", item.meaning)
    return table


def _lines(found: Composition) -> list[str]:
    worst = found.loses_most
    lines = [_step(found.step)]
    if worst is not None:
        promised, brought = _ratio(worst.naive), _ratio(worst.delivered)
        lines.append(f"{worst.factor} loses most: the product takes {promised}, it brings {brought}.")
    if found.parallel is not None:
        lines += _parallel(found.parallel)
    return [*lines, *(f"note: {note}" for note in found.notes)]


def _step(step: StepTime) -> str:
    parts = [f"{units.time(step.compute_s)} computation"]
    for name, whole, exposed in (
        ("communication", step.communication_s, step.exposed_communication_s),
        ("input", step.input_s, step.exposed_input_s),
    ):
        if whole:
            parts.append(f"{units.time(exposed)} of {units.time(whole)} {name}")
    return f"A step takes {units.time(step.total_s)}: {', '.join(parts)}."


def _parallel(parallel: Parallel) -> list[str]:
    own = parallel.efficiency
    interval = f" ({own.low:.3g} to {own.high:.3g})" if own.low < own.high else ""
    return [
        f"Parallel efficiency, T_serial / (p · T_parallel): {own.value:.3g}{interval} with p = {parallel.workers:,}.",
        f"T_parallel / T_serial is {parallel.inverse:.3g}: that is no efficiency, it falls when the workers do better.",
        f"If the work grows with the workers (Gustafson 1988), without communication: {_ratio(parallel.scaled_speedup)}.",
    ]


def _shown(quantity: str, value: float) -> str:
    if quantity == "flop_per_s":
        return units.count(value, "FLOP/s")
    if quantity == "memory_bytes":
        return units.size(value)
    if quantity == "power_w":
        return _power(value)
    return _ratio(value)


def _ratio(value: float) -> str:
    return f"{value:,.0f}×" if value >= 100 else f"{value:.3g}×" if value < 0.1 else units.ratio(value)


def _power(watts: float) -> str:
    return f"{watts:,.4g} W" if watts < 1e4 else units.count(watts, "W", 4)


def to_json(found: Composition) -> dict[str, Any]:
    """The composition as plain JSON; SI units, ratios as numbers."""
    worst = found.loses_most
    parallel = None if found.parallel is None else {**encode(found.parallel), "inverse": found.parallel.inverse}
    return {
        "schema": SCHEMA_VERSION,
        **encode(found),
        "contributions": [{**encode(part), "lost": part.lost} for part in found.contributions],
        "step": {**encode(found.step), "total_s": found.step.total_s},
        "parallel": parallel,
        "loses_most": worst.factor if worst else None,
    }
