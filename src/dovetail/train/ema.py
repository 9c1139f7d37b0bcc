"""The exponential moving average of a module's weights and running statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

Tensors = dict[str, Any]
"""Name → ``torch.Tensor``."""


def state_of(module: Any) -> Tensors:
    """Parameters and buffers of a module's state by name, as they are, not copied; those under two names once."""
    found = {id(tensor): (name, tensor) for name, tensor in module.state_dict(keep_vars=True).items()}
    return dict(found.values())


def copied(tensors: Mapping[str, Any]) -> Tensors:
    """Copies that keep the order of dimensions in memory."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def load(module: Any, tensors: Mapping[str, Any]) -> None:
    """Writes values into a module's parameters and buffers, in place."""
    with torch.no_grad():
        for name, tensor in state_of(module).items():
            if name in tensors:
                tensor.copy_(tensors[name])


class Ema:
    """``average ← d · average + (1 - d) · value`` after each step, with ``d = min(decay, (1 + t) / (10 + t))`` at step t.

    The smaller decay at the start keeps the first weights from weighing on short runs (as ``ExponentialMovingAverage`` of
    TensorFlow does with ``num_updates``). Buffers of floating point are averaged too, but for those that hold infinities or
    NaN: masks, not statistics.

    Args:
        module: whose weights are averaged.
        decay: per step.
    """

    def __init__(self, module: Any, decay: float) -> None:
        self._module, self._decay = module, decay
        live = {name: t.detach() for name, t in state_of(module).items() if t.is_floating_point()}
        self._live = {name: t for name, t in live.items() if bool(torch.isfinite(t).all())}
        self.average: Tensors = copied(self._live)

    def update(self, step: int) -> None:
        """Takes in the weights after optimiser step ``step``, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self._live.values()), 1 - decay)

    def restore(self, tensors: Mapping[str, Any]) -> None:
        """Takes the average from a checkpoint."""
        for name, tensor in self.average.items():
            tensor.copy_(tensors[name])

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The module holds the average inside the block, and its own weights again after it."""
        own = copied(self._live)
        load(self._module, self.average)
        try:
            yield
        finally:
            load(self._module, own)
