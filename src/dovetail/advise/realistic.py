"""The realistic chain: Amdahl per factor, communication, overlap, and the power of what waits.

A share counts the time on the plain machine. The shares are nested: the work that resists one factor resists the others too,
as input, control and small operators do. So a piece of the work is sped up by every factor whose share reaches it (Amdahl,
AFIPS 30 (1967) 483, for several factors at once). Were the shares disjoint, the step would be shorter: this is the careful end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dovetail.advise.scenario import Scenario
from dovetail.core.scenario import StepTime

Numbers = Mapping[str, float]
"""Key of :data:`dovetail.advise.scenario.ASSUMED` → the number taken, given or assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a step's computation, seconds, and the factors that speed it up."""

    time_s: float
    factors: frozenset[str]


def speedups(scenario: Scenario, numbers: Numbers) -> dict[str, float]:
    """What each factor does to the work it reaches. Compression helps as far as the hardware skips what was removed."""
    removed = 1 - scenario.keeps
    real = {
        "accelerator": scenario.accelerator,
        "heterogeneous": scenario.heterogeneous.speedup,
        "compression": 1 / (1 - removed * numbers.get("compression.skipped", 1.0)),
        "distributed": scenario.workers.speedup,
    }
    return {name: real[name] for name in scenario.naive}


def pieces(scenario: Scenario, numbers: Numbers, active: Collection[str]) -> tuple[Piece, ...]:
    """The computation of a step, cut where a share ends.

    Args:
        scenario: the scenario.
        numbers: shares of the factors.
        active: factors that are applied.
    """
    real = speedups(scenario, numbers)
    share = {name: numbers[f"{name}.share"] for name in real if name in active}
    edges = sorted({0.0, 1.0, *share.values()})
    found = []
    for low, high in zip(edges, edges[1:], strict=False):
        factors = frozenset(name for name in share if share[name] >= high)
        time_s = scenario.serial_s * (high - low)
        for name in factors:
            time_s /= real[name]
        found.append(Piece(time_s=time_s, factors=factors))
    return tuple(found)


def ring_all_reduce_s(n: int, n_bytes: float, bytes_per_s: float, latency_s: float) -> float:
    """Time of a ring all-reduce: 2(n-1) messages, each of one n-th of the bytes (Patarasuk & Yuan, JPDC 69 (2009) 117).

    Args:
        n: workers; one has nothing to exchange.
        n_bytes: that every worker holds.
        bytes_per_s: of a link, one direction.
        latency_s: of a message.
    """
    return 2 * (n - 1) * (n_bytes / n / bytes_per_s + latency_s)


def step_time(scenario: Scenario, numbers: Numbers, active: Collection[str]) -> StepTime:
    """A step with some of the factors.

    Overlap is the share of the shorter of two that runs behind the longer: at 1 the step is as long as its longest part, at 0
    as long as all of them together.
    """
    compute_s = sum(piece.time_s for piece in pieces(scenario, numbers, active))
    communication_s = _communication_s(scenario, numbers, active, compute_s)
    hidden_s = numbers.get("communication.overlap", 0.0) * min(compute_s, communication_s)
    so_far_s = compute_s + communication_s - hidden_s
    input_s = _input_s(scenario, active)
    return StepTime(
        compute_s=compute_s,
        communication_s=communication_s,
        exposed_communication_s=communication_s - hidden_s,
        input_s=input_s,
        exposed_input_s=input_s - numbers.get("input.overlap", 0.0) * min(so_far_s, input_s),
    )


def _communication_s(scenario: Scenario, numbers: Numbers, active: Collection[str], compute_s: float) -> float:
    if "distributed" not in active or scenario.n == 1:
        return 0.0
    if scenario.exchange is None:
        return numbers["communication.share"] * compute_s
    n_bytes = scenario.exchange.bytes_per_step * (scenario.keeps if "compression" in active else 1.0)
    latency_s = numbers["communication.latency_us"] * 1e-6
    return ring_all_reduce_s(scenario.n, n_bytes, scenario.exchange.bytes_per_s, latency_s)


def _input_s(scenario: Scenario, active: Collection[str]) -> float:
    if scenario.reading is None:
        return 0.0
    apart = scenario.n if "distributed" in active and not scenario.shared_input else 1
    return scenario.reading.bytes_per_step / scenario.reading.bytes_per_s / apart


def energy_j(scenario: Scenario, numbers: Numbers, active: Collection[str]) -> float:
    """Energy of a step: every part draws idle power all the time, and the rest of its power while it is busy.

    The machine itself waits while its accelerator works; helpers wait where the work is not divided; workers wait for the part
    that one of them does alone, for slower ones, and for what communication and input do not hide.
    """
    power_w = _powers_w(scenario, numbers, active)
    idle = numbers["machine.idle_share"]
    n = scenario.n if "distributed" in active else 1
    total = n * sum(power_w.values()) * idle * step_time(scenario, numbers, active).total_s
    for piece in pieces(scenario, numbers, active):
        working = scenario.workers.busy if "distributed" in piece.factors else 1.0
        main = "accelerator" if "accelerator" in piece.factors else "machine"
        busy_w = power_w[main] + (power_w["heterogeneous"] if "heterogeneous" in piece.factors else 0.0)
        total += working * busy_w * (1 - idle) * piece.time_s
    return total


def _powers_w(scenario: Scenario, numbers: Numbers, active: Collection[str]) -> dict[str, float]:
    """Busy power of each part of one worker, watts; the divisor counts only when there are factors at all."""
    added = {
        name: numbers[f"{name}.power_share"] if name in active and name in scenario.naive else 0.0
        for name in ("accelerator", "heterogeneous")
    }
    saved = numbers.get("energy.share", 0.0) * (1 - 1 / scenario.power_divisor) if "energy" in active else 0.0
    return {name: scenario.power_w * share * (1 - saved) for name, share in {"machine": 1.0, **added}.items()}


def memory_bytes(scenario: Scenario, numbers: Numbers) -> float:
    """Memory that one worker needs; it holds a copy, or its part where the memory is sharded."""
    compressed = 1 - numbers.get("compression.memory_share", 0.0) * (1 - scenario.keeps)
    divided = 1 - numbers.get("memory.share", 0.0) * (1 - 1 / scenario.memory_divisor)
    return scenario.memory_bytes * compressed * divided / (scenario.n if scenario.sharded else 1)
