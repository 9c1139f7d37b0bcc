"""Shows a workload: totals, a table per operator type, one per operator where asked, and what could not be counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dovetail.core import units
from dovetail.core.serial import encode
from dovetail.core.workload import Op, Workload

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KindTotal:
    """Sums over the operators of one type; ``None`` where one of them is unknown."""

    kind: str
    count: int
    flop: float | None
    bytes: float | None
    params: int

    @property
    def intensity(self) -> float | None:
        """Arithmetic intensity in FLOP per byte."""
        return self.flop / self.bytes if self.flop is not None and self.bytes else None


def totals(workload: Workload) -> list[KindTotal]:
    """Sums per operator type, most operations first, unknown ones before those."""
    groups: dict[str, list[Op]] = {}
    for op in workload.ops:
        groups.setdefault(op.kind, []).append(op)
    rows = [
        KindTotal(
            kind=kind,
            count=len(ops),
            flop=_total(op.flop for op in ops),
            bytes=_total(op.bytes for op in ops),
            params=sum(op.params for op in ops),
        )
        for kind, ops in groups.items()
    ]
    return sorted(rows, key=lambda row: (row.flop is not None, -(row.flop or 0), -(row.bytes or 0)))


def _total(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else float(sum(value for value in known if value is not None))


def matrix_flop(workload: Workload) -> float:
    """Operations in convolutions and matrix products, the part that fast kernels exist for."""
    return sum(float((op.attributes or {}).get("matrix_flop", 0)) for op in workload.ops)


def render_terminal(workload: Workload, console: Console, *, per_op: bool) -> None:
    """Prints a workload.

    Args:
        workload: what to show.
        console: where to.
        per_op: list every operator too.
    """
    console.print(_summary(workload))
    console.print(_kind_table(workload))
    if per_op:
        console.print(_op_table(workload))
    for title, notes in (("Not counted", workload.uncounted), ("Assumed sizes", workload.assumed_dims)):
        if notes:
            console.print(f"[bold]{title}[/bold]")
            for name, note in notes.items():
                console.print(f"  {escape(name)}: {escape(str(note))}")


def _summary(workload: Workload) -> Table:
    unknown = " and more, see below" if workload.uncounted else ""
    products = units.count(matrix_flop(workload), "FLOP")
    grid = Table.grid(padding=(0, 2))
    shapes = ", ".join(f"{escape(name)} {_shape(shape)}" for name, shape in workload.input_shapes.items())
    rows = (
        ("inputs", shapes or "none"),
        ("operators", str(len(workload.ops))),
        (
            "operations",
            f"{units.count(workload.flop, 'FLOP')}{unknown}, of which {products} in convolutions and matrix products",
        ),
        ("parameters", f"{units.count(workload.params)}, {units.size(workload.weight_bytes)} of constants read"),
        ("peak activations", units.size(workload.peak_activation_bytes)),
        ("model", workload.model_hash),
    )
    for label, text in rows:
        grid.add_row(f"[bold]{label}[/bold]", text)
    return grid


def _kind_table(workload: Workload) -> Table:
    table = Table(title="By operator type", title_justify="left")
    table.add_column("operator")
    for column in ("count", "operations", "share", "bytes", "FLOP/byte", "parameters"):
        table.add_column(column, justify="right")
    for row in totals(workload):
        table.add_row(
            escape(row.kind),
            str(row.count),
            units.count(row.flop, "FLOP"),
            _share(row.flop, workload.flop),
            units.size(row.bytes),
            units.count(row.intensity) if row.bytes != 0 else "",
            units.count(row.params),
        )
    return table


def _op_table(workload: Workload) -> Table:
    table = Table(title="By operator", title_justify="left")
    for column in ("name", "operator", "output", "type"):
        table.add_column(column, overflow="fold")
    for column in ("operations", "bytes", "FLOP/byte", "parameters"):
        table.add_column(column, justify="right")
    for op in workload.ops:
        table.add_row(
            escape(op.name),
            escape(op.kind),
            _shape(op.output_shapes[0]) if op.output_shapes else "",
            op.dtype,
            units.count(op.flop, "FLOP"),
            units.size(op.bytes),
            units.count(op.intensity) if op.bytes != 0 else "",
            units.count(op.params),
        )
    return table


def _shape(shape: tuple[int, ...] | None) -> str:
    return "unknown" if shape is None else "×".join(map(str, shape)) or "scalar"


def _share(part: float | None, whole: float) -> str:
    return "unknown" if part is None else f"{part / whole:.1%}" if whole else "0.0%"


def to_json(workload: Workload) -> dict[str, Any]:
    """The whole workload as plain JSON: ``schema``, ``totals``, ``by_kind``, ``workload``; SI units, ``null`` for unknown."""
    return {
        "schema": SCHEMA_VERSION,
        "totals": {
            "flop": workload.flop,
            "matrix_flop": matrix_flop(workload),
            "complete": not workload.uncounted,
            "params": workload.params,
            "weight_bytes": workload.weight_bytes,
            "peak_activation_bytes": workload.peak_activation_bytes,
            "operators": len(workload.ops),
        },
        "by_kind": [{**encode(row), "intensity": row.intensity} for row in totals(workload)],
        "workload": encode(workload),
    }
