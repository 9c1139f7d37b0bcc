"""The JSON document: stable, described by its schema, and true to the core values."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
import sample

from dovetail.core import certificate, explanation, measurement, outcome, profile, workload
from dovetail.core.serial import decode
from dovetail.report.json import json_schema, to_json

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def conforms(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str = "$") -> None:
    """Checks a value against the part of JSON Schema that ours uses."""
    known = {"$ref", "$schema", "$defs", "title", "description", "type", "const", "enum", "anyOf", "items", "properties",
             "required", "additionalProperties"}  # fmt: skip
    assert set(schema) <= known, f"{where}: {set(schema) - known}"
    if "$ref" in schema:
        return conforms(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, where)
    if "anyOf" in schema:
        option = schema["anyOf"][1 if value is None else 0]
        return conforms(value, option, root, where)
    if "const" in schema:
        assert value == schema["const"], where
    if "enum" in schema:
        assert value in schema["enum"], where
    if "type" in schema:
        allowed = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert any(is_type(value, name) for name in allowed), f"{where}: {value!r} is not {allowed}"
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value), where
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            assert inner is not None, f"{where}.{key} is not described"
            conforms(item, inner, root, f"{where}.{key}")
    if isinstance(value, list):
        for i, item in enumerate(value):
            conforms(item, schema.get("items", {}), root, f"{where}[{i}]")
    return None


def is_type(value: Any, name: str) -> bool:
    if name in ("number", "integer"):
        return isinstance(value, int if name == "integer" else int | float) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


@pytest.mark.parametrize("name", sample.EVERY)
def test_every_result_conforms_to_the_schema(name: str) -> None:
    document = to_json(sample.EVERY[name]())
    conforms(document, json_schema(), json_schema())
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_schema_names_every_core_field() -> None:
    described = {**json_schema()["$defs"], "FitResult": json_schema()}
    for module in (outcome, certificate, explanation, measurement, profile, workload):
        for name, cls in vars(module).items():
            if name in described and isinstance(cls, type):
                missing = {f.name for f in fields(cls)} - set(described[name]["properties"])
                assert not missing, f"{name} lacks {missing} in the schema"


def test_convenience_fields_refer_to_recipes() -> None:
    result = sample.fit()
    document = to_json(result)
    by_key = {c["key"]: c for c in document["candidates"]}
    assert by_key[document["winner"]]["fate"] == "winner"
    assert by_key[document["winner"]]["latency_s"] == pytest.approx(142e-6, rel=0.05)
    assert document["schema"] == 1 and document["verdict"] == "Certified"
    assert sum(document["fates"].values()) == len(document["candidates"])


def test_unknown_numbers_are_null() -> None:
    document = to_json(sample.with_nan())
    assert next(c for c in document["candidates"] if c["fate"] == "winner")["latency_s"] is None


def test_without_the_additions_it_is_the_core_value() -> None:
    result = sample.fit()
    document = to_json(result)
    for key in ("schema", "kind", "verdict", "fates"):
        del document[key]
    for candidate in document["candidates"]:
        for key in ("key", "name", "latency_s", "throughput_per_s", "memory_bytes"):
            del candidate[key]
    assert decode(outcome.FitResult, document) == result
