"""Sums of an analysed model's operators, counted as PyTorch would run them.

ONNX spells out what PyTorch runs as one operator: softmax between two products is fused attention, the error function with its
neighbours is a GELU, a sigmoid times its own operand is a SiLU, a product and the addition of its bias are one layer. Each
counts once; what PyTorch does by another view of the same memory does not count. An exporter folds batch norms into
convolutions: the sums then are of the network without them, which runs a little faster than the one that was exported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from dovetail.core.workload import Op, Workload
from dovetail.predict.family import ELEMENT_BYTES, Family, family
from dovetail.predict.nets.quantities import FIXED, Counted, summed

Floats = NDArray[np.float64]

_VIEWS = frozenset({"Transpose", "Slice", "Split", "Expand"})
_AROUND_ERF = frozenset({"Div", "Mul", "Add"})
_SCORES = frozenset({"Mul", "Div", "Add", "Where", "Cast", "Identity"})
"""Operators that stand between a product of queries and keys and its softmax."""


def profile(workload: Workload) -> Floats:
    """``[quantities]`` of one sample."""
    return of_launched(launched(workload), workload)


def launched(workload: Workload) -> tuple[tuple[str, Counted], ...]:
    """Name of every operator that PyTorch would launch, and what it does in a call."""
    return tuple(_Graph(workload).counted())


def of_launched(operators: Iterable[tuple[str, Counted]], workload: Workload) -> Floats:
    """``[quantities]`` of one sample, from the operators of a call."""
    found = summed((counted for _, counted in operators), float(workload.params))
    batch = next((shape[0] for shape in workload.input_shapes.values() if len(shape) > 1), 1)
    return np.where(FIXED, found, found / max(batch, 1))



class _Graph:
    """Operators with who makes and who reads what."""

    def __init__(self, workload: Workload) -> None:
        self.ops = workload.ops
        self.makers = {name: op for op in self.ops for name in op.outputs}
        self.readers: dict[str, list[Op]] = {}
        for op in self.ops:
            for name in op.inputs:
                self.readers.setdefault(name, []).append(op)

    def counted(self) -> Iterator[tuple[str, Counted]]:
        """Every operator that is launched."""
        hidden: set[str] = set()
        for op in self.ops:
            if op.kind == "Softmax":
                parts = self._attention(op)
                if parts is not None:
                    hidden |= {part.name for part in (op, *parts)} | {scale.name for scale in self._scales(parts[0])}
                    yield parts[0].name, _fused(parts[0], parts[1])
            elif op.kind == "Erf":
                hidden |= {other.name for other in self._gelu(op)}
            elif op.kind == "Sigmoid":
                hidden |= {other.name for other in self._after(op) if other.kind == "Mul" and op.inputs[0] in other.inputs}
            elif op.kind == "MatMul" and op.weight_bytes:
                hidden |= {other.name for other in self._after(op) if other.kind == "Add" and other.weight_bytes}
        shown = (op for op in self.ops if op.name not in hidden and op.kind not in _VIEWS)
        yield from ((op.name, _one(op)) for op in shown if family(op) is not Family.FREE)

    def _after(self, op: Op) -> list[Op]:
        return [reader for name in op.outputs for reader in self.readers.get(name, ())]

    def _before(self, op: Op) -> list[Op]:
        return [self.makers[name] for name in op.inputs if name in self.makers]

    def _attention(self, softmax: Op) -> tuple[Op, ...] | None:
        """Product of the scores, product with the values, and what stands between them; ``None`` where it is no attention."""
        between: list[Op] = []
        above = softmax
        while True:
            above = next((op for op in self._before(above) if op.kind in _SCORES or _of_activations(op)), softmax)
            if above is softmax or len(between) > 6:
                return None
            if _of_activations(above):
                break
            between.append(above)
        below = next((op for op in self._after(softmax) if _of_activations(op)), None)
        return None if below is None else (above, below, *between)

    def _scales(self, scores: Op) -> Iterator[Op]:
        """Multiplications of queries and keys by a number."""
        yield from (op for op in self._before(scores) if op.kind in ("Mul", "Div") and op.weight_bytes <= 8)

    def _gelu(self, erf: Op) -> Iterator[Op]:
        """The neighbours that spell out ``x/2·(1 + erf(x/√2))`` with an error function."""
        yield from (op for op in self._before(erf) if op.kind in _AROUND_ERF)
        here = erf
        for _ in range(3):
            after = self._after(here)
            if len(after) != 1 or after[0].kind not in _AROUND_ERF:
                return
            here = after[0]
            yield here


def _of_activations(op: Op) -> bool:
    return op.kind == "MatMul" and not op.weight_bytes


def _elements(op: Op, n_bytes: float | None) -> float:
    return (n_bytes or 0.0) / ELEMENT_BYTES.get(op.dtype, 4.0)


def _fused(scores: Op, values: Op) -> Counted:
    """Attention without the traffic of its scores."""
    between = _elements(scores, scores.output_bytes)
    read = _elements(scores, scores.input_bytes) + max(0.0, _elements(values, values.input_bytes) - between)
    flop = (scores.flop or 0.0) + (values.flop or 0.0)
    return Counted(kind="sdpa", flop=flop, read=read, written=_elements(values, values.output_bytes))


def _one(op: Op) -> Counted:
    facts = op.attributes or {}
    read, written = _elements(op, op.input_bytes), _elements(op, op.output_bytes)
    if "matrix_flop" in facts:
        kind, channels = _product(op, facts)
        return Counted(kind=kind, flop=op.flop or 0.0, read=read, written=written, channels=channels)
    return Counted(kind=_other(op), read=read, written=written)


def _other(op: Op) -> str:
    if op.kind == "BatchNormalization":
        return "bn"
    if "Normalization" in op.kind:
        return "ln"
    return {Family.MOVE: "copy", Family.REDUCE: "red"}.get(family(op), "ew")


def _product(op: Op, facts: Mapping[str, str]) -> tuple[str, tuple[int, ...]]:
    """Kind, and the channels summed over and put out, per group."""
    shape = op.output_shapes[0] if op.output_shapes else None
    if not shape or not op.weight_bytes:
        return ("conv" if "Conv" in op.kind and op.weight_bytes else "bmm"), ()
    sums = float(facts["matrix_flop"]) / max(2 * _elements(op, op.output_bytes), 1.0)
    if "Conv" not in op.kind:
        return "mm", (max(1, round(sums)), shape[-1])
    groups, size = int(facts.get("group", "1")), math.prod(map(int, re.findall(r"\d+", facts.get("kernel_shape", ""))))
    inputs, outputs = max(1, round(sums / size)), shape[1]
    kind = "grp" if groups > 1 else "pw" if size == 1 else "conv"
    return ("dw" if groups > 1 and inputs == 1 else kind), (inputs, max(1, outputs // groups))
