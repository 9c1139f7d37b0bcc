"""Factors put together: the example to the digit, the limits of each formula, and what must rise or fall."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from dovetail.advise.compose import compose
from dovetail.advise.realistic import energy_j, memory_bytes, pieces, ring_all_reduce_s, step_time
from dovetail.advise.scenario import ASSUMED, Scenario, Split, Team, Traffic, team
from dovetail.advise.scenario_file import load_scenario
from dovetail.core.scenario import Composition, Row
from dovetail.core.source import SourceKind

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "scenario" / "cluster.yaml"
IDEAL = {
    "accelerator.share": 1.0,
    "heterogeneous.share": 1.0,
    "compression.share": 1.0,
    "compression.skipped": 1.0,
    "compression.memory_share": 1.0,
    "distributed.share": 1.0,
    "communication.share": 0.0,
    "communication.overlap": 0.0,
    "machine.idle_share": 0.3,
    "accelerator.power_share": 0.5,
    "heterogeneous.power_share": 0.5,
}


def scenario(**changes: object) -> Scenario:
    return replace(load_scenario(EXAMPLE), **changes)


def row(found: Composition, quantity: str) -> Row:
    return next(item for item in found.rows if item.quantity == quantity)


def speed(given: dict[str, float], **changes: object) -> float:
    return row(compose(scenario(given={**IDEAL, **given}, **changes)), "speedup").realistic.value


def test_the_example_chains_to_16_and_not_to_64() -> None:
    chain = compose(scenario()).chain
    assert [step.flop_per_s / 1e12 for step in chain] == [1, 4, 8, 16, 16]
    assert [step.factor for step in chain] == ["machine", "accelerator", "heterogeneous", "compression", "distributed"]
    assert (chain[-1].machines, chain[-1].memory_bytes, chain[-1].power_w) == (4, 100e9, 2000)


def test_the_product_stands_beside_it() -> None:
    found = compose(scenario())
    one = row(found, "speedup_one_machine")
    assert (one.naive, one.plain) == (64, 16)
    assert one.realistic.high < 16
    assert row(found, "power_w").naive == 500 and row(found, "power_w").plain == 2000
    assert "4 × 2 = 8" in found.notes[0] and "32" in found.notes[0]


def test_with_everything_ideal_the_product_of_all_machines_is_reached() -> None:
    found = compose(scenario(given=IDEAL))
    assert row(found, "speedup").realistic.value == pytest.approx(64)
    assert row(found, "speedup_one_machine").realistic.value == pytest.approx(16)
    assert not found.assumptions and row(found, "speedup").realistic.low == row(found, "speedup").realistic.high
    assert row(found, "speedup").realistic.source.kind is SourceKind.DERIVED
    assert found.loses_most is None


def test_with_shares_of_zero_nothing_is_gained() -> None:
    zero = {f"{name}.share": 0.0 for name in ("accelerator", "heterogeneous", "compression", "distributed")}
    assert speed(zero) == pytest.approx(1)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 1.6), (0.9, 1 / 0.325), (1.0, 4.0)])
def test_one_factor_follows_amdahl(share: float, expected: float) -> None:
    alone = {"helpers": 1.0, "heterogeneous": Team(), "keeps": 1.0, "workers": Team()}
    assert speed({"accelerator.share": share}, **alone) == pytest.approx(expected)


def test_nested_shares_share_the_work_that_resists() -> None:
    only = scenario(keeps=1.0, workers=Team(), given={**IDEAL, "accelerator.share": 0.5, "heterogeneous.share": 0.8})
    found = pieces(only, only.given, ("accelerator", "heterogeneous"))
    assert [(round(piece.time_s, 9), sorted(piece.factors)) for piece in found] == [
        (0.5 / 8, ["accelerator", "heterogeneous"]),
        (0.3 / 2, ["heterogeneous"]),
        (0.2, []),
    ]


@pytest.mark.parametrize("key", [f"{name}.share" for name in ("accelerator", "heterogeneous", "compression", "distributed")])
def test_a_larger_share_is_never_slower(key: str) -> None:
    speeds = [speed({key: share / 10}) for share in range(11)]
    assert speeds == sorted(speeds) and speeds[0] < speeds[-1]


def test_compression_that_nothing_skips_saves_memory_and_traffic_only() -> None:
    given = {**IDEAL, "compression.skipped": 0.0, "communication.latency_us": 0.0}
    whole = scenario(given=given, exchange=Traffic(bytes_per_step=1e9, bytes_per_s=1e10), flop_per_step=1e12)
    every = tuple(whole.naive)
    without = tuple(name for name in every if name != "compression")
    with_it, before = step_time(whole, given, every), step_time(whole, given, without)
    assert with_it.compute_s == pytest.approx(before.compute_s)
    assert with_it.communication_s == pytest.approx(before.communication_s / 2)
    assert memory_bytes(whole, given) == 100e9


def test_the_ring_by_hand() -> None:
    assert ring_all_reduce_s(4, 8e9, 1e9, 1e-3) == pytest.approx(2 * 3 / 4 * 8 + 6e-3)
    assert ring_all_reduce_s(1, 8e9, 1e9, 1e-3) == 0


def test_one_worker_has_no_communication() -> None:
    found = compose(scenario(workers=Team()))
    assert found.step.communication_s == 0 and found.parallel is None
    assert not [item for item in found.assumptions if item.key.startswith(("communication", "distributed"))]


def test_more_bytes_are_slower_and_more_overlap_faster() -> None:
    def total_s(n_bytes: float, overlap: float) -> float:
        given = {**IDEAL, "communication.overlap": overlap, "communication.latency_us": 10.0}
        traffic = Traffic(bytes_per_step=n_bytes, bytes_per_s=1e10)
        return compose(scenario(given=given, exchange=traffic, flop_per_step=1e12)).step.total_s

    assert total_s(1e8, 0.5) < total_s(1e9, 0.5) < total_s(1e10, 0.5)
    assert total_s(1e9, 1.0) < total_s(1e9, 0.5) < total_s(1e9, 0.0)


def test_full_overlap_leaves_the_longest_part() -> None:
    given = {**IDEAL, "communication.overlap": 1.0, "input.overlap": 1.0, "communication.latency_us": 0.0}
    moved = Traffic(bytes_per_step=1e9, bytes_per_s=1e10)
    step = step_time(scenario(given=given, exchange=moved, reading=moved), given, tuple(scenario().naive))
    assert step.total_s == pytest.approx(max(step.compute_s, step.communication_s, step.input_s))
    bare = {**given, "communication.overlap": 0.0, "input.overlap": 0.0}
    apart = step_time(scenario(given=bare, exchange=moved, reading=moved), bare, tuple(scenario().naive))
    assert apart.total_s == pytest.approx(apart.compute_s + apart.communication_s + apart.input_s)


def test_input_from_one_place_is_not_divided() -> None:
    reading = Traffic(bytes_per_step=4e9, bytes_per_s=1e9)
    given = {**IDEAL, "input.overlap": 1.0}
    assert compose(scenario(given=given, reading=reading)).step.input_s == pytest.approx(1)
    assert compose(scenario(given=given, reading=reading, shared_input=True)).step.input_s == pytest.approx(4)


@pytest.mark.parametrize(
    ("split", "speedup", "busy"), [(Split.PROPORTIONAL, 3.5, 4), (Split.EVEN, 2.0, 2.5), (Split.IN_TURN, 0.8, 1)]
)
def test_unequal_workers(split: Split, speedup: float, busy: float) -> None:
    four = team((1.0, 1.0, 1.0, 0.5), split)
    assert four.speedup == pytest.approx(speedup)
    assert four.busy == pytest.approx(busy)


def test_efficiency_is_serial_over_p_times_parallel() -> None:
    ideal = compose(scenario(given=IDEAL)).parallel
    assert ideal is not None and ideal.efficiency.value == pytest.approx(1) and ideal.inverse == pytest.approx(0.25)
    real = compose(scenario(given={**IDEAL, "communication.share": 1.0})).parallel
    assert real is not None and real.efficiency.value == pytest.approx(0.5) and real.inverse == pytest.approx(0.5)
    assert real.serial_s / (4 * real.parallel_s) == real.efficiency.value


def test_growing_work_follows_gustafson() -> None:
    alone = {"accelerator": 1.0, "helpers": 1.0, "heterogeneous": Team(), "keeps": 1.0}
    found = compose(scenario(given={**IDEAL, "distributed.share": 0.9}, **alone)).parallel
    assert found is not None and found.scaled_speedup == pytest.approx(4 - 0.1 * 3)


def test_contributions_multiply_to_the_speedup() -> None:
    found = compose(scenario())
    assert math.prod(part.delivered for part in found.contributions) == pytest.approx(row(found, "speedup").realistic.value)
    assert found.loses_most is not None and found.loses_most.lost == max(part.lost for part in found.contributions)


def test_the_factor_that_reaches_nothing_loses_most() -> None:
    found = compose(scenario(given={**IDEAL, "accelerator.share": 0.0}))
    assert found.loses_most is not None and found.loses_most.factor == "accelerator"
    assert found.loses_most.lost == pytest.approx(4)


def test_energy_is_power_times_time_with_idle_power_of_what_waits() -> None:
    two = scenario(accelerator=1.0, helpers=1.0, heterogeneous=Team(), keeps=1.0, workers=team((1.0, 1.0)))
    given = {**IDEAL, "distributed.share": 0.5}
    # Half a second alone while the other idles at 150 W, then a quarter of a second together.
    expected = 0.5 * (500 + 150) + 0.25 * 1000
    assert energy_j(two, given, ("distributed",)) == pytest.approx(expected)
    assert energy_j(two, given, ()) == pytest.approx(500)


def test_the_machine_idles_while_its_accelerator_works() -> None:
    one = scenario(helpers=1.0, heterogeneous=Team(), keeps=1.0, workers=Team())
    assert energy_j(one, IDEAL, ("accelerator",)) == pytest.approx(0.25 * (150 + 250))


def test_divisors_of_memory_and_energy() -> None:
    given = {**IDEAL, "memory.share": 1.0, "energy.share": 1.0}
    found = compose(scenario(given=given, memory_divisor=2.0, power_divisor=2.0))
    assert row(found, "memory_bytes").plain == row(found, "memory_bytes").realistic.value == 50e9
    assert row(found, "power_w").plain == 1000
    halved = row(compose(scenario(given=given)), "energy_ratio").realistic.value / 2
    assert row(found, "energy_ratio").realistic.value == pytest.approx(halved)


def test_sharded_memory_is_divided() -> None:
    assert row(compose(scenario(given=IDEAL, sharded=True)), "memory_bytes").realistic.value == 25e9


def test_what_is_open_is_assumed_with_its_range_and_named() -> None:
    found = compose(scenario())
    assert {item.key for item in found.assumptions} == set(IDEAL)
    estimate = row(found, "speedup").realistic
    assert estimate.low < estimate.value < estimate.high and estimate.source.kind is SourceKind.ASSUMED
    assert "accelerator.share" in estimate.source.ref and "idle_share" not in estimate.source.ref


def test_stating_a_number_narrows_the_interval() -> None:
    wide = row(compose(scenario()), "speedup").realistic
    narrow = row(compose(scenario(given={"accelerator.share": 0.9})), "speedup").realistic
    assert wide.low < narrow.low and narrow.high < wide.high and narrow.value == wide.value


@pytest.mark.parametrize("key", sorted(ASSUMED))
def test_assumptions_lie_in_their_ranges(key: str) -> None:
    assert 0 <= ASSUMED[key].low < ASSUMED[key].value < ASSUMED[key].high
