"""Reductions along axes, sorting and running sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dovetail.train.ops.node import Kernel, Maker, NodeView

Reduce = Callable[[Tensor, list[int], bool], Tensor]


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.sum(x, axes, keepdim=keep, dtype=None if x.is_floating_point() else x.dtype)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.mean(axes, keepdim=keep) if x.is_floating_point() else x.to(torch.float64).mean(axes, keepdim=keep).to(x.dtype)


def _greatest(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.amax(axes, keepdim=keep)


def _least(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.amin(axes, keepdim=keep)


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def _l1(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x.abs(), axes, keep)


def _l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return torch.linalg.vector_norm(x, 2, axes, keepdim=keep)
    return _sum((x * x).to(torch.float64), axes, keep).sqrt().to(x.dtype)


def _sum_square(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x * x, axes, keep)


def _log_sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.log(_sum(x, axes, keep))


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.logsumexp(x, axes, keepdim=keep)


def _reduction(function: Reduce) -> Maker:
    def make(node: NodeView) -> Kernel:
        read, keep = node.ints(1, "axes"), bool(node.get("keepdims", 1))
        nothing = bool(node.get("noop_with_empty_axes", 0))

        def run(*inputs: Tensor) -> Tensor:
            x, axes = inputs[0], read(inputs)
            if not axes:
                if nothing:  # each element is reduced by itself
                    return function(x.unsqueeze(-1), [-1], False)
                axes = list(range(x.dim()))
            return function(x, axes, keep) if x.dim() else function(x.reshape(1), [0], False)

        return run

    return make


def _arg(last: Callable[..., Tensor]) -> Maker:
    def make(node: NodeView) -> Kernel:
        axis, keep, from_end = node.get("axis", 0), bool(node.get("keepdims", 1)), bool(node.get("select_last_index", 0))

        def run(x: Tensor) -> Tensor:
            if not from_end:
                return last(x, axis, keepdim=keep)
            return x.shape[axis] - 1 - last(x.flip(axis), axis, keepdim=keep)

        return run

    return make


def _top_k(node: NodeView) -> Kernel:
    count, axis, largest = node.ints(1, "k"), node.get("axis", -1), bool(node.get("largest", 1))

    def run(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        x, k = inputs[0], (count(inputs) or [0])[0]
        order = torch.sort(x, dim=axis, descending=largest, stable=True).indices.narrow(axis, 0, k)
        return x.gather(axis, order), order

    return run


def _running_sum(node: NodeView) -> Kernel:
    read, exclusive, reverse = node.ints(1), node.get("exclusive", 0), node.get("reverse", 0)

    def run(*inputs: Tensor) -> Tensor:
        x, axis = inputs[0], (read(inputs) or [0])[0]
        x = x.flip(axis) if reverse else x
        total = torch.cumsum(x, axis, dtype=x.dtype)
        total = total - x if exclusive else total
        return total.flip(axis) if reverse else total

    return run


_REDUCTIONS: dict[str, Any] = {
    "ReduceSum": _sum, "ReduceMean": _mean, "ReduceMax": _greatest, "ReduceMin": _least, "ReduceProd": _product,
    "ReduceL1": _l1, "ReduceL2": _l2, "ReduceSumSquare": _sum_square, "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
}  # fmt: skip

TABLE: dict[str, Maker] = {
    **{kind: _reduction(function) for kind, function in _REDUCTIONS.items()},
    "ArgMax": _arg(torch.argmax), "ArgMin": _arg(torch.argmin), "TopK": _top_k, "CumSum": _running_sum,
}  # fmt: skip
