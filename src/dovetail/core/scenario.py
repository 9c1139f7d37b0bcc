"""What became of a scenario of acceleration factors: multiplied, chained, and as it can be expected."""

from __future__ import annotations

from dataclasses import dataclass

from dovetail.core.estimate import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainStep:
    """State after one factor of the plain chain.

    Attributes:
        factor: name of the factor; ``machine`` for the start.
        does: what was multiplied or divided, in words.
        flop_per_s: of one machine, in FLOP of the work before compression; less work counts as a higher rate.
        machines: how many there are.
        memory_bytes: that one machine needs.
        power_w: of all machines.
    """

    factor: str
    does: str
    flop_per_s: float
    machines: int
    memory_bytes: float
    power_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One quantity three ways.

    Attributes:
        quantity: its name, with the SI unit at the end, as fields are named.
        label: the same for people.
        naive: every factor multiplied.
        plain: each factor applied to the quantity that it scales, without losses.
        realistic: with Amdahl, communication, overlap and idle power.
    """

    quantity: str
    label: str
    naive: float
    plain: float
    realistic: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What a factor promises and what it brings.

    Attributes:
        naive: the factor as the product takes it.
        alone: speed-up when it is the only one.
        delivered: its part of the speed-up of all; the parts of all factors multiply to that.
    """

    factor: str
    naive: float
    alone: float
    delivered: float

    @property
    def lost(self) -> float:
        """How many times more the product takes it for than it brings."""
        return self.naive / self.delivered


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Where the time of one step goes, seconds; the hidden part of communication and input costs nothing."""

    compute_s: float
    communication_s: float
    exposed_communication_s: float
    input_s: float
    exposed_input_s: float

    @property
    def total_s(self) -> float:
        """Of the step."""
        return self.compute_s + self.exposed_communication_s + self.exposed_input_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """What the workers make of the machine with all other factors.

    Attributes:
        serial_s: step on one worker.
        parallel_s: step on all.
        scaled_speedup: when the work grows with the workers, without communication: Gustafson, CACM 31 (1988) 532, with the
            parallel share of one worker's time.
    """

    workers: int
    serial_s: float
    parallel_s: float
    efficiency: Estimate
    scaled_speedup: float

    @property
    def inverse(self) -> float:
        """T_parallel / T_serial, which is sometimes printed as the efficiency: it falls when things get better."""
        return self.parallel_s / self.serial_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """A number that the scenario leaves open. ``key`` is where to state it; the range is what the intervals rest on."""

    key: str
    value: float
    low: float
    high: float
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """Everything that follows from a scenario.

    Attributes:
        chain: the machine, then one step per factor.
        rows: quantities three ways.
        contributions: of the factors that act on time, in the order of the chain.
        step: the realistic step with the assumed values.
        parallel: ``None`` with one worker.
        assumptions: of the realistic numbers.
        notes: where the product goes wrong, in words.
    """

    name: str
    chain: tuple[ChainStep, ...]
    rows: tuple[Row, ...]
    contributions: tuple[Contribution, ...]
    step: StepTime
    parallel: Parallel | None
    assumptions: tuple[Assumption, ...]
    notes: tuple[str, ...]

    @property
    def loses_most(self) -> Contribution | None:
        """The factor that the product overrates most; ``None`` when it overrates none."""
        worst = max(self.contributions, key=lambda part: part.lost, default=None)
        return worst if worst is not None and worst.lost > 1 + 1e-9 else None
