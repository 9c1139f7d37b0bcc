"""Turns readings over time into energy: counters that begin anew, power that is sampled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Counter:
    """Sums the steps of a counter that goes back to zero at its end.

    Args:
        wraps_at: where it does so, in its own unit; ``None`` when not known.

    Attributes:
        total: of the steps; NaN once it went back and nobody knows from where.
    """

    def __init__(self, wraps_at: float | None) -> None:
        self.total = 0.0
        self._wraps_at = wraps_at
        self._last: float | None = None

    def add(self, value: float) -> None:
        """Takes a reading. It must come at least once a turn: a whole turn more cannot be seen."""
        if self._last is not None:
            step = value - self._last
            if step < 0:
                step += float("nan") if self._wraps_at is None else self._wraps_at
            self.total += step
        self._last = value


class Integral:
    """Integrates power over time by the trapezoid rule.

    Attributes:
        total: joules so far.
        samples: readings so far.
    """

    def __init__(self) -> None:
        self.total = 0.0
        self.samples = 0
        self._last: tuple[float, float] | None = None

    def add(self, at_s: float, power_w: float) -> None:
        """Takes a reading; ``at_s`` on any clock that does not go back."""
        if self._last is not None:
            before_s, before_w = self._last
            self.total += (at_s - before_s) * (before_w + power_w) / 2
        self._last = (at_s, power_w)
        self.samples += 1


class Sampler:
    """Calls a function over and over in a thread of its own: at once, every period, and when it is stopped.

    Args:
        action: must not raise.
        period_s: between calls.
    """

    def __init__(self, action: Callable[[], None], period_s: float) -> None:
        self._action, self._period_s = action, period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begins; the first call is made before this returns."""
        self._action()
        self._thread.start()

    def stop(self) -> None:
        """Ends; the last call is made before this returns."""
        self._stop.set()
        self._thread.join()
        self._action()

    def _run(self) -> None:
        due = time.monotonic() + self._period_s
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._action()
            due = max(due, time.monotonic()) + self._period_s


class PowerLog:
    """Power over time, as a function tells it; what it cannot tell is left out.

    Args:
        read: watts now, or ``None``.
        period_s: between readings.
    """

    def __init__(self, read: Callable[[], float | None], period_s: float = 0.1) -> None:
        self._read = read
        self.samples: list[tuple[float, float]] = []
        self._sampler = Sampler(self._sample, period_s)

    def _sample(self) -> None:
        power_w = self._read()
        if power_w is not None:
            self.samples.append((time.monotonic(), power_w))

    def __enter__(self) -> PowerLog:
        self._sampler.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._sampler.stop()

    def last(self, seconds: float) -> float | None:
        """Mean over the last seconds of the log, in watts; ``None`` without a reading in them."""
        if not self.samples:
            return None
        end = self.samples[-1][0]
        kept = [power_w for at_s, power_w in self.samples if at_s >= end - seconds]
        return sum(kept) / len(kept)
