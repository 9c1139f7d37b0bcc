"""What a final measurement says of those that took part."""

from dovetail.core.measurement import Measurement
from dovetail.core.outcome import CandidateRecord, Fate, Infeasible
from dovetail.core.recipe import Recipe, freeze
from dovetail.measure.arena import Duel
from dovetail.pipeline.judging import Judge


def record(name: str) -> CandidateRecord:
    recipe = Recipe(runtime="null", options=freeze({"name": name}))
    return CandidateRecord(recipe=recipe, label=name, fate=Fate.FINALIST, reason="")


def test_what_crashed_in_a_later_round_is_infeasible_however_fast_it_was_before(job):
    base, crashed = record("base"), record("crashed")
    keys = [r.recipe.key for r in (base, crashed)]
    crash = Infeasible(stage="block", reason="the process was ended by SIGSEGV")
    found = Duel(
        measurements={key: Measurement(block_medians_s=((1e-3,),) * 7, calls=700, quantiles_s={}) for key in keys},
        rounds=({keys[0]: 1e-3, keys[1]: 1e-4},) * 7,
        failures={keys[1]: crash},
        calls_s=dict.fromkeys(keys, ()),
        seconds=9.0,
        clock_ratio=0.7,
        throttled_s=2.0,
    )
    judge = Judge(job, found, keys[0], base.label, 1)
    assert judge.certified(crashed, None).infeasible == crash
    kept = judge.certified(base, None)
    (note,) = kept.measurement.notes
    assert kept.infeasible is None and "clock ended at 70%" in note and "quota" in note
