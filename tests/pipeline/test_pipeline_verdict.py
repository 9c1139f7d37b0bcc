"""The answer is a pure function of certificates; a missing number never satisfies anything."""

import math
from dataclasses import replace

import pytest

from dovetail.certify.speed import limit_certificate
from dovetail.core.certificate import Certificate, Verdict
from dovetail.core.constraint import Constraint
from dovetail.core.measurement import Interval, Measurement
from dovetail.core.outcome import CandidateRecord, Fate, FitStatus, Infeasible, Quality
from dovetail.core.recipe import Recipe, freeze
from dovetail.pipeline.verdict import Answer, cost, decide, front_points, improves, limits_hold
from dovetail.search.pareto import front

CERTIFIED, REFUTED = Verdict.CERTIFIED, Verdict.REFUTED
CANNOT, EQUAL = Verdict.CANNOT_CERTIFY, Verdict.NOT_DISTINGUISHABLE


def certificate(kind: str, verdict: Verdict, interval: Interval | None = None, reason: str = "") -> Certificate:
    claim = f"the claim on {kind}"
    return Certificate(claim=claim, kind=kind, verdict=verdict, method="m", n=9, alpha=0.05, interval=interval, reason=reason)


def speed(ratio: float, verdict: Verdict = CERTIFIED) -> Certificate:
    return certificate("speed", verdict, Interval(point=ratio, low=ratio * 0.97, high=ratio * 1.03))


def quality(verdict: Verdict, drop: float = 0.0, reason: str = "") -> Certificate:
    return certificate("quality", verdict, Interval(point=drop, low=drop - 0.01, high=drop + 0.01), reason)


def limit(metric: str, verdict: Verdict, value: float | None = None) -> Certificate:
    """A judged limit as the finals file it; ``value`` is what was measured, ``None`` when nothing was."""
    constraint = Constraint(metric=metric, bound=1.0, at_least=metric == "throughput_per_s")
    interval = None if value is None else Interval(point=value, low=value, high=value)
    return replace(limit_certificate(constraint, interval, n=9), verdict=verdict)


def measured(seconds: float | None, memory: float | None = 1e8) -> Measurement | None:
    if seconds is None:
        return None
    return Measurement(block_medians_s=((seconds,),) * 6, calls=600, quantiles_s={"0.5": seconds}, peak_memory_bytes=memory)


def candidate(
    name: str,
    seconds: float | None = 0.5e-3,
    *certificates: Certificate,
    size: float | None = 1e6,
    baseline: bool = False,
    **known: object,
) -> CandidateRecord:
    return CandidateRecord(
        recipe=Recipe(runtime="null", options=freeze({"name": name})),
        fate=Fate.FINALIST,
        reason="",
        label=name,
        is_baseline=baseline,
        size_bytes=size,
        measurement=measured(seconds),
        certificates=certificates,
        **known,
    )


BASELINE = candidate("baseline", 1e-3, baseline=True)


def answer(*finalists: CandidateRecord, baseline: CandidateRecord = BASELINE, **wishes: object) -> Answer:
    usual: dict[str, object] = {"objective": "latency", "judged": True, "margin": 0.01}
    return decide(finalists, baseline, **{**usual, **wishes})


def named(result: Answer, *records: CandidateRecord) -> str:
    return next((r.label for r in (*records, BASELINE) if r.recipe.key == result.winner), "")


# -- quality and speed ---------------------------------------------------------------------------------------------------


def test_certified_quality_and_speed_win():
    good = candidate("good", 0.5e-3, quality(CERTIFIED), speed(2.0))
    result = answer(good)
    assert (result.status, result.beats, named(result, good)) == (FitStatus.CERTIFIED, True, "good")
    assert "2.00× faster" in result.headline


def test_the_fastest_certified_one_wins_not_the_fastest():
    fastest = candidate("fastest", 0.2e-3, quality(REFUTED, 0.2), speed(5.0))
    doubtful = candidate("doubtful", 0.3e-3, quality(CANNOT, 0.005), speed(3.3))
    fast = candidate("fast", 0.4e-3, quality(CERTIFIED), speed(2.5))
    slower = candidate("slower", 0.5e-3, quality(CERTIFIED), speed(2.0))
    result = answer(slower, doubtful, fastest, fast)
    assert (result.status, named(result, fast, slower, doubtful, fastest)) == (FitStatus.CERTIFIED, "fast")


def test_too_few_data_to_certify_is_best_effort_and_says_how_many_are_needed():
    small = candidate("small", 0.5e-3, quality(CANNOT, 0.0, "cannot certify: n = 20, needs about 800"), speed(2.0))
    result = answer(small)
    assert (result.status, result.beats, named(result, small)) == (FitStatus.BEST_EFFORT, True, "small")
    assert "needs about 800" in result.headline


@pytest.mark.parametrize(
    "judgement", [quality(REFUTED, 0.2), quality(REFUTED, 0.0), quality(CANNOT, 0.2), certificate("quality", CANNOT)]
)
def test_a_candidate_that_loses_too_much_or_shows_nothing_never_wins(judgement):
    result = answer(candidate("bad", 0.1e-3, judgement, speed(9.0)))
    assert (result.status, result.beats, named(result)) == (FitStatus.CERTIFIED, False, "baseline")
    assert "nothing beats the baseline" in result.headline
    assert "loses too much quality or cannot be certified" in result.headline


@pytest.mark.parametrize("verdict", [EQUAL, REFUTED, CANNOT])
def test_what_is_not_proved_faster_does_not_beat_the_baseline(verdict):
    result = answer(candidate("even", 0.99e-3, quality(CERTIFIED), speed(1.01, verdict)))
    assert (result.status, result.beats, named(result)) == (FitStatus.CERTIFIED, False, "baseline")
    assert "is not proved faster" in result.headline


def test_proved_slower_is_not_faster():
    slower = candidate("slower", 2e-3, quality(CERTIFIED), speed(0.5))
    assert not improves(slower, BASELINE, "latency")
    assert named(answer(slower)) == "baseline"


def test_a_candidate_without_a_speed_certificate_does_not_win():
    assert named(answer(candidate("unmeasured", 0.1e-3, quality(CERTIFIED)))) == "baseline"


def test_an_infeasible_finalist_is_out():
    lost = candidate("lost", 0.1e-3, quality(CERTIFIED), speed(9.0), infeasible=Infeasible(stage="measure", reason="killed"))
    result = answer(lost)
    assert named(result, lost) == "baseline"
    assert "nothing beats the baseline" in result.headline


def test_a_baseline_that_is_not_certified_itself_is_best_effort():
    lossy = candidate("bf16", 1e-3, quality(CANNOT, 0.0), baseline=True)
    assert answer(baseline=lossy).status is FitStatus.BEST_EFFORT


def test_without_data_an_answer_is_best_effort_and_says_so():
    clean = candidate("clean", 0.5e-3, speed(2.0))
    result = answer(clean, judged=False, margin=None)
    assert (result.status, result.beats) == (FitStatus.BEST_EFFORT, True)
    assert "quality not certified" in result.headline
    assert answer(judged=False, margin=None).status is FitStatus.BEST_EFFORT


def test_without_a_certification_split_an_observed_drop_makes_best_effort_at_most():
    def seen(drop: float) -> CandidateRecord:
        interval = Interval(point=drop, low=drop - 0.01, high=drop + 0.01)
        found = Quality(split="selection", n=50, value=0.9, reference=0.9, drop=interval)
        return candidate("seen", 0.5e-3, speed(2.0), quality=found)

    assert answer(seen(0.0)).status is FitStatus.BEST_EFFORT
    assert answer(seen(0.0)).beats
    assert not answer(seen(0.05)).beats


# -- limits --------------------------------------------------------------------------------------------------------------

LATENCY = Constraint(metric="latency_s", bound=0.4e-3)


def test_a_missed_limit_is_infeasible_with_the_nearest_relaxation():
    slow = candidate("slow", 0.5e-3, quality(CERTIFIED), speed(2.0), limit("latency_s", REFUTED, 0.5e-3))
    original = candidate("original", 1e-3, limit("latency_s", REFUTED, 1e-3), baseline=True)
    result = answer(slow, baseline=original, constraints=[LATENCY])
    assert (result.status, result.winner, result.beats) == (FitStatus.INFEASIBLE, "", False)
    assert result.relaxation == "latency=500µs"


@pytest.mark.parametrize("judgement", [quality(REFUTED, 0.2), quality(CANNOT, 0.2)])
def test_a_relaxation_never_comes_from_a_candidate_that_loses_too_much(judgement):
    lossy = candidate("lossy", 0.5e-3, judgement, speed(2.0), limit("latency_s", REFUTED, 0.5e-3))
    original = candidate("original", 1e-3, limit("latency_s", REFUTED, 1e-3), baseline=True)
    assert answer(lossy, baseline=original, constraints=[LATENCY]).relaxation == "latency=1ms"


@pytest.mark.parametrize("verdict", [CANNOT, EQUAL, REFUTED])
def test_a_limit_that_cannot_be_told_is_not_met(verdict):
    record = candidate("fast", 0.1e-3, quality(CERTIFIED), speed(9.0), limit("latency_s", verdict))
    assert not limits_hold(record)
    original = candidate("original", 1e-3, limit("latency_s", REFUTED), baseline=True)
    assert answer(record, baseline=original, constraints=[LATENCY]).status is FitStatus.INFEASIBLE


def test_a_candidate_within_the_limits_wins_over_a_faster_one_outside():
    fat = candidate("fat", 0.2e-3, quality(CERTIFIED), speed(5.0), limit("size_bytes", REFUTED))
    lean = candidate("lean", 0.5e-3, quality(CERTIFIED), speed(2.0), limit("size_bytes", CERTIFIED))
    assert named(answer(fat, lean), fat, lean) == "lean"


def lean(*certificates: Certificate, **known: object) -> CandidateRecord:
    return candidate("lean", 2e-3, *certificates, speed(0.5), limit("size_bytes", CERTIFIED, 1e5), **known)


FAT = candidate("fat", 1e-3, limit("size_bytes", REFUTED, 1e6), baseline=True)


def test_a_slower_candidate_answers_when_it_alone_meets_the_limits():
    small = lean(quality(CERTIFIED))
    result = answer(small, baseline=FAT)
    assert (result.status, result.beats, named(result, small)) == (FitStatus.CERTIFIED, False, "lean")
    assert "meets the limits" in result.headline


def test_meeting_the_limits_is_best_effort_while_quality_is_not_certified():
    small = lean(quality(CANNOT, 0.0, "cannot certify: n = 20, needs about 800"))
    result = answer(small, baseline=FAT)
    assert (result.status, result.beats, named(result, small)) == (FitStatus.BEST_EFFORT, False, "lean")
    assert "needs about 800" in result.headline
    result = answer(lean(), baseline=FAT, judged=False, margin=None)
    assert result.status is FitStatus.BEST_EFFORT
    assert "quality not certified" in result.headline


@pytest.mark.parametrize("judgement", [(quality(REFUTED, 0.2),), (quality(CANNOT, 0.2),), ()])
def test_meeting_the_limits_does_not_excuse_a_loss_of_quality(judgement):
    assert answer(lean(*judgement), baseline=FAT).status is FitStatus.INFEASIBLE


def test_relaxations_name_every_missed_limit_and_nothing_else():
    constraints = [
        Constraint(metric="latency_s", bound=0.4e-3),
        Constraint(metric="size_bytes", bound=2e6),
        Constraint(metric="memory_bytes", bound=5e7),
        Constraint(metric="throughput_per_s", bound=5000, at_least=True),
    ]
    measured_limits = {"latency_s": 0.5e-3, "size_bytes": 1e6, "memory_bytes": 1e8, "throughput_per_s": 2000.0}
    slow = candidate("slow", 0.5e-3, quality(CERTIFIED), *(limit(m, REFUTED, v) for m, v in measured_limits.items()))
    original = candidate("original", 1e-3, limit("latency_s", REFUTED, 1e-3), baseline=True)
    relaxation = answer(slow, baseline=original, constraints=constraints).relaxation
    assert relaxation == "latency=500µs, memory=100MB, throughput=2000/s"


def test_a_relaxation_never_comes_from_a_missing_number():
    nothing = candidate("nothing", None, quality(CERTIFIED), limit("latency_s", CANNOT), size=None)
    original = candidate("original", None, limit("latency_s", CANNOT), baseline=True, size=None)
    result = answer(nothing, baseline=original, constraints=[LATENCY, Constraint(metric="size_bytes", bound=1.0)])
    assert result.status is FitStatus.INFEASIBLE
    assert result.relaxation == ""


# -- other objectives ----------------------------------------------------------------------------------------------------


def test_the_smallest_wins_when_size_is_the_objective():
    small = candidate("small", 2e-3, quality(CERTIFIED), speed(0.5), size=2e5)
    fast = candidate("fast", 0.5e-3, quality(CERTIFIED), speed(2.0), size=9e5)
    result = answer(small, fast, objective="size")
    assert (result.status, named(result, small, fast)) == (FitStatus.CERTIFIED, "small")
    assert "5.00× smaller size" in result.headline


@pytest.mark.parametrize("objective", ["latency", "throughput", "size", "memory"])
def test_a_record_without_the_number_never_wins(objective):
    empty = candidate("empty", None, quality(CERTIFIED), size=None)
    assert cost(empty, objective) == math.inf
    assert not improves(empty, BASELINE, objective)
    assert named(answer(empty, objective=objective), empty) == "baseline"


def test_a_record_without_a_number_stands_on_no_front():
    empty, unjudged = candidate("empty", None), candidate("unjudged", 0.1e-3)
    points = front_points([empty, unjudged, BASELINE], judged=True)
    assert points[BASELINE.recipe.key] == (1e-3, 0.0, 1e6)
    assert front(points) == (BASELINE.recipe.key,)


def test_the_drop_on_the_front_is_the_certified_one():
    record = candidate("good", 0.5e-3, quality(CERTIFIED, 0.004))
    assert front_points([record], judged=True)[record.recipe.key] == (0.5e-3, 0.004, 1e6)
    assert front_points([candidate("clean", 0.5e-3)], judged=False).popitem()[1] == (0.5e-3, 0.0, 1e6)


def test_a_slower_baseline_answers_when_it_alone_meets_the_limits():
    missing = candidate("fast baseline", 1e-3, limit("memory_bytes", REFUTED, 2.0), baseline=True)
    meeting = candidate("slow baseline", 2e-3, limit("memory_bytes", CERTIFIED, 0.5), baseline=True)
    found = answer(baseline=missing, others=[meeting])
    assert found.status is FitStatus.CERTIFIED and found.winner == meeting.recipe.key and not found.beats
    assert "which the faster baseline fast baseline misses" in found.headline


def test_less_memory_than_every_baseline_is_what_wins_by_memory():
    def of(name, memory, *certificates, baseline=False):
        return replace(candidate(name, 1e-3, *certificates, baseline=baseline), measurement=measured(1e-3, memory))

    fast, small = of("fast", 2e8, baseline=True), of("small", 1e8, baseline=True)
    challenger = of("challenger", 1.5e8, quality(CERTIFIED), speed(1.0, EQUAL))
    found = answer(challenger, baseline=fast, others=[small], objective="memory")
    assert not found.beats and found.winner == small.recipe.key
