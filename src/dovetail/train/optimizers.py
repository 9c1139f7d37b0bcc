"""Optimisers with weight decay where it belongs, and their state as plain tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dovetail.core.training import Schedule


def is_vector(parameter: Any) -> bool:
    """Whether at most one axis is longer than 1: biases, norms, scales, slopes."""
    return bool(parameter.numel() == max(parameter.shape, default=1))


def set_unit(parameter: Any) -> None:
    """Lets the learning rate of a parameter count in its own size as it is now.

    A step of Adam is about as long as the learning rate whatever the gradient. For a scale of 0.002 that is another thing than
    for a weight, and ruins a quantised network within a few steps.
    """
    parameter.unit = float(parameter.detach().abs().mean())


def _by_unit(parameters: Sequence[Any]) -> dict[float, list[Any]]:
    found: dict[float, list[Any]] = {}
    for parameter in parameters:
        found.setdefault(float(getattr(parameter, "unit", 1.0)) or 1.0, []).append(parameter)
    return found


def build(parameters: Sequence[Any], schedule: Schedule) -> Any:
    """A ``torch.optim.Optimizer``; vectors have no weight decay (Goyal 2017, section 5.3)."""
    decayed = [p for p in parameters if not is_vector(p)]
    others = [p for p in parameters if is_vector(p)]
    groups = [
        {"params": members, "weight_decay": decay, "unit": unit, "lr": schedule.learning_rate * unit}
        for chosen, decay in ((decayed, schedule.weight_decay), (others, 0.0))
        for unit, members in _by_unit(chosen).items()
    ]
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=schedule.learning_rate, foreach=True)
    momentum = schedule.momentum
    return torch.optim.SGD(groups, lr=schedule.learning_rate, momentum=momentum, nesterov=momentum > 0, foreach=True)


def set_rate(optimizer: Any, rate: float) -> None:
    """The learning rate of the next step, in each parameter's unit."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["unit"]


def _parameters(optimizer: Any) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def state_of(optimizer: Any) -> dict[str, Any]:
    """``<number of the parameter>.<key>`` → tensor."""
    state = optimizer.state
    return {f"{i}.{k}": v for i, p in enumerate(_parameters(optimizer)) for k, v in state[p].items() if v is not None}


def restore(optimizer: Any, tensors: Mapping[str, Any]) -> None:
    """Puts :func:`state_of` back; moments lie in memory as their parameter does."""
    parameters = _parameters(optimizer)
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        parameter = parameters[int(number)]
        like = torch.empty_like(parameter) if tensor.shape == parameter.shape else torch.empty_like(tensor)
        optimizer.state[parameter][key] = like.detach().to(tensor.dtype).copy_(tensor)
