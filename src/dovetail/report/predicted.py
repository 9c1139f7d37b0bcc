"""Shows predictions: every way to run a model here, one that is built, one on a device of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dovetail.core import units
from dovetail.core.estimate import Estimate
from dovetail.core.prediction import Prediction
from dovetail.core.recipe import Scalar
from dovetail.report import columns as fit
from dovetail.report.phrases import UNKNOWN, one_line

SCHEMA = 1
_SHOWN_KERNELS = 12
_LONGEST_NAME = 40


def to_json(kind: str, content: Any) -> dict[str, Any]:
    """A document with its schema version."""
    return {"schema": SCHEMA, "kind": kind, kind: content}


def render_settings(rows: Sequence[Any], console: Console) -> None:
    """Ways to run a model, the fastest first (:class:`dovetail.pipeline.predicting.Forecasted`)."""
    cells = {
        "runtime": [row.runtime for row in rows],
        "form": [row.form for row in rows],
        "options": [_options(row.options) for row in rows],
        "latency": [units.time(row.latency_s.value) for row in rows],
        "interval": [_interval(row.latency_s) for row in rows],
        "samples/s": [units.count(row.throughput_per_s.value) for row in rows],
    }
    console.print("predicted, nothing was run", style="italic")
    _print_table(cells, ("latency", "samples/s"), ("samples/s", "form"), console)
    if rows:
        console.print(f"interval: {_sure(rows[0].latency_s)}; {_basis(rows[0].latency_s)}", highlight=False, markup=False)
    for line in dict.fromkeys(_needed(row.needs) for row in rows if row.needs is not None):
        console.print(line, highlight=False, markup=False)
    for note in dict.fromkeys(note for row in rows for note in (*row.notes, *(row.needs.notes if row.needs else ()))):
        console.print(f"note: {note}", highlight=False, markup=False)


def _needed(found: Prediction) -> str:
    """What a model takes of this machine, and what limits it there."""
    limit = f"; limited by {found.binds.value}" if found.binds else ""
    return f"{found.precision or UNKNOWN}: fits: {found.fits.value}; {found.fits_reason}{limit}"


def _print_table(cells: Mapping[str, Sequence[str]], right: Sequence[str], missed: Sequence[str], console: Console) -> None:
    """Columns by name, as many as fit."""
    shown = fit.fitting({name: fit.width([name, *found]) for name, found in cells.items()}, missed, console.width)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in shown:
        table.add_column(name, justify="right" if name in right else "left", overflow="ellipsis", no_wrap=True)
    for row in zip(*(cells[name] for name in shown), strict=True):
        table.add_row(*(Text(one_line(cell), overflow="ellipsis") for cell in row))
    console.print(table)


def _options(options: Mapping[str, Scalar]) -> str:
    """``2 threads, bf16``."""
    threads = options.get("threads")
    said = [] if threads is None else [f"{threads} thread{'' if threads == 1 else 's'}"]
    said += [str(value) if key == "precision" else f"{key}={value}" for key, value in options.items() if key != "threads"]
    return ", ".join(said)


def render_built(built: Any, console: Console) -> None:
    """A built model with its slowest kernels (:class:`dovetail.pipeline.predicting.BuiltForecast`)."""
    estimate: Estimate = built.estimate.latency_s
    value = f"{units.time(estimate.value)}, {_interval(estimate)} ({_sure(estimate)})"
    console.print(f"{built.recipe}: {value}; predicted, not measured", highlight=False, markup=False)
    pairs = sorted(zip(built.kernels, built.estimate.kernels_s, strict=True), key=lambda pair: -pair[1])
    shown = pairs[:_SHOWN_KERNELS]
    cells = {
        "kernel": [kernel.name[-_LONGEST_NAME:] for kernel, _ in shown],
        "kind": [kernel.kind for kernel, _ in shown],
        "implementation": [kernel.implementation or kernel.dtype for kernel, _ in shown],
        "time": [units.time(seconds) for _, seconds in shown],
        "share": [f"{seconds / estimate.value:.0%}" for _, seconds in shown],
    }
    _print_table(cells, ("time", "share"), ("implementation", "kind"), console)
    rest = len(pairs) - len(shown)
    more = f"{rest} more kernels; " if rest > 0 else ""
    console.print(f"{more}the call beside its kernels: {units.time(built.estimate.overhead_s)}", highlight=False, markup=False)
    console.print(_basis(estimate), highlight=False, markup=False)
    for note in built.notes:
        console.print(f"note: {note}", highlight=False, markup=False)


def render_device(found: Prediction, console: Console) -> None:
    """One model on one device."""
    rows = (
        ("latency", found.latency_s, units.time),
        ("samples/s", found.throughput_per_s, units.count),
        ("memory", found.memory_bytes, units.size),
        ("energy a sample", found.energy_j, units.energy),
        ("cost of a million", found.cost_usd_per_million, _price),
    )
    cells = {
        "what": [name for name, _, _ in rows],
        "predicted": [UNKNOWN if each is None else shown(each.value) for _, each, shown in rows],
        "interval": [
            "" if each is None else f"{shown(each.low)} to {shown(each.high)} ({_sure(each)})" for _, each, shown in rows
        ],
    }
    title = f"{found.device}, {found.precision or UNKNOWN}, batch {found.batch}"
    console.print(title, style="italic", highlight=False, markup=False)
    _print_table(cells, ("predicted",), (), console)
    told = found.latency_s or found.throughput_per_s
    if told is not None:
        console.print(f"told by: {found.model} ({told.source.ref})", highlight=False, markup=False)
    console.print(f"fits: {found.fits.value}; {found.fits_reason}", highlight=False, markup=False)
    console.print(f"limited by: {found.binds.value if found.binds else UNKNOWN}", highlight=False, markup=False)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False)


def _interval(estimate: Estimate) -> str:
    return f"{units.time(estimate.low)} to {units.time(estimate.high)}"


def _basis(estimate: Estimate) -> str:
    return f"from: {estimate.source.ref}, {estimate.source.date or 'undated'}"


def _price(usd: float) -> str:
    return f"{usd:,.2f} USD" if usd >= 0.01 else f"{usd:.2g} USD"


def _sure(estimate: Estimate) -> str:
    """``90%``, or that the range is assumed."""
    return "assumed" if estimate.coverage is None else f"{estimate.coverage:.0%}"
