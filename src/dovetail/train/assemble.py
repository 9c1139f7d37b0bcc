"""Makes the steps of a graph: one per node that is left after folding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor

from dovetail.core.errors import ModelError
from dovetail.train.ops import TABLE, quantization
from dovetail.train.ops.node import Kernel, Mode, NodeView, Unsupported
from dovetail.train.plan import execute, first_line, plan
from dovetail.train.source import WITHOUT_TRAINING, Item, counted, expanded, view
from dovetail.train.steps import Step

_CHANGING = frozenset({"Dropout", "BatchNormalization"})
"""Operators whose result is not the same at each call, whatever their inputs."""


def assemble(
    items: Sequence[Item],
    stored: Mapping[str, TensorProto],
    known: dict[str, Tensor],
    weights: Mapping[str, tuple[int, int]],
    mode: Mode,
) -> list[Step]:
    """Makes every kernel once, and computes at once what depends on nothing that changes.

    Args:
        items: the nodes in order.
        stored: tensors of the file.
        known: values that never change; what is folded is added.
        weights: integer tensors that are trained → their lowest and highest level.
        mode: what all kernels look at.

    Raises:
        ModelError: operators used in ways that have no kernel; names all of them.
    """
    steps: list[Step] = []
    missing: Counter[str] = Counter()
    reasons: list[str] = []
    for item in items:
        if item.branches:
            steps.append(_conditional(item, [assemble(branch.items, stored, known, weights, mode) for branch in item.branches]))
            continue
        values = [known.get(name) if name else None for name in item.inputs]
        node = view(item, values, mode=mode, **_facts(item, stored))
        try:
            if item.kind == "DequantizeLinear" and item.inputs[0] in weights:
                kernel = quantization.weight(node, weights[item.inputs[0]])
            else:
                kernel = TABLE[item.kind](node)
        except Unsupported as exc:
            missing[item.kind] += 1
            reasons.append(str(exc))
            continue
        if item.kind == "Shape" and item.inputs[0] in stored:
            values = [torch.empty(tuple(stored[item.inputs[0]].dims), device="meta")]
        if _foldable(item, values):
            known.update(_folded(item, kernel, values))
        else:
            steps.append(Step(kernel=kernel, reads=item.inputs, writes=item.outputs, view=node))
    _refuse(missing, reasons)
    return steps


def require_kernels(items: Sequence[Item]) -> None:
    """Raises ModelError for operators without a kernel, naming all of them."""
    _refuse(Counter(item.kind for item in expanded(items) if item.kind not in TABLE and not item.branches), ())


def _refuse(missing: Mapping[str, int], reasons: Iterable[str]) -> None:
    if missing:
        why = "; ".join(dict.fromkeys(reasons))
        what = f"operators that cannot be trained: {counted(missing)}"
        raise ModelError(f"{what} ({why})" if why else what, hint=WITHOUT_TRAINING)


def _facts(item: Item, stored: Mapping[str, TensorProto]) -> dict[str, tuple[object, ...]]:
    tensors = [stored.get(name) for name in item.inputs]
    return {
        "shapes": tuple(None if tensor is None else tuple(tensor.dims) for tensor in tensors),
        "types": tuple(0 if tensor is None else tensor.data_type for tensor in tensors),
    }


def _foldable(item: Item, values: Sequence[Tensor | None]) -> bool:
    settled = all(value is not None or not name for name, value in zip(item.inputs, values, strict=True))
    return settled and item.kind not in _CHANGING


def _folded(item: Item, kernel: Kernel, values: Sequence[Tensor | None]) -> Iterable[tuple[str, Tensor]]:
    try:
        with torch.no_grad():
            result = kernel(*values)
    except (RuntimeError, ValueError, IndexError, TypeError) as exc:
        raise ModelError(f"{item.kind} of constants fails: {first_line(exc)}", where=item.name or None) from exc
    results = (result,) if isinstance(result, Tensor) else result
    return [(name, value) for name, value in zip(item.outputs, results, strict=False) if name]


def _conditional(item: Item, branches: Sequence[list[Step]]) -> Step:
    """One call that runs the branch which its condition chooses, with all that either reads from outside as inputs."""
    plans = [plan(steps, branch.results) for steps, branch in zip(branches, item.branches, strict=True)]
    taken = list(dict.fromkeys(name for branch in plans for name, _ in branch.sources))
    places = {name: index for index, name in enumerate(taken)}

    def run(condition: Tensor, *outside: Any) -> Any:
        chosen = plans[0] if bool(condition) else plans[1]
        values: list[Any] = [None] * chosen.size
        for name, slot in chosen.sources:
            values[slot] = outside[places[name]]
        execute(chosen, values)
        found = [values[slot] for slot in chosen.results]
        return found[0] if len(found) == 1 else found

    blank = NodeView(name=item.name, kind=item.kind, opset=item.opset)
    return Step(kernel=run, reads=(item.inputs[0], *taken), writes=item.outputs, view=blank)
