"""Renders a result as JSON with a stable schema.

The document is ``core.serial.encode`` of a :class:`~dovetail.core.outcome.FitResult`, field by field under the same names in
SI units, with these additions:

| where | key | what |
|---|---|---|
| top | ``schema`` | version of this layout, 1; raised when a key changes its meaning or goes |
| top | ``kind`` | ``fit_result`` |
| top | ``verdict`` | the answer in words |
| top | ``fates`` | fate → number of candidates |
| each candidate | ``key`` | hash of its recipe, to which ``winner``, ``front`` and the baselines refer |
| each candidate | ``name`` | label, or the recipe in words |
| each candidate | ``latency_s``, ``throughput_per_s``, ``memory_bytes`` | best known figure, ``null`` when unknown |

A number that is absent, NaN or infinite is ``null``. ``schema/fit_result.schema.json`` describes it as a JSON Schema (draft
2020-12); keys may be added within a version, so readers ignore those they do not know.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from dovetail.core.outcome import CandidateRecord, FitResult
from dovetail.core.serial import encode
from dovetail.report import phrases, view

SCHEMA = 1


def to_json(result: FitResult) -> dict[str, Any]:
    """The result as plain JSON values, see the module's text for the layout."""
    document: dict[str, Any] = {"schema": SCHEMA, "kind": "fit_result", "verdict": view.answer(result).word}
    document |= encode(result)
    document["fates"] = {fate.value: n for fate, n in view.fate_counts(result.candidates)}
    document["candidates"] = [_candidate(c) for c in result.candidates]
    return document


def json_schema() -> dict[str, Any]:
    """The JSON Schema of :func:`to_json`."""
    text = (files("dovetail.report") / "schema" / "fit_result.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _candidate(record: CandidateRecord) -> dict[str, Any]:
    latency = record.latency_s
    best = record.measurement or record.screening
    rate = best.throughput_per_s if best is not None and latency else None
    derived = {"latency_s": latency, "throughput_per_s": rate, "memory_bytes": record.memory_bytes}
    return {"key": record.recipe.key, "name": phrases.name(record), **encode(derived), **encode(record)}
