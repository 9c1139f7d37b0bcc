"""The order of execution for a set of results: steps over numbered slots, each freed after its last use."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dovetail.core.errors import DataError, ModelError
from dovetail.train.ops.node import Kernel
from dovetail.train.steps import Step, joined

_FAULTS = (RuntimeError, ValueError, IndexError, TypeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A step over slots; slot 0 is always empty.

    Attributes:
        writes: where the result goes; a number for a single one.
        frees: slots that nobody reads afterwards.
    """

    kernel: Kernel
    reads: tuple[int, ...]
    writes: int | tuple[int, ...]
    frees: tuple[int, ...]
    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Attributes are slots by name of what is fed or stored, the calls, and the slots of the results."""

    size: int
    sources: tuple[tuple[str, int], ...]
    calls: tuple[Call, ...]
    results: tuple[int, ...]


def plan(steps: Sequence[Step], results: Sequence[str]) -> Plan:
    """Leaves out what no result needs; ``results`` may be made by steps, fed or stored."""
    live = joined(_needed(steps, set(results)), set(results))
    slots = {"": 0}
    made = {name for step in live for name in step.writes if name}
    for name in (*(name for step in live for name in (*step.reads, *step.writes)), *results):
        slots.setdefault(name, len(slots))
    last: dict[str, int] = {}
    for index, step in enumerate(live):
        last.update(dict.fromkeys((*step.reads, *step.writes), index))
    free: dict[int, list[int]] = {}
    for name, index in last.items():
        if name and name not in results:
            free.setdefault(index, []).append(slots[name])
    calls = tuple(_call(step, slots, tuple(free.get(index, ()))) for index, step in enumerate(live))
    sources = tuple((name, slot) for name, slot in slots.items() if name and name not in made)
    return Plan(size=len(slots), sources=sources, calls=calls, results=tuple(slots[name] for name in results))


def _needed(steps: Sequence[Step], wanted: Collection[str]) -> list[Step]:
    needed = set(wanted)
    kept = []
    for step in reversed(steps):
        if needed & {name for name in step.writes if name}:
            needed |= {name for name in step.reads if name}
            kept.append(step)
    return kept[::-1]


def _call(step: Step, slots: dict[str, int], frees: tuple[int, ...]) -> Call:
    writes = tuple(slots[name] for name in step.writes)
    return Call(
        kernel=step.kernel,
        reads=tuple(slots[name] for name in step.reads),
        writes=writes[0] if len(writes) == 1 else writes,
        frees=frees,
        step=step,
    )


def execute(found: Plan, values: list[Any]) -> None:
    """Makes the calls over slots that hold the sources; afterwards only results are left in them.

    Raises:
        ModelError: an operator cannot take these shapes.
    """
    call, inputs = None, []
    try:
        for call in found.calls:
            inputs = [values[slot] for slot in call.reads]
            result = call.kernel(*inputs)
            if isinstance(call.writes, int):
                values[call.writes] = result
            else:
                for slot, part in zip(call.writes, result, strict=False):
                    values[slot] = part
                values[0] = None
            for slot in call.frees:
                values[slot] = None
            inputs = result = part = None  # type: ignore[assignment]  # they would keep tensors alive
    except _FAULTS as exc:
        if call is None or isinstance(exc, ModelError | DataError):
            raise
        raise _explained(call.step, exc, inputs or []) from exc


def _explained(step: Step, exc: Exception, inputs: Sequence[Tensor | None]) -> ModelError:
    """The error for a call that failed."""
    shapes = ", ".join("none" if value is None else str(list(value.shape)) for value in inputs)
    return ModelError(f"{step.view.kind} on shapes {shapes} fails: {first_line(exc)}", where=step.view.name or None)


def first_line(exc: Exception) -> str:
    """What went wrong, in short."""
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:300]
