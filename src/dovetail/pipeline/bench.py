"""Times runs against each other outside a search: ``dovetail bench`` and ``dovetail explain``."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dovetail import plugins
from dovetail.certify.speed import ratio_interval, speed_certificate
from dovetail.core.certificate import Certificate
from dovetail.core.energy import MeasuredEnergy
from dovetail.core.errors import InputError
from dovetail.core.explanation import Explanation
from dovetail.core.measurement import Environment, Interval, Measurement
from dovetail.core.outcome import Infeasible
from dovetail.core.profile import Profile
from dovetail.core.protocols import Model
from dovetail.core.recipe import Recipe, Scalar, freeze
from dovetail.devices.probe import environment
from dovetail.explain.compare import explain as compare
from dovetail.export.artifact import MANIFEST, read_manifest, variant_model
from dovetail.measure.arena import Conditions, Contestant, Runner, duel
from dovetail.measure.child import ChildFailure
from dovetail.measure.lock import measuring
from dovetail.pipeline import metering
from dovetail.pipeline.artifacts import pick
from dovetail.pipeline.describe import analyze_file, timing_conditions
from dovetail.pipeline.finals import quantiles
from dovetail.report.progress import Progress, SilentProgress

_FORMATS = {".xml": ("openvino", "openvino"), ".tflite": ("litert", "litert")}
"""File ending → format, and the runtime that is usual for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One run of a bench.

    Attributes:
        label: as the user wrote it.
        speedup: baseline's time over this one's; ``None`` for the baseline itself.
    """

    label: str
    recipe: Recipe
    measurement: Measurement | None
    speedup: Interval | None
    certificate: Certificate | None
    infeasible: Infeasible | None
    energy: MeasuredEnergy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """All runs of a bench, the baseline first.

    Attributes:
        energy_note: how energy was measured, or why it is not known.
    """

    runs: tuple[Timed, ...]
    environment: Environment
    rounds: int
    energy_note: str = ""


def parse_run(text: str) -> Contestant:
    """``MODEL[@RUNTIME[:OPTION=VALUE,…]]`` or ``ARTIFACT[@VARIANT]``.

    Raises:
        InputError: no such file, runtime, variant or option.
    """
    path, _, rest = text.partition("@")
    folder = Path(path)
    if (folder / MANIFEST).exists():
        variant = pick(read_manifest(folder), rest or None, folder)
        return Contestant(recipe=variant.recipe, model=variant_model(folder, variant))
    if not folder.is_file():
        raise InputError("there is no such model file or artifact", where=text)
    name, _, options = rest.partition(":")
    form, usual = _FORMATS.get(folder.suffix, ("onnx", "onnxruntime"))
    runtime = name or usual
    plugins.runtime(runtime)
    return Contestant(recipe=Recipe(runtime=runtime, options=freeze(_options(options))), model=Model(path=folder, format=form))


def _options(text: str) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{part!r} is not OPTION=VALUE", hint="for example model.onnx@onnxruntime:threads=1")
        found[name] = _scalar(value)
    return found


def _scalar(text: str) -> Scalar:
    words: dict[str, Scalar] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text


def bench(
    runs: Sequence[str], *, data: Any = None, batch: int = 1, rounds: int = 6, progress: Progress | None = None
) -> BenchResult:
    """Measures runs in fresh processes with interleaved blocks; the first is the baseline.

    A single model is timed in the runtime that is usual for it and in OpenVINO.

    Raises:
        InputError: a run cannot be parsed, or the baseline cannot run.
    """
    progress = progress or SilentProgress()
    bare = len(runs) == 1 and "@" not in runs[0] and Path(runs[0]).is_file()
    texts = [*runs, f"{runs[0]}@openvino"] if bare and parse_run(runs[0]).recipe.runtime != "openvino" else list(runs)
    contestants = [replace(parse_run(text), name=f"{number}: {text}") for number, text in enumerate(texts)]
    conditions = _conditions(contestants[0], data, batch)
    progress.stage("measure", rounds)
    with measuring(progress.note):
        found = duel(
            contestants,
            conditions,
            rounds=rounds,
            quantiles=quantiles,
            on_round=lambda: progress.advance(1, "fresh processes measured"),
        )
        ran = [contestant for contestant in contestants if contestant.key in found.measurements]
        energy = metering.energies(ran, conditions, progress)
    baseline = contestants[0].key
    if baseline in found.failures:
        raise InputError(found.failures[baseline].reason, where=texts[0])
    machine = environment()
    timed = []
    for text, contestant in zip(texts, contestants, strict=True):
        key = contestant.key
        ratios = found.log_ratios(key, baseline)
        judged = key != baseline and len(ratios) > 1
        timed.append(
            Timed(
                label=text,
                recipe=contestant.recipe,
                measurement=found.measurements.get(key),
                speedup=ratio_interval(ratios) if judged else None,
                certificate=speed_certificate(ratios, environment=machine.fingerprint) if judged else None,
                infeasible=found.failures.get(key),
                energy=energy.by_key.get(key),
            )
        )
    return BenchResult(runs=tuple(timed), environment=machine, rounds=rounds, energy_note=energy.note)


def explain(baseline: str, candidate: str, *, data: Any = None) -> Explanation:
    """Profiles two runs and compares them operator by operator.

    Raises:
        InputError: a run cannot be parsed or run, or its runtime cannot tell where its time goes.
    """
    first, second = parse_run(baseline), parse_run(candidate)
    conditions = _conditions(first, data, 1)
    with measuring():
        profiles = [_profile(run, conditions, text) for run, text in ((first, baseline), (second, candidate))]
    workload = analyze_file(first.model.path, {}) if first.model.format == "onnx" else None
    return compare(profiles[0], profiles[1], workload, environment())


def _conditions(run: Contestant, data: Any, batch: int) -> Conditions:
    return timing_conditions(run.model, data, batch, run.recipe.runtime)


def _profile(run: Contestant, conditions: Conditions, text: str) -> Profile:
    try:
        with Runner(run, conditions) as runner:
            profile = runner.profile()
    except ChildFailure as exc:
        raise InputError(exc.outcome.reason, where=text) from exc
    if profile is None:
        raise InputError(f"{run.recipe.runtime} cannot tell where its time goes", where=text)
    return profile
