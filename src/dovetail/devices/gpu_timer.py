"""Times work of a torch device: by events of CUDA's stream, else by the host's clock."""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

SAMPLE_S = 2e-3
"""Calls are timed together until a sample lasts so long: events resolve half a microsecond (CUDA runtime API reference)."""
MOST_CALLS = 2000
LEAST_SAMPLES = 5
PATIENCE = 4.0
"""Times what was asked for after which fewer samples will do: products in fp64 take seconds on parts made for games."""

Action = Callable[[], Any]


class Timer(ABC):
    """Times calls one after the other on one device."""

    @abstractmethod
    def sample_s(self, action: Action, calls: int) -> float:
        """Seconds that so many calls took on the device, waited for at the end."""

    @abstractmethod
    def wait(self) -> None:
        """Until all that was asked for is done."""

    def typical_s(self, action: Action, seconds: float) -> float:
        """Median seconds a call, over samples of several calls, for about so many seconds after as long a warm-up at most."""
        action()
        self.wait()
        calls = self._calls(action, seconds)
        found: list[float] = []
        start = time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds or len(found) < LEAST_SAMPLES:
            if found and spent > PATIENCE * seconds:
                break
            found.append(self.sample_s(action, calls) / calls)
        return statistics.median(found)

    def _calls(self, action: Action, seconds: float) -> int:
        """How many fill a sample; the trials warm up."""
        calls, end = 1, time.perf_counter() + seconds
        while calls < MOST_CALLS and time.perf_counter() < end:
            spent = self.sample_s(action, calls)
            if spent >= SAMPLE_S:
                break
            calls = min(MOST_CALLS, max(2 * calls, int(calls * SAMPLE_S / max(spent, 1e-7))))
        return calls


class HostTimer(Timer):
    """By the host's clock, for devices that are done when a call returns."""

    def sample_s(self, action: Action, calls: int) -> float:
        """See :meth:`Timer.sample_s`."""
        start = time.perf_counter()
        for _ in range(calls):
            action()
        return time.perf_counter() - start

    def wait(self) -> None:
        """Nothing is outstanding."""


class CudaTimer(Timer):
    """By events on the stream.

    Args:
        torch: the package.
        device: ``cuda:0``.
    """

    def __init__(self, torch: Any, device: str) -> None:
        self._torch, self._device = torch, device

    def sample_s(self, action: Action, calls: int) -> float:
        """See :meth:`Timer.sample_s`."""
        with self._torch.cuda.device(self._device):
            start, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(calls):
                action()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) * 1e-3

    def wait(self) -> None:
        """See :meth:`Timer.wait`."""
        self._torch.cuda.synchronize(self._device)


def timer(torch: Any, device: str) -> Timer:
    """The one for a device."""
    return CudaTimer(torch, device) if device.startswith("cuda") else HostTimer()
