"""The calls that a forward pass makes, and rules that join some of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from dovetail.train.ops import quantization
from dovetail.train.ops.linear import linear
from dovetail.train.ops.node import Kernel, NodeView


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call.

    Attributes:
        kernel: takes the tensors of ``reads`` in order (``None`` for an empty name).
        writes: names of its results; empty for one that nobody reads.
        view: the node it was made from.
    """

    kernel: Kernel
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    view: NodeView


def joined(steps: Sequence[Step], kept: Collection[str]) -> list[Step]:
    """The same steps with fewer calls; tensors named in ``kept`` are still made."""
    for rule in (_pairs, _gelus, _biases):
        steps = rule(list(steps), kept)
    return _overwriting(list(steps), kept)


def _readers(steps: Sequence[Step]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for index, step in enumerate(steps):
        for name in step.reads:
            if name:
                found.setdefault(name, []).append(index)
    return found


def _only_reader(name: str, readers: Mapping[str, Sequence[int]], kept: Collection[str]) -> int | None:
    places = readers.get(name, ())
    return places[0] if len(places) == 1 and name not in kept else None


def _without(steps: Sequence[Step | None]) -> list[Step]:
    return [step for step in steps if step is not None]


def _pairs(steps: list[Step], kept: Collection[str]) -> list[Step]:
    """QuantizeLinear and the DequantizeLinear behind it, with one grid, in one call."""
    readers = _readers(steps)
    result: list[Step | None] = list(steps)
    for index, step in enumerate(steps):
        if step.view.kind != "QuantizeLinear" or step.writes[0] in kept:
            continue
        behind = readers.get(step.writes[0], ())
        same = [i for i in behind if steps[i].view.kind == "DequantizeLinear" and steps[i].reads[1:] == step.reads[1:]]
        if len(behind) == 1 and len(same) == 1:
            writes = steps[same[0]].writes
            result[index] = replace(step, kernel=quantization.pair(step.view), writes=writes)
            result[same[0]] = None
    return _without(result)


def _gelus(steps: list[Step], kept: Collection[str]) -> list[Step]:
    """x/√2 → Erf → +1 → products with x and ½, in any order: the exact GELU, which torch has in one call."""
    readers = _readers(steps)
    producers = {name: index for index, step in enumerate(steps) for name in step.writes if name}
    result: list[Step | None] = list(steps)
    for index, step in enumerate(steps):
        if step.view.kind != "Erf":
            continue
        found = _gelu(index, steps, readers, producers, kept)
        if found is not None:
            source, members, last = found
            for member in members:
                result[member] = None
            result[last] = replace(steps[last], kernel=F.gelu, reads=(source,))
    return _without(result)


def _gelu(
    erf: int, steps: Sequence[Step], readers: Mapping[str, Sequence[int]], producers: Mapping[str, int], kept: Collection[str]
) -> tuple[str, list[int], int] | None:
    """Name of x, the steps that go, and the step whose result is the GELU."""
    divided = producers.get(steps[erf].reads[0])
    if divided is None or steps[divided].view.kind == "Add" or _only_reader(steps[erf].reads[0], readers, kept) is None:
        return None
    factor, source = _scalar(steps[divided])
    if factor is None or not math.isclose(factor, math.sqrt(0.5), rel_tol=1e-5):
        return None
    plus = _only_reader(steps[erf].writes[0], readers, kept)
    if plus is None or steps[plus].view.kind != "Add" or _scalar(steps[plus])[0] != 1.0:
        return None
    members, value, scale, with_x = [divided, erf, plus], steps[plus].writes[0], 1.0, False
    while True:
        after = _only_reader(value, readers, kept)
        if after is None or steps[after].view.kind not in ("Mul", "Div"):
            return None
        number, _ = _scalar(steps[after])
        if number is not None:
            scale *= number
        else:
            other = _other(steps[after], value)
            part = producers.get(other, -1)
            if with_x or steps[after].view.kind != "Mul":
                return None
            if other == source:
                pass
            elif part >= 0 and _multiple_of(source, steps[part]) and _only_reader(other, readers, kept) == after:
                scale *= _scalar(steps[part])[0] or 0.0
                members.append(part)
            else:
                return None
            with_x = True
        if with_x and math.isclose(scale, 0.5, rel_tol=1e-6):
            return source, members, after
        members.append(after)
        value = steps[after].writes[0]


def _multiple_of(source: str, step: Step) -> bool:
    return step.view.kind in ("Mul", "Div") and _scalar(step)[1] == source


def _scalar(step: Step) -> tuple[float | None, str]:
    """The constant factor or term of a step of two operands, and the name of the other; ``None`` where there is none."""
    if step.view.kind not in ("Mul", "Div", "Add"):
        return None, ""
    for index in (0, 1):
        value = step.view.value(index)
        if value is not None and value.numel() == 1 and value.dim() <= 1 and value.is_floating_point():
            if step.view.kind == "Div":
                return (1 / float(value), step.reads[0]) if index == 1 else (None, "")
            return float(value), step.reads[1 - index]
    return None, ""


def _other(step: Step, name: str) -> str:
    return step.reads[1] if step.reads[0] == name else step.reads[0]


def _biases(steps: list[Step], kept: Collection[str]) -> list[Step]:
    """A product with a stored matrix, and the stored vector added to it, in one call."""
    readers = _readers(steps)
    result: list[Step | None] = list(steps)
    levels = {step.writes[0]: step.view.shape(0) for step in steps if step.view.kind == "DequantizeLinear"}
    for index, step in enumerate(steps):
        matrix = step.view.shape(1) or levels.get(step.reads[-1])
        after = _only_reader(step.writes[0], readers, kept) if step.view.kind == "MatMul" else None
        if after is None or matrix is None or len(matrix) != 2 or steps[after].view.kind != "Add":
            continue
        place = 1 - steps[after].reads.index(step.writes[0])
        if steps[after].view.shape(place) == (matrix[1],):
            reads = (*step.reads, steps[after].reads[place])
            result[index], result[after] = None, replace(steps[after], kernel=linear, reads=reads)
    return _without(result)


_FRESH = frozenset({"BatchNormalization", "Conv", "Add"})
"""Operators whose result is a tensor of its own that their gradient does not read."""


def _overwriting(steps: list[Step], kept: Collection[str]) -> list[Step]:
    """Relu in place, where nobody else reads what it overwrites."""
    readers = _readers(steps)
    producers = {name: step for step in steps for name in step.writes if name}
    result = []
    for step in steps:
        source = producers.get(step.reads[0]) if step.kernel is torch.relu else None
        if source is not None and source.view.kind in _FRESH and _only_reader(step.reads[0], readers, kept) is not None:
            step = replace(step, kernel=torch.relu_)
        result.append(step)
    return result
