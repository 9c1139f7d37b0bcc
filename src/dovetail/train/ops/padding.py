"""Pad, by any of its modes, on any axes; negative amounts cut."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.train.ops.node import Kernel, Maker, NodeView, axis_of


def _pad(node: NodeView) -> Kernel:
    read, axes = node.ints(1, "pads"), node.ints(3)
    fill, mode = node.number(2, 0.0, "value"), node.get("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise node.refuse(f"with mode {mode}")

    def run(*inputs: Any) -> Tensor:
        x, pads = inputs[0], read(inputs) or []
        along = axes(inputs)
        along = list(range(x.dim())) if along is None else [axis_of(axis, x.dim()) for axis in along]
        amounts = dict(zip(along, zip(pads[: len(along)], pads[len(along) :], strict=True), strict=True))
        if mode == "constant":
            return _constant(x, amounts, fill(inputs))
        for axis, (before, after) in amounts.items():
            if before or after:
                x = x.index_select(axis, _places(x.shape[axis], before, after, mode))
        return x

    return run


def _constant(x: Tensor, amounts: dict[int, tuple[int, int]], value: Any) -> Tensor:
    pairs = [amount for axis in range(x.dim() - 1, -1, -1) for amount in amounts.get(axis, (0, 0))]
    while pairs[-2:] == [0, 0]:
        del pairs[-2:]
    return F.pad(x, pairs, value=0 if value is None else value) if pairs else x


def _places(size: int, before: int, after: int, mode: str) -> Tensor:
    """Where each element of the padded axis comes from."""
    places = torch.arange(-before, size + after)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    if size == 1:
        return places * 0
    period = 2 * (size - 1)
    folded = places % period
    return torch.where(folded < size, folded, period - folded)


TABLE: dict[str, Maker] = {"Pad": _pad}
