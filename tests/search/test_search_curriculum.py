"""The curriculum against a made-up network whose speed and quality follow from what was done to it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from search_samples import drop, record

from dovetail.core.outcome import CandidateRecord, Infeasible
from dovetail.core.recipe import PassSpec, Recipe
from dovetail.search.curriculum import LEAST, STEP, Aim, Curriculum, amount, rounded, told
from dovetail.search.goal import Goal
from dovetail.search.space import Proposal, shapes, spec

MARGIN = 0.01
AIM = Recipe(passes=(spec("clean"), spec("quantize_static"), spec("lower_litert")), runtime="litert")


class World:
    """Every block removed gains 6 % and costs 1.2 pp; training gives half of what is lost back every ten epochs."""

    def __init__(self, budget_s: float, epoch_s: float = 2.0) -> None:
        self.budget_s, self.epoch_s, self.clock = budget_s, epoch_s, 0.0
        self.gain, self.cost, self.half, self.power = 1.06, 0.012, 10.0, 1
        self.asked: list[Proposal] = []
        self._built: set[tuple[PassSpec, ...]] = set()

    def left_s(self) -> float:
        return self.budget_s - self.clock

    def record(self, proposal: Proposal) -> CandidateRecord:
        speed, lost, size = 1.0, 0.001, 1e6
        for step in proposal.recipe.passes:
            blocks = int(str(dict(step.params).get("count", 0)))
            speed *= self.gain**blocks
            lost = (lost + self.cost * blocks**self.power) * 0.5 ** (self.epochs(step) / self.half)
            size *= 0.94**blocks
        seconds = sum(map(self._seconds, proposal.recipe.passes))
        return record(proposal, speed, quality=drop(lost, 0.005), build_s=seconds, size_bytes=size)

    def run(self, curriculum: Curriculum) -> None:
        steps = curriculum.steps()
        try:
            proposal = next(steps)
            while True:
                self.asked.append(proposal)
                self._build(proposal.recipe.passes)
                proposal = steps.send(self.record(proposal))
        except StopIteration:
            return

    def epochs(self, step: PassSpec) -> float:
        return float(str(dict(step.params)["epochs"])) if step.name in ("distil", "quantize_aware") else 0.0

    def _seconds(self, step: PassSpec) -> float:
        return 0.2 + self.epoch_s * self.epochs(step)

    def _build(self, passes: tuple[PassSpec, ...]) -> None:
        for last in range(1, len(passes) + 1):
            if passes[:last] not in self._built:
                self._built.add(passes[:last])
                self.clock += self._seconds(passes[last - 1])


def aim(world: World, lost: float = 0.002) -> Aim:
    proposal = Proposal(
        recipe=AIM,
        label="int8 · litert",
        baseline=False,
        family=AIM.key,
        twin="",
        quality_key=AIM.key,
        gain=(1, 2),
        lossless=False,
    )
    seen = replace(world.record(proposal), quality=drop(lost, 0.005))
    return Aim(proposal=proposal, record=seen, shapes={"blocks": shapes(frozenset({"Add"}))["blocks"]}, margin=MARGIN)


def counts(world: World) -> list[float]:
    """Blocks taken away before anything was trained, in the order asked for."""
    cuts = [p.recipe.passes[0] for p in world.asked if p.recipe.passes[1].name == "clean"]
    return [amount(step) for step in cuts if step.name == "prune_blocks"]


def test_every_accepted_network_is_faster_than_the_one_before_and_keeps_the_quality() -> None:
    world = World(budget_s=1200.0)
    curriculum = Curriculum(aim(world), world.left_s)
    world.run(curriculum)
    assert len(curriculum.accepted) >= 3
    seen = [world.record(curriculum.proposal(passes)) for passes in curriculum.accepted]
    speeds = [r.speedup.point for r in seen if r.speedup]
    gains = [b / a for a, b in zip(speeds, speeds[1:], strict=False)]
    assert all(gain >= LEAST or math.isclose(gain, 1.0) for gain in gains)
    assert sum(gain < STEP and not math.isclose(gain, 1.0) for gain in gains) <= 1  # the last, after a step that failed
    assert all(r.quality and r.quality.drop.point <= MARGIN for r in seen)


def test_amounts_that_cannot_gain_enough_are_passed_over() -> None:
    world = World(budget_s=1200.0)
    world.gain = 1.02  # five blocks for a step
    world.run(Curriculum(aim(world), world.left_s))
    assert counts(world) == [1, 3, 4, 5]


def test_steps_grow_while_networks_recover_at_once() -> None:
    world = World(budget_s=1200.0)
    world.cost = 0.0
    curriculum = Curriculum(aim(world), world.left_s)
    world.run(curriculum)
    taken = [sum(amount(step) for step in passes) for passes in curriculum.accepted]
    assert taken[:3] == [2, 6, 14]  # 1.12 times, then at least 1.21 and 1.46 times more


def test_where_no_large_step_is_left_a_usual_one_is_taken() -> None:
    """Networks recover at once, so that steps grow; but only a few blocks more can be taken away, which gain less."""
    world = World(budget_s=1200.0)
    world.cost = 0.0
    few = {"blocks": shapes(frozenset({"Add"}))["blocks"][:3]}
    curriculum = Curriculum(replace(aim(world), shapes=few), world.left_s)
    world.run(curriculum)
    taken = [sum(amount(step) for step in passes) for passes in curriculum.accepted]
    assert taken[:2] == [2, 4]  # 1.12 times; 1.21 more would take four blocks at once, which are not offered


def test_after_a_step_that_fails_something_smaller_is_trained() -> None:
    world = World(budget_s=600.0, epoch_s=20.0)
    world.gain, world.cost = 1.06, 0.0088  # two blocks for a step, and too little time to recover from them
    world.half = 60.0
    curriculum = Curriculum(aim(world), world.left_s)
    world.run(curriculum)
    assert [sum(amount(step) for step in passes) for passes in curriculum.accepted][:1] == [1]


def test_something_smaller_may_lose_half_of_what_was_trained_in_vain() -> None:
    world = World(budget_s=600.0, epoch_s=10.0)
    world.cost, world.half, world.power = 0.021, 9.0, 4  # one block loses twice what is permitted, two far more
    curriculum = Curriculum(aim(world), world.left_s)
    world.run(curriculum)
    assert [sum(amount(step) for step in passes) for passes in curriculum.accepted][:1] == [1]


def test_what_nearly_recovers_gets_one_long_schedule_instead_of_several() -> None:
    world = World(budget_s=300.0, epoch_s=12.0)
    world.gain, world.cost, world.half = 1.12, 0.018, 6.0
    curriculum = Curriculum(aim(world), world.left_s)
    world.run(curriculum)
    assert curriculum.accepted
    epochs = [world.epochs(step) for step in world.asked[-1].recipe.passes if step.name == "distil"]
    assert len(epochs) == 2 and epochs[0] == 1 and epochs[1] * world.epoch_s > 0.6 * world.budget_s


def test_what_has_lost_everything_is_trained_only_where_nothing_else_is_left() -> None:
    class Poor(World):
        """Channels gain as much as blocks and lose everything."""

        def record(self, proposal: Proposal) -> CandidateRecord:
            seen = super().record(proposal)
            cut = any(step.name == "prune_channels" for step in proposal.recipe.passes)
            return record(proposal, 2.0, quality=drop(0.9, 0.005), build_s=seen.build_s) if cut else seen

    both = shapes(frozenset({"Conv", "Add"}))
    for ways in (["blocks", "channels"], ["channels"]):
        world = Poor(budget_s=300.0)
        world.run(Curriculum(replace(aim(world), shapes={way: both[way] for way in ways}), world.left_s))
        trained = {p.recipe.passes[0].name for p in world.asked if p.recipe.passes[1].name == "distil"}
        assert trained == {f"prune_{ways[0]}"}


def test_where_size_is_wanted_steps_are_counted_in_bytes() -> None:
    world = World(budget_s=1200.0)
    world.gain = 1.0  # no block makes it faster
    wanted = replace(aim(world), cost=Goal(objectives=("size",)).cost)
    curriculum = Curriculum(wanted, world.left_s)
    world.run(curriculum)
    assert curriculum.accepted


def test_nothing_is_trained_once_the_time_is_gone() -> None:
    world = World(budget_s=0.1)
    world.run(Curriculum(aim(world), world.left_s))
    assert world.asked and not any(step.name == "distil" for proposal in world.asked for step in proposal.recipe.passes)


def test_the_budget_is_kept() -> None:
    world = World(budget_s=400.0)
    world.run(Curriculum(aim(world), world.left_s))
    assert world.clock <= 1.25 * world.budget_s


def test_the_last_trial_trains_under_the_rounding() -> None:
    world = World(budget_s=600.0)
    world.run(Curriculum(aim(world), world.left_s))
    last = [step.name for step in world.asked[-1].recipe.passes]
    assert "quantize_aware" in last and "quantize_static" not in last and last[-1] == "lower_litert"


def test_a_recipe_that_loses_too_much_is_only_trained_under_its_rounding() -> None:
    world = World(budget_s=600.0)
    world.run(Curriculum(aim(world, lost=0.05), world.left_s))
    names = {step.name for proposal in world.asked for step in proposal.recipe.passes}
    assert names == {"clean", "quantize_aware", "lower_litert"}
    assert len(world.asked) == 2  # one epoch tells how long they take, then as many as there is time for


def test_a_network_that_cannot_be_cut_ends_the_curriculum() -> None:
    """Where one block cannot be left out, more are not tried."""
    world = World(budget_s=600.0)
    steps, asked = Curriculum(aim(world), world.left_s).steps(), []
    proposal = next(steps)
    with pytest.raises(StopIteration):
        while True:
            asked.append(proposal.recipe.passes[0].name)
            assert len(asked) < 20
            proposal = steps.send(replace(world.record(proposal), infeasible=Infeasible(stage="build", reason="no blocks")))
    assert asked.count("prune_blocks") == 1


def test_after_a_reason_given_twice_only_the_largest_amount_is_tried() -> None:
    class Refusing(World):
        def record(self, proposal: Proposal) -> CandidateRecord:
            seen = super().record(proposal)
            cut = proposal.recipe.passes[0].name == "prune_channels"
            return replace(seen, infeasible=Infeasible(stage="build", reason="no channels can be pruned")) if cut else seen

    world = Refusing(budget_s=100.0)
    ladders = {"channels": shapes(frozenset({"Conv"}))["channels"]}
    world.run(Curriculum(replace(aim(world), shapes=ladders), world.left_s))
    assert [amount(p.recipe.passes[0]) for p in world.asked if p.recipe.passes[0].name == "prune_channels"] == [0.1, 0.2, 0.5]


def test_labels_add_up_trainings() -> None:
    passes = (
        spec("prune_blocks", count=2),
        spec("distil", epochs=1),
        spec("distil", epochs=8),
        spec("prune_channels", ratio=0.25),
    )
    assert told(passes) == "blocks −2 → 9 epochs → channels −0.25"


def test_channels_by_cost_say_what_is_saved() -> None:
    step = spec("prune_channels", cost=0.7)
    assert told((step,)) == "costly channels −0.3" and amount(step) == 0.3


@pytest.mark.parametrize(
    ("epochs", "shown"), [(0.3, 1), (1.4, 1), (1.6, 1), (7.9, 7), (23.9, 23), (137.0, 130), (1289.0, 1200)]
)
def test_epochs_are_rounded_down_to_two_digits(epochs: float, shown: int) -> None:
    assert rounded(epochs) == shown


@pytest.mark.parametrize(("units", "kept"), [(0, True), (50_000, True), (1_000, False), (300, True)])
def test_what_fresh_samples_could_not_certify_is_not_accepted(units: int, kept: bool) -> None:
    """A network that loses 0.9 of the permitted drop: few samples would leave its upper bound above the limit.

    So few that they could not certify what loses nothing, either, decide nothing.
    """
    world = World(budget_s=400.0, epoch_s=20.0)
    world.half = 1e9
    world.cost = 0.8 * MARGIN / 2
    curriculum = Curriculum(replace(aim(world), units=units), world.left_s)
    world.run(curriculum)
    assert bool(curriculum.accepted) is kept
