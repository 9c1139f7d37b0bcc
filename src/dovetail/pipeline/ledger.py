"""What the search costs: seconds and counts per stage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from dovetail.core.outcome import LedgerRow


class Ledger:
    """Adds up the time of stages; a stage may be entered many times."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._seconds: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    @contextlib.contextmanager
    def stage(self, name: str, count: int = 1) -> Iterator[None]:
        """Counts the time spent inside towards a stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - started
            self._counts[name] = self._counts.get(name, 0) + count

    def add(self, name: str, seconds: float) -> None:
        """Notes time that passed elsewhere, where it is worth a row."""
        if seconds > 1:
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds
            self._counts[name] = self._counts.get(name, 0) + 1

    def set_count(self, name: str, count: int) -> None:
        """Notes a count that has no time of its own."""
        self._seconds.setdefault(name, 0.0)
        self._counts[name] = count

    @property
    def elapsed_s(self) -> float:
        """Seconds since the ledger was opened."""
        return time.monotonic() - self.started

    def rows(self) -> tuple[LedgerRow, ...]:
        """One row a stage, in the order of first use."""
        return tuple(LedgerRow(stage=s, seconds=self._seconds[s], count=self._counts[s]) for s in self._seconds)
