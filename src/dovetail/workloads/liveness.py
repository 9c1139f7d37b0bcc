"""The greatest memory that activations need at once, if each is freed after its last reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

VIEWS = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"})
"""Operators whose first output is their first input under another shape; runtimes share the buffer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node for the purpose of memory.

    Attributes:
        kind: operator type.
        reads: activations read, those captured by nested graphs included.
        writes: activations written, with their bytes; ``None`` when unknown.
        inner_bytes: peak inside its nested graphs; ``None`` when unknown.
    """

    kind: str
    reads: tuple[str, ...]
    writes: tuple[tuple[str, int | None], ...]
    inner_bytes: int | None = 0


def peak_bytes(steps: Sequence[Step], inputs: Iterable[tuple[str, int | None]], outputs: Iterable[str]) -> int | None:
    """Greatest sum of live activations over all steps; ``None`` when the size of any is unknown.

    Inputs live from the start to their last reader, outputs from their writer to the end. Views share the buffer of what they
    view; no other operator is assumed to work in place. Constants are not activations.
    """
    size = dict(inputs)
    buffer = {name: name for name in size}
    last_use = {name: -1 for name in size}
    for index, step in enumerate(steps):
        for name in step.reads:
            if name in buffer:
                last_use[buffer[name]] = index
        for position, (name, n_bytes) in enumerate(step.writes):
            viewed = step.reads[0] if step.kind in VIEWS and position == 0 and step.reads else None
            buffer[name] = buffer[viewed] if viewed in buffer else name
            size.setdefault(buffer[name], n_bytes)
            last_use[buffer[name]] = max(index, last_use.get(buffer[name], index))
    last_use.update({buffer[name]: len(steps) for name in outputs if name in buffer})
    if any(n_bytes is None for n_bytes in size.values()) or any(step.inner_bytes is None for step in steps):
        return None
    return _sweep(steps, {name: n_bytes or 0 for name, n_bytes in size.items()}, last_use, set(dict(inputs)))


def _sweep(steps: Sequence[Step], size: dict[str, int], last_use: dict[str, int], live: set[str]) -> int:
    ends: dict[int, list[str]] = {}
    for name, index in last_use.items():
        ends.setdefault(index, []).append(name)
    current = peak = sum(size[name] for name in live)
    for index, step in enumerate(steps):
        for name, _ in step.writes:
            if name in size and name not in live:
                live.add(name)
                current += size[name]
        peak = max(peak, current + (step.inner_bytes or 0))
        for name in ends.get(index, ()):
            live.discard(name)
            current -= size[name]
    return peak
