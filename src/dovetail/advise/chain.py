"""The plain chain: each factor on the quantity that it scales, one after the other, without losses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from dovetail.advise.scenario import Scenario
from dovetail.core.scenario import ChainStep


def plain_chain(scenario: Scenario) -> tuple[ChainStep, ...]:
    """The machine, then its state after each factor. What comes out is a ceiling, not a forecast.

    An accelerator and helpers raise the compute rate. Compression leaves less work and less memory; less work is shown as a
    higher rate of the original work. Workers add machines and their power: none of them gets faster.
    """
    return tuple(_steps(scenario))


def _steps(scenario: Scenario) -> Iterator[ChainStep]:
    naive = scenario.naive
    now = ChainStep(
        factor="machine",
        does="as it is",
        flop_per_s=scenario.flop_per_s,
        machines=1,
        memory_bytes=scenario.memory_bytes,
        power_w=scenario.power_w,
    )
    yield now
    for name in ("accelerator", "heterogeneous"):
        if name in naive:
            does = f"compute rate × {naive[name]:g}"
            now = replace(now, factor=name, does=does, flop_per_s=now.flop_per_s * naive[name])
            yield now
    if "compression" in naive:
        keeps = scenario.keeps
        does = f"work × {keeps:g}, memory × {keeps:g}"
        now = replace(
            now, factor="compression", does=does, flop_per_s=now.flop_per_s / keeps, memory_bytes=now.memory_bytes * keeps
        )
        yield now
    if scenario.memory_divisor != 1:
        divisor = scenario.memory_divisor
        now = replace(now, factor="memory", does=f"memory ÷ {divisor:g}", memory_bytes=now.memory_bytes / divisor)
        yield now
    if scenario.power_divisor != 1:
        divisor = scenario.power_divisor
        now = replace(now, factor="energy", does=f"power ÷ {divisor:g}", power_w=now.power_w / divisor)
        yield now
    if scenario.n > 1:
        n = scenario.n
        memory = now.memory_bytes / n if scenario.sharded else now.memory_bytes
        does = f"machines × {n:,}, power × {n:,}" + (f", memory ÷ {n:,}" if scenario.sharded else "")
        yield replace(now, factor="distributed", does=does, machines=n, power_w=now.power_w * n, memory_bytes=memory)


def notes(scenario: Scenario) -> tuple[str, ...]:
    """Where multiplying everything goes wrong for these factors, in words."""
    naive = scenario.naive
    found = []
    rates = {name: naive[name] for name in ("accelerator", "heterogeneous") if name in naive}
    if scenario.n > 1 and rates:
        product, all_in = math.prod(rates.values()), math.prod(rates.values()) * scenario.n
        factors = " × ".join(f"{factor:g}" for factor in rates.values())
        found.append(
            f"{factors} = {product:,g} is what one machine gains. {all_in:,g} also multiplies by the {scenario.n:,} machines, "
            "which add machines and power, and make none of them faster."
        )
    if "compression" in naive:
        found.append(
            f"Compression to {scenario.keeps:g} is no compute rate: less work is left. It saves time only where the hardware "
            "skips what was removed; zeros that are multiplied like other numbers cost what they did."
        )
    if rates:
        found.append("The product and the chain take accelerators and helpers to draw no power.")
    if scenario.n > 1:
        found.append("The product takes communication and the waiting of workers for each other as free.")
    return tuple(found)
