"""What was measured, on what, and in which surroundings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The surroundings of a measurement, as far as they can change its result.

    Attributes:
        fingerprint: short hash of processor, instruction sets, cores and memory.
        cpu: the processor's own name.
        cores: cores this process may use (affinity and cgroup limits counted in).
        isa: instruction-set flags that decide kernels, e.g. ``avx512_vnni``.
        memory_bytes: memory this process may use.
        os: kernel and distribution.
        versions: library name → version.
    """

    fingerprint: str
    cpu: str
    cores: int
    isa: tuple[str, ...]
    memory_bytes: float
    os: str
    python: str
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A point estimate with a confidence interval at level ``confidence``; plain ratio or the unit of its holder.

    An end that is NaN is unknown: what is infinite here is ``null`` in a file, and NaN when it is read again.
    """

    point: float
    low: float
    high: float
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.low > self.point or self.point > self.high:
            raise ValueError(f"an interval holds its point: {self.low} <= {self.point} <= {self.high} does not hold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Latency of one candidate: the raw material of claims.

    Attributes:
        block_medians_s: median seconds per call of each block, grouped by process: ``[process][block]``.
        calls: number of timed calls in all.
        quantiles_s: quantile (``"0.5"``) → seconds per call over all calls, only those that the sample size supports.
        batch: samples per call.
        peak_memory_bytes: resident peak of the process, ``None`` when it was not read.
        load_s: seconds from process start to the first answer.
        notes: what disturbed the run (steal time, drift), empty when nothing did.
    """

    block_medians_s: tuple[tuple[float, ...], ...]
    calls: int
    quantiles_s: Mapping[str, float]
    batch: int = 1
    peak_memory_bytes: float | None = None
    load_s: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def latency_s(self) -> float:
        """Median over processes of the median block."""
        per_process = sorted(sorted(p)[len(p) // 2] for p in self.block_medians_s if p)
        if not per_process:
            return math.nan
        return per_process[len(per_process) // 2]

    @property
    def throughput_per_s(self) -> float:
        """Samples per second at the median latency."""
        return self.batch / self.latency_s
