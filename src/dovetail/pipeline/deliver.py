"""Writes the artifact: variants, evidence, report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dovetail import plugins
from dovetail.core.artifact import BASELINE, SCHEMA_VERSION, Manifest
from dovetail.core.outcome import CandidateRecord, FitResult, Infeasible
from dovetail.core.serial import encode
from dovetail.data.dataset import open_split
from dovetail.export.artifact import Entry, write_artifact
from dovetail.export.samples import samples_row
from dovetail.export.trained import trained_files
from dovetail.measure.arena import Duel
from dovetail.pipeline.builder import Builder
from dovetail.pipeline.job import Job
from dovetail.report.html import render_html
from dovetail.report.json import to_json


def deliver(job: Job, builder: Builder, result: FitResult, duel: Duel, out: Path) -> FitResult:
    """Writes the artifact folder; the result that is returned names it.

    An infeasible answer leaves a report, but no model that could be taken for one.
    """
    entries = list(_entries(builder, result)) if result.winner else []
    alone = bool(entries) and entries[0].session_source is not None
    written = replace(result, artifact=str(out) if result.winner else "", runs_alone=alone)
    texts = {
        "report.html": render_html(written),
        "report.json": json.dumps(to_json(written), indent=1, ensure_ascii=False),
    }
    write_artifact(out, _manifest(job, written), entries, _evidence(job, written, duel), texts)
    return written


def _entries(builder: Builder, result: FitResult) -> Iterator[Entry]:
    """The answer first, other certified variants, and always the original; and the best baseline's file if it is another."""
    names: set[str] = set()
    for key in result.front:
        record = result.record(key)
        name = _variant_name(record, result)
        if name not in names and result.winner:
            names.add(name)
            yield _entry(builder, record, name)
    if "original" not in names:
        original = result.record(result.default_baseline)
        yield _entry(builder, original, "original")
        best = result.record(result.best_baseline)
        if builder.original(best.recipe) != builder.original(original.recipe):
            yield _entry(builder, best, BASELINE)


def _variant_name(record: CandidateRecord, result: FitResult) -> str:
    if record.is_baseline:
        return "original"
    if record.recipe.key == result.winner:
        return "answer"
    sizes = [result.record(key).size_bytes or math.inf for key in result.front]
    return "smallest" if record.size_bytes == min(sizes) else f"variant-{record.recipe.key[:8]}"


def _entry(builder: Builder, record: CandidateRecord, name: str) -> Entry:
    built = builder.build(record.recipe)
    assert not isinstance(built, Infeasible), "what was measured can be built again"
    runtime = plugins.runtime(record.recipe.runtime)
    try:
        source = runtime.run_source(record.recipe.settings)
    except NotImplementedError:
        source = None
    return Entry(
        name=name,
        model=built.model,
        recipe=record.recipe,
        certificates=record.certificates,
        session_source=source,
        notes=record.notes,
        extras=_trained(builder, record),
    )


def _trained(builder: Builder, record: CandidateRecord) -> Mapping[str, bytes]:
    """The network behind the last pass that trained it, which later passes may have made into something untrainable."""
    passes = record.recipe.passes
    last = max((place for place, step in enumerate(passes, 1) if plugins.compression_pass(step.name).trains), default=0)
    if not last:
        return {}
    built = builder.build(replace(record.recipe, passes=passes[:last]))
    return {} if isinstance(built, Infeasible) else trained_files(built.model, passes[:last])


def _manifest(job: Job, result: FitResult) -> Manifest:
    return Manifest(
        schema=SCHEMA_VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        status=result.status.value,
        headline=result.headline,
        model_name=job.name,
        model_hash=job.model_hash,
        variants=(),
        files={},
        environment=job.environment,
        metric=result.metric,
        max_drop=result.max_drop,
        objective=result.objective,
        data_hashes=job.data_hashes,
        splits=result.splits,
        inputs=tuple(encode(spec) for spec in job.inputs),
        outputs=tuple(encode(spec) for spec in job.outputs),
        baseline=result.record(result.best_baseline).recipe,
        batch=job.wish.batch,
        call_shapes=job.call_shapes,
        values=job.values,
    )


def _evidence(job: Job, result: FitResult, duel: Duel) -> Iterator[Mapping[str, Any]]:
    """Raw samples: every round's median block per recipe, every block, the single calls; and which data were used for what."""
    for number, row in enumerate(duel.rounds):
        yield {"kind": "round", "round": number, "latency_s": dict(row)}
    for key, measurement in duel.measurements.items():
        yield {"kind": "blocks", "recipe": key, "label": result.record(key).label, "measurement": encode(measurement)}
        yield {"kind": "calls", "recipe": key, "calls_s": list(duel.calls_s[key])}
    for record in result.candidates:
        for certificate in record.certificates:
            yield {"kind": "certificate", "recipe": record.recipe.key, "certificate": encode(certificate)}
    for name, split in job.splits.items():
        if name != "timing":
            yield samples_row(name, open_split(split.folder).digests)
