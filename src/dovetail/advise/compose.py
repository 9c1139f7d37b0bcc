"""Puts the factors of a scenario together three ways: multiplied, in a plain chain, and realistically."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection

from dovetail.advise.chain import notes, plain_chain
from dovetail.advise.realistic import Numbers, energy_j, memory_bytes, pieces, step_time
from dovetail.advise.scenario import Scenario, assumptions
from dovetail.core.estimate import Estimate
from dovetail.core.scenario import Composition, Contribution, Parallel, Row
from dovetail.core.source import Source, SourceKind

_SOURCE = "Amdahl 1967 with nested shares; ring all-reduce of Patarasuk & Yuan 2009; idle and busy power times time"
_ALONE = "distributed"


def compose(scenario: Scenario) -> Composition:
    """Everything that follows from a scenario."""
    numbers = _central(scenario)
    factors = (*scenario.naive, "energy")
    return Composition(
        name=scenario.name,
        chain=plain_chain(scenario),
        rows=_rows(scenario),
        contributions=contributions(scenario, numbers),
        step=step_time(scenario, numbers, factors),
        parallel=_parallel(scenario, numbers) if scenario.n > 1 else None,
        assumptions=assumptions(scenario),
        notes=notes(scenario),
    )


def _central(scenario: Scenario) -> dict[str, float]:
    return {**{item.key: item.value for item in assumptions(scenario)}, **scenario.given}


def _acts_on_memory(key: str) -> bool:
    return key in ("compression.memory_share", "memory.share")


def _acts_on_energy(key: str) -> bool:
    return not _acts_on_memory(key)


def _acts_on_time(key: str) -> bool:
    return not (_acts_on_memory(key) or key == "energy.share" or key.endswith(("power_share", "idle_share")))


def estimate(scenario: Scenario, quantity: Callable[[Numbers], float], acts: Callable[[str], bool] = _acts_on_time) -> Estimate:
    """A quantity at the assumed values, with the least and the greatest at the corners of their ranges.

    Not a probability: the interval holds what comes out when every assumed number lies in its range (coverage 1), given numbers
    taken as exact. Where a number pulls both ways the extreme may lie between corners; time and memory have no such number.

    Args:
        scenario: the scenario.
        quantity: of the numbers taken.
        acts: whether the number of a key acts on the quantity.
    """
    open_ones = [item for item in assumptions(scenario) if acts(item.key)]
    corners = itertools.product(*((item.low, item.high) for item in open_ones))
    keys = [item.key for item in open_ones]
    central = _central(scenario)
    value = quantity(central)
    found = [value, *(quantity({**central, **dict(zip(keys, corner, strict=True))}) for corner in corners)]
    assumed = f"; assumed: {', '.join(keys)}" if keys else ""
    source = Source(kind=SourceKind.ASSUMED if keys else SourceKind.DERIVED, ref=_SOURCE + assumed)
    return Estimate(value=value, low=min(found), high=max(found), source=source, coverage=1.0)


def speedup(scenario: Scenario, numbers: Numbers, active: Collection[str]) -> float:
    """Of a step with some of the factors against one without any, input included in both."""
    return step_time(scenario, numbers, ()).total_s / step_time(scenario, numbers, active).total_s


def contributions(scenario: Scenario, numbers: Numbers) -> tuple[Contribution, ...]:
    """What each factor brings to the realistic speed-up.

    The gain of a factor depends on what was applied before it, so its log is averaged over all orders (Shapley, Contributions
    to the Theory of Games II (1953) 307): no factor looks worse for being named last, and the parts multiply to the whole.
    """
    names = tuple(scenario.naive)
    subsets = [frozenset(group) for size in range(len(names) + 1) for group in itertools.combinations(names, size)]
    gain = {group: math.log(speedup(scenario, numbers, group)) for group in subsets}
    orders = list(itertools.permutations(names))
    found = []
    for name in names:
        before = [frozenset(order[: order.index(name)]) for order in orders]
        mean = math.fsum(gain[group | {name}] - gain[group] for group in before) / len(orders)
        alone = math.exp(gain[frozenset({name})])
        found.append(Contribution(factor=name, naive=scenario.naive[name], alone=alone, delivered=math.exp(mean)))
    return tuple(found)


def _rows(scenario: Scenario) -> tuple[Row, ...]:
    every = tuple(scenario.naive)
    one = tuple(name for name in every if name != _ALONE)
    product = math.prod(scenario.naive.values())
    single = product / scenario.n
    last = plain_chain(scenario)[-1]
    together = f"{scenario.n:,} machines together" if scenario.n > 1 else "the machine"
    rows = [_speed("speedup", f"speed-up of {together}", scenario, product, product, every)]
    if scenario.n > 1:
        rows.insert(0, _speed("speedup_one_machine", "speed-up of one machine", scenario, product, single, one))
    naive_w = scenario.power_w / scenario.power_divisor
    naive_s = scenario.serial_s / product
    with_power = (*every, "energy")
    rows += [
        _rate(scenario, rows[-1], together),
        Row(
            quantity="memory_bytes",
            label="memory of one machine",
            naive=scenario.memory_bytes * scenario.keeps / scenario.memory_divisor,
            plain=last.memory_bytes,
            realistic=estimate(scenario, lambda x: memory_bytes(scenario, x), _acts_on_memory),
        ),
        Row(
            quantity="power_w",
            label=f"mean power of {together}",
            naive=naive_w,
            plain=last.power_w,
            realistic=estimate(
                scenario,
                lambda x: energy_j(scenario, x, with_power) / step_time(scenario, x, with_power).total_s,
                _acts_on_energy,
            ),
        ),
        Row(
            quantity="energy_ratio",
            label="energy of the work, against the start",
            naive=naive_w * naive_s / (scenario.power_w * scenario.serial_s),
            plain=last.power_w * naive_s / (scenario.power_w * scenario.serial_s),
            realistic=estimate(
                scenario, lambda x: energy_j(scenario, x, with_power) / energy_j(scenario, x, ()), _acts_on_energy
            ),
        ),
    ]
    return tuple(rows)


def _speed(
    quantity: str, label: str, scenario: Scenario, naive: float, plain: float, active: Collection[str]
) -> Row:  # fmt: skip
    realistic = estimate(scenario, lambda x: speedup(scenario, x, active))
    return Row(quantity=quantity, label=label, naive=naive, plain=plain, realistic=realistic)


def _rate(scenario: Scenario, row: Row, of: str) -> Row:
    rate, real = scenario.flop_per_s, row.realistic
    return Row(
        quantity="flop_per_s",
        label=f"rate of {of}",
        naive=row.naive * rate,
        plain=row.plain * rate,
        realistic=Estimate(
            value=real.value * rate, low=real.low * rate, high=real.high * rate, source=real.source, coverage=real.coverage
        ),
    )


def _parallel(scenario: Scenario, numbers: Numbers) -> Parallel:
    every = tuple(scenario.naive)
    one = tuple(name for name in every if name != _ALONE)

    def serial_s(x: Numbers) -> float:
        return step_time(scenario, x, one).total_s

    def parallel_s(x: Numbers) -> float:
        return step_time(scenario, x, every).total_s

    divided = sum(piece.time_s for piece in pieces(scenario, numbers, every) if _ALONE in piece.factors)
    divided *= scenario.workers.speedup
    share = divided / sum(piece.time_s for piece in pieces(scenario, numbers, one))
    return Parallel(
        workers=scenario.n,
        serial_s=serial_s(numbers),
        parallel_s=parallel_s(numbers),
        efficiency=estimate(scenario, lambda x: serial_s(x) / (scenario.n * parallel_s(x))),
        scaled_speedup=1 - share + share * scenario.workers.speedup,
    )
