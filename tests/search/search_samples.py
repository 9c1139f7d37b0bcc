"""Machines, spaces and records that searches are tried on, made without running anything."""

import math
from collections.abc import Mapping

from dovetail.core.measurement import Environment, Interval, Measurement
from dovetail.core.outcome import CandidateRecord, Fate, Infeasible, Quality
from dovetail.core.protocols import Knob
from dovetail.search.goal import Goal, Strategy
from dovetail.search.race import Race
from dovetail.search.space import Proposal, Traits, enumerate_space

KNOBS = {
    "onnxruntime": (
        Knob(name="threads", default=None, choices=(None, 2, 1)),
        Knob(name="io_binding", default=False, choices=(False, True)),
        Knob(name="spinning", default=True, choices=(True, False)),
    ),
    "openvino": (
        Knob(name="threads", default=None, choices=(None, 2, 1)),
        Knob(name="precision", default="f32", choices=("f32", "bf16"), lossless=False),
    ),
}
FORMATS = {"onnxruntime": frozenset({"onnx"}), "openvino": frozenset({"onnx", "openvino"})}
CNN = frozenset({"Conv", "Relu", "Gemm", "Add"})


def machine(*isa: str) -> Environment:
    return Environment(
        fingerprint="f", cpu="made up", cores=2, isa=isa, memory_bytes=8e9, os="linux", python="3.11", versions={}
    )


def traits(**changes: object) -> Traits:
    usual = {"kinds": CNN, "quantised": False, "free_dims": {}, "has_calibration": True, "lossless_only": False}
    return Traits(**{**usual, **changes})


def space(environment: Environment | None = None, **changes: object) -> tuple[Proposal, ...]:
    return enumerate_space(traits(**changes), environment or machine("avx2", "avx512_vnni"), KNOBS, FORMATS)


def race(goal: Goal | None = None, strategy: Strategy = Strategy.RACE, **changes: object) -> Race:
    return Race(space(**changes), goal or Goal(margin=0.01, certification_units=5000), strategy=strategy)


def drop(point: float, half: float = 0.002, n: int = 2000) -> Quality:
    interval = Interval(point=point, low=point - half, high=point + half)
    return Quality(split="selection", n=n, value=0.9 - point, reference=0.9, drop=interval)


def record(proposal: Proposal, speedup: float | None = 1.0, **known: object) -> CandidateRecord:
    """What became of a proposal; ``speedup`` None leaves it without any measurement."""
    timed: Mapping[str, object] = {}
    if speedup is not None:
        blocks = ((1e-3 / speedup,),)
        measured = Measurement(block_medians_s=blocks, calls=100, quantiles_s={}, peak_memory_bytes=1e8 / speedup)
        interval = Interval(point=speedup, low=speedup * math.exp(-0.03), high=speedup * math.exp(0.03))
        timed = {"speedup": interval, "screening": measured, "size_bytes": 1e6}
    fate = Fate.BASELINE if proposal.baseline else Fate.RUNNER_UP
    known = {**timed, **known}
    return CandidateRecord(
        recipe=proposal.recipe, label=proposal.label, fate=fate, reason="", is_baseline=proposal.baseline, **known
    )


def broken(proposal: Proposal) -> CandidateRecord:
    return record(proposal, None, infeasible=Infeasible(stage="build", reason="the process was ended by SIGSEGV"))
