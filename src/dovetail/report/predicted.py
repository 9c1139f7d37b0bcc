"""Shows predictions: every way to run a model here, one that is built, one on a device of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from dovetail.core import units
from dovetail.core.estimate import Estimate
from dovetail.core.prediction import Prediction
from dovetail.report.phrases import UNKNOWN

SCHEMA = 1
_SHOWN_KERNELS = 12


def to_json(kind: str, content: Any) -> dict[str, Any]:
    """A document with its schema version."""
    return {"schema": SCHEMA, "kind": kind, kind: content}


def render_settings(rows: Sequence[Any], console: Console) -> None:
    """Ways to run a model, the fastest first (:class:`dovetail.pipeline.predicting.Forecasted`)."""
    table = Table(title="predicted, nothing was run", title_justify="left", box=None, header_style="bold")
    for name in ("runtime", "form", "options", "latency", "interval", "samples/s"):
        table.add_column(name, justify="right" if name in ("latency", "samples/s") else "left")
    for row in rows:
        options = ", ".join(f"{key}={value}" for key, value in row.options.items())
        throughput = units.count(row.throughput_per_s.value)
        table.add_row(row.runtime, row.form, options, units.time(row.latency_s.value), _interval(row.latency_s), throughput)
    console.print(table)
    if rows:
        console.print(_basis(rows[0].latency_s), highlight=False)


def render_built(built: Any, console: Console) -> None:
    """A built model with its slowest kernels (:class:`dovetail.pipeline.predicting.BuiltForecast`)."""
    estimate: Estimate = built.estimate.latency_s
    value = f"{units.time(estimate.value)}, {_interval(estimate)}"
    console.print(f"{built.recipe}: {value}; predicted, not measured", highlight=False)
    pairs = sorted(zip(built.kernels, built.estimate.kernels_s, strict=True), key=lambda pair: -pair[1])
    table = Table(box=None, header_style="bold")
    for name in ("kernel", "kind", "implementation", "time", "share"):
        table.add_column(name, justify="right" if name in ("time", "share") else "left", overflow="ellipsis", no_wrap=True)
    for kernel, seconds in pairs[:_SHOWN_KERNELS]:
        share = f"{seconds / estimate.value:.0%}"
        table.add_row(kernel.name[-40:], kernel.kind, kernel.implementation or kernel.dtype, units.time(seconds), share)
    console.print(table)
    rest = len(pairs) - _SHOWN_KERNELS
    more = f"{rest} more kernels; " if rest > 0 else ""
    console.print(f"{more}the call beside its kernels: {units.time(built.estimate.overhead_s)}", highlight=False)
    console.print(_basis(estimate), highlight=False)


def render_device(found: Prediction, console: Console) -> None:
    """One model on one device."""
    table = Table(title=f"{found.device}, {found.precision or UNKNOWN}, batch {found.batch}", title_justify="left", box=None)
    table.add_column("what")
    table.add_column("predicted", justify="right")
    table.add_column("interval")
    rows = (
        ("latency", found.latency_s, units.time),
        ("samples/s", found.throughput_per_s, units.count),
        ("memory", found.memory_bytes, units.size),
        ("energy a sample", found.energy_j, _energy),
        ("cost of a million", found.cost_usd_per_million, _price),
    )
    for name, estimate, shown in rows:
        value = UNKNOWN if estimate is None else shown(estimate.value)
        interval = "" if estimate is None else f"{shown(estimate.low)} to {shown(estimate.high)} ({estimate.coverage:.0%})"
        table.add_row(name, value, interval)
    console.print(table)
    console.print(f"fits: {found.fits.value}; {found.fits_reason}", highlight=False)
    console.print(f"limited by: {found.binds.value if found.binds else UNKNOWN}", highlight=False)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False)


def _interval(estimate: Estimate) -> str:
    return f"{units.time(estimate.low)} to {units.time(estimate.high)} ({estimate.coverage:.0%})"


def _basis(estimate: Estimate) -> str:
    return f"from: {estimate.source.ref}, {estimate.source.date or 'undated'}"


def _energy(joules: float) -> str:
    return units.count(joules, "J") if joules >= 1 else f"{joules * 1e3:.3g} mJ" if joules >= 1e-3 else f"{joules * 1e6:.3g} µJ"


def _price(usd: float) -> str:
    return f"{usd:,.2f} USD" if usd >= 0.01 else f"{usd:.2g} USD"
