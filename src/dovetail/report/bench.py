"""Renders a bench: one row a run, the baseline first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dovetail.core import units
from dovetail.core.certificate import Certificate, Verdict
from dovetail.core.energy import MeasuredEnergy
from dovetail.core.measurement import Environment, Interval, Measurement
from dovetail.core.outcome import Infeasible
from dovetail.core.serial import encode
from dovetail.report.phrases import energy_words

SCHEMA = 1
_WORDS = {Verdict.CERTIFIED: "faster", Verdict.REFUTED: "slower", Verdict.NOT_DISTINGUISHABLE: "not distinguishable"}


class TimedRun(Protocol):
    """One run as the bench found it."""

    @property
    def label(self) -> str:
        """As the user wrote it."""
        ...

    @property
    def measurement(self) -> Measurement | None:
        """Its latency; ``None`` when it did not run."""
        ...

    @property
    def speedup(self) -> Interval | None:
        """The first run's time over its own."""
        ...

    @property
    def certificate(self) -> Certificate | None:
        """The claim of speed."""
        ...

    @property
    def infeasible(self) -> Infeasible | None:
        """Why it did not run."""
        ...

    @property
    def energy(self) -> MeasuredEnergy | None:
        """Of one sample, where a meter could be read."""
        ...


class Bench(Protocol):
    """All runs, the baseline first."""

    @property
    def runs(self) -> Sequence[TimedRun]:
        """The baseline first."""
        ...

    @property
    def environment(self) -> Environment:
        """The machine."""
        ...

    @property
    def rounds(self) -> int:
        """Fresh processes a run."""
        ...

    @property
    def energy_note(self) -> str:
        """How energy was measured, or why it is not known."""
        ...


def render_terminal(result: Bench, console: Console) -> None:
    """A table of latencies and of ratios to the first run."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "median", "p95", "ratio to the first", "", "memory"):
        table.add_column(name, justify="left" if name in ("run", "") else "right")
    for run in result.runs:
        table.add_row(*(Text(cell) for cell in _cells(run)))
    console.print(table)
    machine = f"{result.environment.cpu}, {result.environment.cores} cores"
    console.print(Text(f"{result.rounds} fresh processes a run, interleaved blocks; {machine}", "dim"))
    for run in result.runs:
        if run.energy is not None:
            console.print(Text(f"{run.label}: {energy_words(run.energy)}"))
    console.print(Text(f"energy: {result.energy_note}", "dim"))


def _cells(run: TimedRun) -> tuple[str, ...]:
    if run.measurement is None:
        reason = run.infeasible.reason if run.infeasible else "not measured"
        return run.label, "", "", "", f"cannot run: {reason}", ""
    found = run.measurement
    ratio = "1" if run.speedup is None else units.ratio(run.speedup.point)
    verdict = "baseline"
    if run.speedup is not None:
        word = _WORDS.get(run.certificate.verdict, "too few processes for a claim") if run.certificate else ""
        verdict = f"{run.speedup.low:.2f} to {run.speedup.high:.2f}, {word}"
    p95 = units.time(found.quantiles_s.get("0.95"))
    return run.label, units.time(found.latency_s), p95, ratio, verdict, units.size(found.peak_memory_bytes)


def to_json(result: Bench) -> dict[str, Any]:
    """The bench as plain JSON: ``schema``, ``environment``, ``rounds``, ``runs``."""
    return {
        "schema": SCHEMA,
        "kind": "bench",
        "rounds": result.rounds,
        "environment": encode(result.environment),
        "energy_note": result.energy_note,
        "runs": [
            {
                "label": run.label,
                "measurement": encode(run.measurement),
                "speedup": encode(run.speedup),
                "certificate": encode(run.certificate),
                "infeasible": encode(run.infeasible),
                "energy": encode(run.energy),
            }
            for run in result.runs
        ],
    }
