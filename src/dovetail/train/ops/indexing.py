"""Taking and putting elements by index. Indices below zero count from the end."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.train.ops.node import Kernel, Maker, NodeView, always, axis_of


def _wrapped(index: Tensor, size: int) -> Tensor:
    return torch.where(index < 0, index + size, index).to(torch.int64)


def _gather(node: NodeView) -> Kernel:
    axis, known = node.get("axis", 0), node.value(1)
    if known is not None and known.dim() == 0:
        place = int(known)
        return lambda x, index: x.select(axis, place)
    positive = known is not None and bool((known >= 0).all())

    def run(x: Tensor, index: Tensor) -> Tensor:
        along = axis_of(axis, x.dim())
        places = index.to(torch.int64) if positive else _wrapped(index, x.shape[along])
        if along == 0 and x.dim() == 2 and x.is_floating_point():
            return F.embedding(places, x)
        if places.dim() == 1:
            return x.index_select(along, places)
        taken = x.index_select(along, places.reshape(-1))
        return taken.reshape(*x.shape[:along], *index.shape, *x.shape[along + 1 :])

    return run


def _gather_elements(node: NodeView) -> Kernel:
    axis = node.get("axis", 0)
    return lambda x, index: x.gather(axis, _wrapped(index, x.shape[axis]))


def _gather_nd(node: NodeView) -> Kernel:
    batch = node.get("batch_dims", 0)

    def run(x: Tensor, index: Tensor) -> Tensor:
        if not batch:
            return x[_tuple(index, x)]
        lead = x.shape[:batch]
        flat_x, flat_index = x.reshape(-1, *x.shape[batch:]), index.reshape(-1, *index.shape[batch:])
        parts = [each[_tuple(places, each)] for each, places in zip(flat_x, flat_index, strict=True)]
        return torch.stack(parts).reshape(*lead, *parts[0].shape)

    return run


def _tuple(index: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    return tuple(_wrapped(column, x.shape[axis]) for axis, column in enumerate(index.unbind(-1)))


_REDUCED = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter_elements(node: NodeView) -> Kernel:
    axis, how = node.get("axis", 0), node.get("reduction", "none")

    def run(x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        places, values = _wrapped(index, x.shape[axis]), updates.to(x.dtype)
        if how == "none":
            return x.scatter(axis, places, values)
        return x.scatter_reduce(axis, places, values, _REDUCED[how], include_self=True)

    return run


def _scatter_nd(node: NodeView) -> Kernel:
    how = node.get("reduction", "none")

    def run(x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        places, values = _tuple(index, x), updates.to(x.dtype)
        if how in ("none", "add"):
            return x.index_put(places, values, accumulate=how == "add")
        depth = index.shape[-1]
        sizes, inner = x.shape[:depth], x.shape[depth:]
        flat = torch.zeros_like(places[0])
        for size, column in zip(sizes, places, strict=True):
            flat = flat * size + column
        rows = values.reshape(-1, *inner)
        spread = flat.reshape(-1, *[1] * len(inner)).expand(rows.shape)
        table = x.reshape(-1, *inner)
        return table.scatter_reduce(0, spread, rows, _REDUCED[how], include_self=True).reshape(x.shape)

    return run


def _one_hot(node: NodeView) -> Kernel:
    axis = node.get("axis", -1)

    def run(index: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        count = int(depth.item())
        whole = index.to(torch.int64)
        hits = (torch.where(whole < 0, whole + count, whole).unsqueeze(-1) == torch.arange(count)).to(values.dtype)
        last = index.dim()
        return (values[0] + (values[1] - values[0]) * hits).movedim(-1, axis_of(axis, last + 1))

    return run


def _non_zero(x: Tensor) -> Tensor:
    return (x.reshape(1) if x.dim() == 0 else x).nonzero().t()


def _compress(node: NodeView) -> Kernel:
    axis = node.get("axis")

    def run(x: Tensor, condition: Tensor) -> Tensor:
        x = x.reshape(-1) if axis is None else x
        return x.index_select(axis or 0, condition.reshape(-1).nonzero().reshape(-1))

    return run


def _reverse_sequence(node: NodeView) -> Kernel:
    time, batch = node.get("time_axis", 0), node.get("batch_axis", 1)

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        return reversed_in_time(x.movedim((time, batch), (0, 1)), lengths).movedim((0, 1), (time, batch))

    return run


def reversed_in_time(x: Tensor, lengths: Any) -> Tensor:
    """``x[T, B, ...]`` with the first ``lengths[b]`` steps of each sample reversed; all when ``lengths`` is ``None``."""
    if lengths is None:
        return x.flip(0)
    steps, ends = torch.arange(x.shape[0]).unsqueeze(1), lengths.to(torch.int64).unsqueeze(0)
    places = torch.where(steps < ends, ends - 1 - steps, steps)
    return x.gather(0, places.reshape(*places.shape, *[1] * (x.dim() - 2)).expand(x.shape))


TABLE: dict[str, Maker] = {
    "Gather": _gather, "GatherElements": _gather_elements, "GatherND": _gather_nd, "ScatterElements": _scatter_elements,
    "Scatter": _scatter_elements, "ScatterND": _scatter_nd, "OneHot": _one_hot, "NonZero": always(_non_zero),
    "Compress": _compress, "ReverseSequence": _reverse_sequence,
}  # fmt: skip
