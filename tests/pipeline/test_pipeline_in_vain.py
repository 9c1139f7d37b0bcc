"""Why training did not change the answer, in a sentence."""

import pytest

from dovetail.core.measurement import Environment, Interval
from dovetail.core.outcome import CandidateRecord, Fate, FitResult, FitStatus, Infeasible, Quality
from dovetail.core.recipe import PassSpec, Recipe
from dovetail.pipeline.in_vain import in_vain
from dovetail.search.curriculum import upon
from dovetail.search.space import STRUCTURAL, Proposal, shapes, spec

PLAIN = Recipe(passes=(), runtime="onnxruntime")
LESS, DISTIL = spec("prune_channels", ratio=0.3), spec("distil", epochs=3)


def record(*passes: PassSpec, speedup: float = 0.0, drop: float | None = None, refused: str = "") -> CandidateRecord:
    proposal = Proposal(
        recipe=PLAIN, label="float", baseline=False, family="", twin="", quality_key="", gain=(1, 1), lossless=True
    )
    made = upon(passes, proposal) if passes else proposal
    near = Interval(point=speedup, low=speedup, high=speedup)
    lost = None if drop is None else Interval(point=drop, low=drop, high=drop)
    return CandidateRecord(
        recipe=made.recipe,
        label=made.label,
        fate=Fate.TOO_SLOW,
        reason="slower than the answer",
        speedup=near if speedup else None,
        quality=None if lost is None else Quality(split="selection", n=100, value=0.9, reference=0.9, drop=lost),
        infeasible=Infeasible(stage="build", reason=refused) if refused else None,
    )


def told(*records: CandidateRecord, winner: Recipe = PLAIN) -> str:
    machine = Environment(fingerprint="", cpu="", cores=2, isa=(), memory_bytes=1e9, os="", python="")
    return in_vain(
        FitResult(
            status=FitStatus.CERTIFIED, headline="", beats_baseline=True, winner=winner.key, best_baseline="",
            default_baseline="", candidates=(record(speedup=1.0), *records), front=(), objective="latency", metric="accuracy",
            max_drop="1pp", model_name="", model_hash="", workload=None, environment=machine, splits={}, ledger=(), margin=0.01,
        )
    )  # fmt: skip


def test_a_trained_answer_needs_no_word() -> None:
    trained = record(LESS, DISTIL, speedup=2.0, drop=0.001)
    assert told(trained, winner=trained.recipe) == ""


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ((), "training had nothing to do: nothing can be taken away from this network"),
        ((record(LESS, refused="no channels: GRU 'g' starts from 's'"),), "nothing to do: no channels: GRU 'g' starts"),
        ((record(LESS, speedup=1.04, drop=0.2),), "channels −0.3 → float, the fastest smaller network, is at 1.04×"),
        (
            (record(LESS, speedup=1.4, drop=0.2), record(LESS, DISTIL, speedup=1.4, drop=0.02)),
            "channels −0.3 → 3 epochs → float is at 1.40× and loses 2.00 pp (1pp permitted)",
        ),
        (
            (record(LESS, refused="GRU 'g' starts from 's'"), record(DISTIL, speedup=1.0, drop=0.0)),
            "3 epochs → float is at 1.00× and loses nothing: slower than the answer; nothing could be taken away: GRU 'g'",
        ),
        (
            (record(LESS, DISTIL, speedup=1.4, drop=0.002), record(LESS, LESS, DISTIL, speedup=2.0, drop=0.02)),
            "channels −0.3 → 3 epochs → float is at 1.40× and loses 0.20 pp: slower than the answer",
        ),
    ],
)  # fmt: skip
def test_what_was_tried_says_why(records: tuple[CandidateRecord, ...], words: str) -> None:
    assert words in told(*records)


def test_structural_passes_are_those_that_are_tried() -> None:
    both = shapes(frozenset({"Add", "Conv"})), shapes(frozenset({"Add", "MatMul", "Softmax", "LayerNormalization"}))
    assert {step.name for found in both for ladder in found.values() for step in ladder} == STRUCTURAL
