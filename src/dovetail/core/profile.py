"""Where the time of one call goes, operator by operator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel that a runtime executes in a call.

    Attributes:
        name: the runtime's name of the node.
        kind: the runtime's operator type (``Conv``, ``QLinearConv``, ``Reorder``).
        implementation: what the runtime calls the kernel (``jit_avx512_core_f32``), empty when it does not say.
        dtype: numeric type it computed in, empty when unknown.
        sources: names of the model's operators that were fused into it.
        constant: it reads nothing but constants, and yet runs at every call.
        inputs: shapes of its operands, constants among them, in the runtime's order; empty when unknown.
        outputs: shapes of its results.
    """

    name: str
    kind: str
    implementation: str = ""
    dtype: str = ""
    sources: tuple[str, ...] = ()
    constant: bool = False
    inputs: tuple[tuple[int, ...], ...] = ()
    outputs: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTime(Kernel):
    """A kernel and how long it took.

    Attributes:
        time_s: seconds per call.
    """

    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Kernel times of one session, with the time of a whole unprofiled call beside them.

    Attributes:
        runtime: registry name of the runtime.
        call_s: median seconds of a whole call without profiling.
        kernels: in execution order.
        threads: threads the session computed with.
    """

    runtime: str
    call_s: float
    kernels: tuple[KernelTime, ...]
    threads: int

    @property
    def kernel_s(self) -> float:
        """Sum over kernels, in seconds per call."""
        return sum(k.time_s for k in self.kernels)

    @property
    def overhead_s(self) -> float:
        """What a call costs beside its kernels; never below zero."""
        return max(0.0, self.call_s - self.kernel_s)

    def by_kind(self) -> dict[str, tuple[int, float]]:
        """Kernel kind → (count, seconds), slowest first."""
        totals: dict[str, tuple[int, float]] = {}
        for kernel in self.kernels:
            n, t = totals.get(kernel.kind, (0, 0.0))
            totals[kernel.kind] = (n + 1, t + kernel.time_s)
        return dict(sorted(totals.items(), key=lambda item: -item[1][1]))


def total_s(kernels: Iterable[KernelTime]) -> float:
    """Seconds per call of some kernels together."""
    return sum(k.time_s for k in kernels)
