"""Energy of one inference, where a meter can be read: for ``dovetail bench``, and for the answer of ``dovetail optimize``."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dovetail import plugins
from dovetail.core import units
from dovetail.core.energy import MeasuredEnergy
from dovetail.core.measurement import Interval
from dovetail.core.outcome import FitResult
from dovetail.core.protocols import Meter
from dovetail.measure.arena import Conditions, Contestant, Runner
from dovetail.measure.child import ChildFailure
from dovetail.measure.energy import BLOCKS, IDLE_BLOCKS, idle_power, measured_energy
from dovetail.pipeline.finals import Finals
from dovetail.report.progress import Progress

BLOCK_S = 0.5
IDLE_S = 0.5
_START_S = 3.0
"""A process takes about so long to load and to warm up."""
NO_TIME = "not measured: the budget left no time for it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Energies:
    """What was measured.

    Attributes:
        by_key: contestant's key → energy of a sample; only those that could be measured.
        note: how, or why not.
    """

    by_key: Mapping[str, MeasuredEnergy] = field(default_factory=dict)
    note: str


def usable(meters: Sequence[Meter]) -> tuple[Meter | None, str]:
    """The first that can be read; without one, why none can."""
    reasons = []
    for meter in meters:
        reason = meter.missing()
        if reason is None:
            return meter, ""
        reasons.append(f"{meter.name}: {reason}")
    return None, f"unknown, no sensor: {'; '.join(reasons) or 'no meter is installed'}"


def needed_s(contestants: int) -> float:
    """About how long it takes to measure so many."""
    return IDLE_BLOCKS * IDLE_S + contestants * (_START_S + BLOCKS * BLOCK_S)


def energies(
    contestants: Sequence[Contestant], conditions: Conditions, progress: Progress, meters: Sequence[Meter] | None = None
) -> Energies:
    """Measures each in a process of its own, one after the other; without a meter nothing is run.

    Args:
        contestants: what runs.
        conditions: what is the same for all.
        progress: says what happens.
        meters: by default the registered ones.
    """
    meter, why = usable(plugins.meters() if meters is None else meters)
    if meter is None:
        return Energies(note=why)
    progress.stage("energy", len(contestants))
    idle_w = idle_power(meter, seconds=IDLE_S)
    found: dict[str, MeasuredEnergy] = {}
    for contestant in contestants:
        energy = _measured(contestant, conditions, meter, idle_w)
        if energy is not None:
            found[contestant.key] = energy
        progress.advance(1, contestant.name or str(contestant.recipe))
    return Energies(by_key=found, note=_how(meter, idle_w))


def with_energy(finals: Finals, result: FitResult, left_s: float, progress: Progress) -> FitResult:
    """The result with the energy of the original, the best baseline and the winner.

    Args:
        finals: makes contestants.
        result: the answer.
        left_s: of the budget; what would take longer is left out.
        progress: says what happens.
    """
    meter, why = usable(plugins.meters())
    keys = list(dict.fromkeys(filter(None, (result.default_baseline, result.best_baseline, result.winner))))
    if meter is None or left_s < needed_s(len(keys)):
        return replace(result, energy_note=why or NO_TIME)
    contestants = []
    for key in keys:
        with contextlib.suppress(ChildFailure):
            contestants.append(finals.contestant(result.record(key)))
    found = energies(contestants, finals.conditions, progress, [meter])
    candidates = tuple(replace(c, energy=found.by_key.get(c.recipe.key)) for c in result.candidates)
    return replace(result, candidates=candidates, energy_note=found.note)


def _measured(contestant: Contestant, conditions: Conditions, meter: Meter, idle_w: Interval | None) -> MeasuredEnergy | None:
    try:
        with Runner(contestant, conditions) as runner:
            # One call goes before each block untimed, and draws power like the others.
            return measured_energy(
                meter, lambda: int(runner.call("block", seconds=BLOCK_S)["calls"]) + 1, conditions.batch, idle_w
            )
    except ChildFailure:
        return None


def _how(meter: Meter, idle_w: Interval | None) -> str:
    idle = "not known" if idle_w is None else f"{units.count(idle_w.point, 'W')}, measured before and told apart"
    return f"measured with {meter.name} ({meter.scope}), {BLOCKS} blocks of {BLOCK_S:g} s each; idle power {idle}"
