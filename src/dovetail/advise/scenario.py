"""A scenario: one machine and the factors that are to make it faster, smaller or thriftier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from dovetail.core.scenario import Assumption


class Split(StrEnum):
    """How work is divided over processors of unequal rates."""

    PROPORTIONAL = "proportional"
    EVEN = "even"
    IN_TURN = "in_turn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """Processors that share work.

    Attributes:
        n: how many.
        speedup: of the work that they share, against the machine alone.
        busy: how many of them are busy on average while they share work; the others wait.
    """

    n: int = 1
    speedup: float = 1.0
    busy: float = 1.0


def team(rates: Sequence[float], split: Split = Split.PROPORTIONAL) -> Team:
    """A team by the rates of its members.

    Shares by rate finish together: the sum of the rates. Even shares wait for the slowest: n times its rate. Even shares one
    after another: the harmonic mean. Each member is busy for its share over its rate.

    Args:
        rates: of each, relative to the machine alone.
        split: how the work is divided.
    """
    n = len(rates)
    if split is Split.PROPORTIONAL:
        return Team(n=n, speedup=sum(rates), busy=n)
    if split is Split.EVEN:
        slowest = min(rates)
        return Team(n=n, speedup=n * slowest, busy=sum(slowest / rate for rate in rates))
    return Team(n=n, speedup=n / sum(1 / rate for rate in rates), busy=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bytes of one step and how fast they move. Latency in seconds a message is :data:`ASSUMED` or given like a share."""

    bytes_per_step: float
    bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One machine and its factors; a factor that is absent is 1.

    Attributes:
        flop_per_s: rate of the machine.
        memory_bytes: that the work takes on it.
        power_w: that it draws when busy.
        flop_per_step: of the work between two exchanges; one second of the machine when not given.
        accelerator: ×k.
        heterogeneous: processors of unlike kind that work together; a bare factor m is one team of rate m.
        helpers: m as the product takes it.
        keeps: share of the work and of the weights that compression leaves, 0 to 1.
        workers: machines of that kind; ``sharded`` where their memory is divided, not copied.
        exchange: bytes that the workers all-reduce each step; ``None`` when not given.
        reading: input of a step; ``shared_input`` where all workers read from one place.
        memory_divisor: of the memory; ``power_divisor`` of the power.
        given: key of the file → number, for the keys of :data:`ASSUMED` that are stated.
    """

    name: str
    flop_per_s: float
    memory_bytes: float
    power_w: float
    flop_per_step: float | None = None
    accelerator: float = 1.0
    heterogeneous: Team = field(default_factory=Team)
    helpers: float = 1.0
    keeps: float = 1.0
    workers: Team = field(default_factory=Team)
    sharded: bool = False
    exchange: Traffic | None = None
    reading: Traffic | None = None
    shared_input: bool = False
    memory_divisor: float = 1.0
    power_divisor: float = 1.0
    given: Mapping[str, float] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of workers."""
        return self.workers.n

    @property
    def serial_s(self) -> float:
        """A step's computation on the machine without any factor."""
        return 1.0 if self.flop_per_step is None else self.flop_per_step / self.flop_per_s

    @property
    def naive(self) -> Mapping[str, float]:
        """Factors of time as the product takes them, in the order of the chain; those of 1 are left out."""
        all_of_them = {
            "accelerator": self.accelerator,
            "heterogeneous": self.helpers,
            "compression": 1 / self.keeps,
            "distributed": float(self.n),
        }
        return {name: factor for name, factor in all_of_them.items() if factor != 1 or name in self._odd()}

    def _odd(self) -> Sequence[str]:
        """Teams that count one processor, whose rate is not that of the machine."""
        teams = {"heterogeneous": self.heterogeneous, "distributed": self.workers}
        return [name for name, team in teams.items() if team.speedup != 1]


def _assumed(key: str, value: float, low: float, high: float, meaning: str) -> tuple[str, Assumption]:
    return key, Assumption(key=key, value=value, low=low, high=high, meaning=meaning)


ASSUMED: Mapping[str, Assumption] = MappingProxyType(
    dict(
        (
            _assumed("accelerator.share", 0.9, 0.7, 0.99, "share of the machine's time that the accelerator takes over"),
            _assumed("heterogeneous.share", 0.8, 0.5, 0.95, "share of the time that the processors divide among them"),
            _assumed("compression.share", 0.95, 0.8, 1.0, "share of the time spent in what is compressed"),
            _assumed("compression.skipped", 0.5, 0.0, 1.0, "share of the removed work that the hardware really skips"),
            _assumed("compression.memory_share", 0.8, 0.5, 1.0, "share of the memory that compression reaches"),
            _assumed("distributed.share", 0.95, 0.85, 0.99, "share of the time that the workers divide among them"),
            _assumed("communication.share", 0.1, 0.0, 0.3, "communication against the computation of a step on all workers"),
            _assumed("communication.latency_us", 10.0, 1.0, 100.0, "delay of one message, µs"),
            _assumed("communication.overlap", 0.5, 0.0, 0.9, "share of it that runs behind computation"),
            _assumed("input.overlap", 0.8, 0.5, 1.0, "share of it that runs behind the rest"),
            _assumed("memory.share", 0.8, 0.5, 1.0, "share of the memory that the divisor reaches"),
            _assumed("energy.share", 0.8, 0.5, 1.0, "share of the power that the divisor reaches"),
            _assumed("machine.idle_share", 0.3, 0.1, 0.5, "power of a waiting part against that of a busy one"),
            _assumed("accelerator.power_share", 0.5, 0.2, 1.5, "power that it adds, against the machine's"),
            _assumed("heterogeneous.power_share", 0.5, 0.2, 1.0, "power that the others add, against the machine's"),
        )
    )
)
"""What is taken where the file says nothing. Nobody measured these: they are wide ranges of what is usual, to be replaced."""


def assumptions(scenario: Scenario) -> tuple[Assumption, ...]:
    """Those that the scenario's realistic numbers rest on: of keys that matter to it and are not given."""
    return tuple(assumed for key, assumed in ASSUMED.items() if key not in scenario.given and _matters(scenario, key))


def _matters(scenario: Scenario, key: str) -> bool:
    group, _, name = key.partition(".")
    if group == "communication":
        wanted = {"share": scenario.exchange is None, "latency_us": scenario.exchange is not None}
        return scenario.n > 1 and wanted.get(name, True)
    used = {
        "machine": True,
        "input": scenario.reading is not None,
        "memory": scenario.memory_divisor != 1,
        "energy": scenario.power_divisor != 1,
    }
    return used[group] if group in used else group in scenario.naive
