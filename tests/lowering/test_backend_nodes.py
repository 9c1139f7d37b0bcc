"""Every node model of the standard's own tests either agrees with its stored results or is refused."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import pytest
from lowered import Failed, LiteRT, bound, difference, litert, lower
from onnx import numpy_helper

from dovetail.core.errors import ModelError
from dovetail.lowering.source import OLDEST_OPSET

ROUNDED = frozenset({
    "QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul",
})  # fmt: skip
"""Operators whose integers may be one step off."""
FOUR_DIGITS = {"test_averagepool_2d_ceil_last_window_starts_on_pad"}
"""Cases whose stored inputs and results are rounded to four decimal digits."""


def cases() -> list[Any]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the standard's own reference computations overflow on purpose
        return load_model_tests(kind="node")


def named(values: list[onnx.ValueInfoProto], data: list[Any]) -> dict[str, Any]:
    arrays = [_array(value) for value in data]
    return dict(zip((value.name for value in values), arrays, strict=False))


def _array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic | int | float) else value


def bindings(model: onnx.ModelProto, feeds: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Which inputs to make constants: none; those that may be shapes and axes; all but the first; all
    integers and scalars."""
    yield {}
    arrays = {name: value for name, value in feeds.items() if isinstance(value, np.ndarray)}
    first = next(iter(feeds), "")
    rest = {name: value for name, value in arrays.items() if name != first}
    integers = {name: value for name, value in arrays.items() if value.dtype.kind in "iu"}
    scalars = {name: value for name, value in arrays.items() if value.size == 1}
    choices = ({n: v for n, v in rest.items() if n in integers}, rest, {**integers, **scalars})
    yield from [chosen for chosen in choices if chosen]


def outcome(case: Any, runtime: LiteRT, folder: Path) -> tuple[str, str]:
    """``agrees``, ``infeasible`` or ``wrong``, and why."""
    model = case.model
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        try:
            model = onnx.version_converter.convert_version(model, 17)
        except Exception:  # the lowering refuses the opset then
            model = case.model
    inputs, outputs = case.data_sets[0]
    feeds, wanted = named(model.graph.input, inputs), named(model.graph.output, outputs)
    reason = ""
    for constants in bindings(model, feeds):
        try:
            lowered = lower(bound(model, constants), folder)
        except ModelError as exc:
            reason = str(exc)
            continue
        return agreement(case, lowered, {k: v for k, v in feeds.items() if k not in constants}, wanted, runtime)
    return "infeasible", reason


def agreement(case: Any, lowered: bytes, feeds: dict[str, Any], wanted: dict[str, Any], runtime: LiteRT) -> tuple[str, str]:
    try:
        found = runtime.run(lowered, feeds)
    except Failed as exc:
        return "wrong", str(exc)
    rounded = any(node.op_type in ROUNDED for node in case.model.graph.node)
    for name, want in wanted.items():
        if case.name in FOUR_DIGITS and np.abs(want - found[name]).max() < 1e-4:
            continue
        reason = difference(np.asarray(want), found[name], steps=int(rounded))
        if reason is not None:
            return "wrong", f"{name} is {reason}"
    return "agrees", ""


@pytest.mark.parametrize("part", range(4))
def test_every_node_model_agrees_or_is_infeasible(part: int, tmp_path: Path) -> None:
    found: dict[str, list[str]] = {"agrees": [], "infeasible": [], "wrong": []}
    operators: Counter[str] = Counter()
    with litert() as runtime:
        for case in cases()[part::4]:
            kind, reason = outcome(case, runtime, tmp_path)
            found[kind].append(f"{case.name}: {reason}")
            if kind == "infeasible":
                operators.update({node.op_type for node in case.model.graph.node})
    print({kind: len(names) for kind, names in found.items()}, dict(operators.most_common(30)))
    assert not found["wrong"], "\n".join(found["wrong"])
