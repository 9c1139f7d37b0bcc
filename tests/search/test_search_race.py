"""Ask/tell: what is tried next, what is dropped, who becomes a finalist. Nothing here runs a model."""

import math

import pytest
from search_samples import FORMATS, KNOBS, broken, drop, machine, race, record, traits

from dovetail.core.estimate import Estimate
from dovetail.core.outcome import Fate
from dovetail.core.protocols import Knob
from dovetail.core.source import Source, SourceKind
from dovetail.search.goal import Goal, Strategy
from dovetail.search.race import Race
from dovetail.search.space import enumerate_space


def play(subject, speed, quality=lambda proposal: None):
    """Tells the race what each recipe it asks for is like; returns the recipes in the order asked."""
    asked = []
    while (proposal := subject.ask()) is not None:
        asked.append(proposal)
        assert len(asked) <= len(subject.space), "the race asks for a recipe twice"
        speedup = speed(proposal)
        subject.tell(broken(proposal) if speedup is None else record(proposal, speedup, quality=quality(proposal)))
    return asked


def is_int8(proposal):
    return any(step.name.startswith("quantize") for step in proposal.recipe.passes)


def chain(subject, label, runtime="onnxruntime"):
    return next(p for p in subject.space if p.label == f"{label} · {runtime}")


# -- missing numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["latency", "throughput", "size", "memory"])
def test_a_record_without_a_number_never_ranks_and_never_wins(objective):
    subject = race(Goal(objectives=(objective,), margin=0.01, certification_units=5000))
    empty, full = chain(subject, "int8"), chain(subject, "int8 nncf qdq")
    baseline = subject.space[0]
    for proposal in (baseline, full):
        subject.tell(record(proposal, 1.5, quality=drop(0.0)))
    subject.tell(record(empty, None, quality=drop(0.0)))
    assert subject.goal.cost(subject.records[empty.recipe.key]) == math.inf
    for ranking in (subject.ranked(), subject.leaders(), subject.finalists(5), subject.baselines()):
        assert empty.recipe.key not in {r.recipe.key for r in ranking}
    assert not subject.promising(subject.records[empty.recipe.key])


def test_a_nan_speedup_is_a_missing_number():
    subject = race()
    proposal = chain(subject, "int8")
    subject.tell(record(subject.space[0], 1.0, quality=drop(0.0)))
    subject.tell(record(proposal, None, size_bytes=math.nan))
    assert Goal(objectives=("size",)).cost(subject.records[proposal.recipe.key]) == math.inf
    assert subject.ranked() == []


def test_a_failed_candidate_with_a_goal_and_limits_raises_nothing():
    """A failed candidate with a goal raises TypeError in another tool's search."""
    limited = Goal(margin=0.01, certification_units=5000, feasible=lambda r: (r.size_bytes or math.inf) < 1e9)
    subject = race(limited)
    asked = play(subject, lambda p: None if is_int8(p) else 1.0, lambda p: drop(0.0))
    assert any(is_int8(p) for p in asked)
    failed = next(p for p in asked if is_int8(p))
    assert subject.passes(subject.records[failed.recipe.key]) is False
    fates = {r.recipe.key: r for r in subject.fates({})}
    assert fates[failed.recipe.key].fate is Fate.INFEASIBLE
    assert "SIGSEGV" in fates[failed.recipe.key].reason


def test_when_everything_fails_the_race_still_ends():
    subject = race()
    play(subject, lambda proposal: None)
    assert subject.ranked() == subject.baselines() == subject.finalists(3) == []
    assert {r.fate for r in subject.fates({})} <= {Fate.INFEASIBLE, Fate.PREDICTED_OUT, Fate.OUT_OF_TIME}


# -- order ---------------------------------------------------------------------------------------------------------------


def test_baselines_of_every_runtime_come_before_any_candidate():
    asked = play(race(), lambda proposal: 1.0, lambda proposal: drop(0.0))
    first_candidate = next(i for i, p in enumerate(asked) if not p.baseline)
    assert {p.recipe.runtime for p in asked[:first_candidate]} == {"onnxruntime", "openvino"}


def test_a_race_ends_with_the_best_and_tries_a_part_of_the_space():
    def speed(proposal):
        options = dict(proposal.recipe.options)
        gain = 2.0 if is_int8(proposal) else 1.0
        return gain * (1.1 if options.get("threads") == 2 else 1.0) * (1.05 if options.get("io_binding") else 1.0)

    subject = race()
    asked = play(subject, speed, lambda proposal: drop(0.0))
    best = max(speed(p) for p in subject.space)
    assert speed(subject.proposal(subject.ranked()[0])) == pytest.approx(best)
    assert len(asked) < len(subject.space)


def test_what_is_dominated_even_at_its_best_is_not_tried():
    """On a runtime five times slower, no chain whose assumed gain is at most 1.5 can win."""
    subject = race()
    asked = play(subject, lambda p: 1.0 if p.recipe.runtime == "onnxruntime" else 0.2, lambda p: drop(0.0))
    slow = [p for p in asked if p.recipe.runtime == "openvino" and p.recipe.passes]
    assert all(p.gain[1] >= 4 for p in slow)
    reasons = {r.reason for r in subject.fates({}) if r.fate is Fate.PREDICTED_OUT}
    assert any("slower than what was measured" in reason for reason in reasons)


def test_a_slow_lossy_candidate_drops_nothing_that_is_measured_faster():
    subject = race()
    baseline, candidate = subject.space[0], chain(subject, "int8")
    subject.tell(record(baseline, 1.0))
    subject.tell(record(candidate, 3.0, quality=drop(0.2)))
    assert subject.passes(subject.records[candidate.recipe.key]) is False
    assert [r.recipe.key for r in subject.leaders()] == [baseline.recipe.key]
    fates = {r.recipe.key: r.fate for r in subject.fates({})}
    assert fates[candidate.recipe.key] is Fate.QUALITY


def test_other_constants_are_tried_only_where_quality_is_in_doubt():
    sure, doubtful = race(), race()
    for subject, loss in ((sure, 0.0), (doubtful, 0.012)):
        play(subject, lambda p: 2.0 if is_int8(p) else 1.0, lambda p, loss=loss: drop(loss if is_int8(p) else 0.0))
    labels = [{p.label for r in s.records.values() if (p := s.proposal(r))} for s in (sure, doubtful)]
    assert not any("percentile" in label for label in labels[0])
    assert any("percentile" in label for label in labels[1])


def test_other_constants_are_tried_where_the_first_does_not_run():
    subject = race()
    play(
        subject,
        lambda p: None if p.label.startswith("int8 ·") else 2.0 if is_int8(p) else 1.0,
        lambda p: drop(0.0),
    )
    assert any(subject.proposal(r).label.startswith("int8 percentile") for r in subject.records.values())


@pytest.mark.parametrize("strategy", [Strategy.RANDOM, Strategy.EXHAUSTIVE])
def test_the_strategies_of_comparison_try_everything_once(strategy):
    subject = race(strategy=strategy)
    asked = play(subject, lambda p: 1.0, lambda p: drop(0.0))
    assert sorted(p.recipe.key for p in asked) == sorted(p.recipe.key for p in subject.space)
    baselines = sum(p.baseline for p in subject.space)
    assert all(p.baseline for p in asked[:baselines])


def test_recipes_found_on_the_way_are_tried_too():
    subject = race()
    rest = subject.space.pop()
    subject._proposals.pop(rest.recipe.key)
    subject.extend([rest, rest])
    assert subject.space.count(rest) == 1
    subject.tell(record(rest, 1.0))
    assert subject.proposal(subject.records[rest.recipe.key]) is rest


# -- quality -------------------------------------------------------------------------------------------------------------


def test_a_recipe_without_quality_is_neither_passed_nor_failed():
    subject = race()
    proposal = chain(subject, "int8")
    subject.tell(record(subject.space[0], 1.0))
    subject.tell(record(proposal, 2.0))
    told = subject.records[proposal.recipe.key]
    assert subject.passes(told) is None
    assert subject.chance(told) == 0.0
    assert subject.ranked() == subject.finalists(3) == []


def test_recipes_with_the_same_outputs_share_their_quality():
    subject = race()
    proposal = chain(subject, "int8")
    other = next(p for p in subject.space if p.quality_key == proposal.quality_key and p is not proposal)
    subject.tell(record(proposal, 2.0, quality=drop(0.001)))
    subject.tell(record(other, 2.1))
    assert subject.quality_of(subject.records[other.recipe.key]) == drop(0.001)
    assert subject.passes(subject.records[other.recipe.key])


def test_a_lossless_recipe_that_was_seen_to_lose_quality_does_not_pass():
    """A runtime that computes something else is no baseline, whatever the recipe promises."""
    subject = race()
    wrong = chain(subject, "original", "openvino")
    assert wrong.lossless
    subject.tell(record(subject.space[0], 1.0, quality=drop(0.0)))
    subject.tell(record(wrong, 50.0, quality=drop(0.8)))
    assert subject.passes(subject.records[wrong.recipe.key]) is False
    assert [r.recipe.key for r in subject.baselines()] == [subject.space[0].recipe.key]


def test_without_a_margin_quality_is_not_asked_for():
    subject = race(Goal(), lossless_only=True, has_calibration=False)
    play(subject, lambda p: 1.2 if p.recipe.passes else 1.0)
    assert subject.ranked()
    assert subject.chance(subject.ranked()[0]) == 1.0


# -- finalists -----------------------------------------------------------------------------------------------------------


def told(subject, **seen):
    for label, (speedup, loss) in seen.items():
        proposal = chain(subject, label.replace("_", " "))
        subject.tell(record(proposal, speedup, quality=drop(loss)))
    return subject


def labels(subject, records):
    return [subject.proposal(r).label.partition(" · ")[0] for r in records]


def test_finalists_are_of_different_families_and_likely_to_certify():
    subject = told(race(), original=(1.0, 0.0), int8=(3.0, 0.009), int8_nncf_qdq=(2.5, 0.001), clean=(1.1, 0.0))
    tuned = next(p for p in subject.space if p.family == chain(subject, "int8 nncf qdq").family and p.recipe.options)
    subject.tell(record(tuned, 2.6, quality=drop(0.001)))
    assert labels(subject, subject.finalists(1)) == ["int8 nncf qdq"]
    assert labels(subject, subject.finalists(3)) == ["int8 nncf qdq", "clean"]


def test_the_last_place_goes_to_one_that_is_sure():
    subject = told(race(), original=(1.0, 0.0), int8=(3.0, 0.0078), int8_nncf_qdq=(2.5, 0.0078), clean=(1.2, 0.0))
    assert 0.5 <= subject.chance(subject.records[chain(subject, "int8").recipe.key]) < 0.9
    assert labels(subject, subject.finalists(2)) == ["int8", "clean"]


def test_where_nothing_can_be_certified_the_ones_that_lose_least_among_the_fastest_come_first():
    subject = race(Goal(margin=0.01, certification_units=4))
    seen = {"original": (1.0, 0.0), "int8": (2.02, 0.009), "int8 percentile": (2.0, 0.001), "int8 entropy": (1.99, 0.002),
            "int8 minmax": (1.98, 0.003), "int8 nncf qdq": (1.5, 0.0), "clean": (1.1, 0.0)}  # fmt: skip
    told(subject, **seen)
    finalists = labels(subject, subject.finalists(1))
    assert finalists == ["int8 percentile", "int8 entropy", "int8 minmax", "clean"]


def test_baselines_are_no_finalists():
    subject = told(race(), original=(1.0, 0.0))
    assert subject.finalists(3) == []
    assert labels(subject, subject.baselines()) == ["original"]


# -- what became of it -------------------------------------------------------------------------------------------------


def test_fates_cover_the_whole_space_with_a_reason_each():
    subject = race()
    play(subject, lambda p: 2.0 if is_int8(p) else 1.0, lambda p: drop(0.0))
    winner = subject.ranked()[0].recipe.key
    fates = subject.fates({winner: Fate.WINNER})
    assert {r.recipe.key for r in fates} == {p.recipe.key for p in subject.space}
    assert [r.recipe.key for r in fates if r.fate is Fate.WINNER] == [winner]
    told_so = (Fate.WINNER, Fate.BASELINE)
    assert all(r.reason or r.fate in told_so for r in fates)


def test_an_option_that_cost_time_once_is_not_tried_on_what_it_cannot_make_the_best():
    """Seen to lose a tenth with one recipe, it would have to gain with another to win."""

    def speed(proposal):
        gain = 2.0 if proposal.label.startswith("int8 ·") else 1.5 if proposal.recipe.passes else 1.0
        return gain * (0.9 if dict(proposal.recipe.options).get("io_binding") else 1.0)

    subject = race()
    tried = []
    while (proposal := subject.ask()) is not None:
        tried.append(proposal)
        subject.tell(record(proposal, speed(proposal), quality=drop(0.0)))
    bound = [p for p in tried if dict(p.recipe.options).get("io_binding")]
    assert len(bound) == 1


def test_an_option_that_gained_once_is_tried_with_every_recipe_it_could_make_the_best():
    def speed(proposal):
        gain = 2.0 if "int8" in proposal.label else 1.0
        return gain * (1.2 if dict(proposal.recipe.options).get("io_binding") else 1.0)

    subject = race()
    while (proposal := subject.ask()) is not None:
        subject.tell(record(proposal, speed(proposal), quality=drop(0.0)))
    best = [r for r in subject.ranked() if r.recipe.runtime == "onnxruntime" and r.speedup.point > 2.3]
    assert len({subject.proposal(r).family for r in best}) >= 2


def test_what_a_finished_race_passed_over_has_a_reason_and_is_not_out_of_time():
    subject = race()
    while (proposal := subject.ask()) is not None:
        subject.tell(record(proposal, 2.0 if proposal.recipe.passes else 1.0, quality=drop(0.0)))
    untried = [r for r in subject.fates({}) if r.recipe.key not in subject.records]
    assert untried and {r.fate for r in untried} == {Fate.PREDICTED_OUT}
    assert all(r.reason for r in untried)


def test_a_certain_finalist_needs_no_slower_one_beside_it():
    subject = race()
    fast, close, slow = (chain(subject, label) for label in ("int8", "int8 nncf qdq", "clean"))
    for proposal, speed in ((fast, 2.0), (close, 1.95), (slow, 1.2)):
        subject.tell(record(proposal, speed, quality=drop(0.0, half=0.0005)))
    chosen = subject.finalists(3)
    assert [r.recipe.key for r in subject.contenders(chosen)] == [fast.recipe.key, close.recipe.key]


def test_a_doubtful_finalist_keeps_the_slower_one_that_may_be_needed():
    subject = race()
    fast, slow = chain(subject, "int8"), chain(subject, "clean")
    subject.tell(record(fast, 2.0, quality=drop(0.006, half=0.003)))
    subject.tell(record(slow, 1.2, quality=drop(0.0, half=0.0005)))
    chosen = subject.finalists(3)
    assert len(chosen) == 2 and subject.contenders(chosen) == chosen


def test_where_nothing_can_be_certified_the_fastest_that_keeps_the_limit_stands_beside_the_best_unchanged_one():
    subject = race(Goal(margin=0.01, certification_units=4))
    fast, slow = chain(subject, "int8"), chain(subject, "clean")
    subject.tell(record(fast, 2.0, quality=drop(0.004, half=10.0, n=1)))
    subject.tell(record(slow, 1.2))
    assert [r.recipe.key for r in subject.finalists(1)] == [fast.recipe.key, slow.recipe.key]


def test_where_nothing_can_be_certified_what_was_seen_to_lose_too_much_is_no_finalist():
    subject = race(Goal(margin=0.01, certification_units=4))
    fast, slow = chain(subject, "int8"), chain(subject, "clean")
    subject.tell(record(fast, 2.0, quality=drop(0.015, half=10.0, n=1)))
    subject.tell(record(slow, 1.2))
    assert [r.recipe.key for r in subject.finalists(1)] == [slow.recipe.key]


def test_what_two_looks_cannot_tell_apart_is_as_fast_and_what_they_can_is_not():
    subject = race()
    default, close, slow = [p for p in subject.space if p.baseline and p.recipe.runtime == "onnxruntime"][:3]
    for proposal, speed in ((default, 1.0), (close, 1.08), (slow, 0.8)):
        subject.tell(record(proposal, speed))
    assert [r.recipe.key for r in subject.as_fast(subject.baselines())] == [close.recipe.key, default.recipe.key]


def test_threads_of_the_best_are_tried_before_further_graphs_where_their_effect_is_unknown():
    knobs = {**KNOBS, "litert": (Knob(name="threads", default=None, choices=(None, 2)),)}
    formats = {**FORMATS, "litert": frozenset({"litert"})}
    proposals = enumerate_space(traits(fixed_sizes=True), machine("avx2", "avx512_vnni"), knobs, formats)
    subject = Race(proposals, Goal(margin=0.01, certification_units=5000))
    order = []
    while len(order) < 12 and (proposal := subject.ask()) is not None:
        order.append(proposal)
        fast = proposal.recipe.runtime == "litert"
        threads = 1.4 if dict(proposal.recipe.options).get("threads") == 2 else 1.0
        subject.tell(record(proposal, (2.0 if fast else 1.0) * threads, quality=drop(0.0)))
    first = next(at for at, p in enumerate(order) if p.recipe.runtime == "litert")
    assert order[first + 1].family == order[first].family
    assert dict(order[first + 1].recipe.options) == {"threads": 2}
    assert order[first + 2].family != order[first].family  # known by now: no further graph is tried with it first


def test_a_runtime_that_uses_one_thread_by_itself_is_given_more_where_they_could_win():
    knobs = {**KNOBS, "litert": (Knob(name="threads", default=None, choices=(None, 2)),)}
    formats = {**FORMATS, "litert": frozenset({"litert"})}
    subject = Race(
        enumerate_space(traits(fixed_sizes=True), machine("avx2", "avx512_vnni"), knobs, formats),
        Goal(margin=0.01, certification_units=5000),
    )

    def speed(proposal):
        if proposal.recipe.runtime != "litert":
            return 1.5 if is_int8(proposal) and proposal.recipe.runtime == "openvino" else 1.0
        return 0.8 * (1.95 if dict(proposal.recipe.options).get("threads") == 2 else 1.0)

    asked = play(subject, speed, lambda proposal: drop(0.0))
    assert any(p.recipe.runtime == "litert" and dict(p.recipe.options).get("threads") == 2 for p in asked)
    assert subject.ranked()[0].recipe.runtime == "litert"


# -- forecasts -----------------------------------------------------------------------------------------------------------


def slow_runtimes(*names, low=2.0, high=4.0):
    """A forecast that knows recipes of some runtimes to be slower than those of others."""

    def forecast(recipe, measured):
        if recipe.runtime not in names or measured.runtime in names:
            return None
        source = Source(kind=SourceKind.DERIVED, ref="made for a test")
        return Estimate(value=(low * high) ** 0.5, low=low, high=high, source=source)

    return forecast


def foreseen(forecast):
    known = race()
    return Race(known.space, known.goal, forecast=forecast)


def test_a_forecast_saves_measurements_and_changes_no_answer():
    def speed(proposal):
        return 0.4 if proposal.recipe.runtime == "openvino" else 1.8 if is_int8(proposal) else 1.0

    blind, told = race(), foreseen(slow_runtimes("openvino"))
    asked = [play(subject, speed, lambda p: drop(0.0)) for subject in (blind, told)]
    assert len(asked[1]) < len(asked[0])
    assert told.ranked()[0].recipe == blind.ranked()[0].recipe
    left_out = [r for r in told.fates({}) if r.fate is Fate.PREDICTED_OUT and r.recipe.runtime == "openvino"]
    assert any("calibration" in r.reason for r in left_out)


def test_a_forecast_that_is_not_dominated_drops_nothing():
    def speed(proposal):
        return 2.5 if proposal.recipe.runtime == "openvino" and is_int8(proposal) else 1.0

    told = foreseen(slow_runtimes("openvino", low=0.3, high=30.0))
    play(told, speed, lambda p: drop(0.0))
    assert told.ranked()[0].recipe.runtime == "openvino"


def test_a_forecast_never_skips_the_usual_options_of_a_runtime():
    told = foreseen(slow_runtimes("openvino"))
    asked = play(told, lambda p: 1.0, lambda p: drop(0.0))
    plain = {p.recipe.runtime for p in asked if p.baseline and not p.recipe.options}
    assert plain == {p.recipe.runtime for p in told.space if p.baseline}


def test_options_that_cannot_make_the_original_the_fastest_are_not_tried_on_it():
    """A runtime four times as slow: one option may gain a factor of two, both together four."""

    def asked(slowness):
        subject, seen = race(), []
        while (proposal := subject._next_baseline()) is not None:
            seen.append(proposal)
            subject.tell(record(proposal, 1.0 / (slowness if proposal.recipe.runtime == "openvino" else 1.0)))
        return [dict(p.recipe.options) for p in seen if p.recipe.runtime == "openvino"]

    usual, two, one = {}, {"threads": 2}, {"threads": 1}
    assert asked(9.0) == [usual]
    assert asked(3.0) == [usual, {**two, "precision": "bf16"}]
    assert asked(1.5)[:2] == [usual, {"precision": "bf16"}] and two in asked(1.5) and one in asked(1.5)
