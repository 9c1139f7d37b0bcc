"""Memory that serving a language model takes on each device, and whether it fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.core import units
from dovetail.core.device import Device
from dovetail.core.transformer import Transformer
from dovetail.predict.llm_setting import Machine, Setting
from dovetail.predict.llm_shapes import Shapes, shapes

Floats = NDArray[np.float64]

USABLE = 0.9
"""Share of the memory that engines fill: the default of vLLM's ``gpu_memory_utilization`` and of TensorRT-LLM's
``free_gpu_memory_fraction``. The rest holds activations, communication buffers and the driver's context."""

_STATE_BYTES = 4.0
_TABLE_BYTES = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Bytes on each device.

    Attributes:
        weights_bytes: of the parameters.
        cache_bytes: of keys, values and states of all sequences at their full length.
        workspace_bytes: kept for activations, buffers and the driver's context.
    """

    weights_bytes: float
    cache_bytes: float
    workspace_bytes: float

    @property
    def total_bytes(self) -> float:
        """Of all three."""
        return self.weights_bytes + self.cache_bytes + self.workspace_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Whether a model fits: ``None`` where the device's memory is unknown, and why."""

    fits: bool | None
    reason: str
    need: Need


def weights_bytes(sizes: Shapes, setting: Setting) -> Floats:
    """Bytes of the weights on all devices together, ``[n]``; tables stay in 16 bits."""
    attention = sizes.attention * np.where(setting.replicated, setting.devices, 1.0)
    common = (attention + sizes.common - sizes.attention) * setting.common_bytes
    return np.asarray(common + sizes.routed * setting.expert_bytes + sizes.tables * _TABLE_BYTES)


def sequence_bytes(sizes: Shapes, setting: Setting, context: Floats) -> Floats:
    """Bytes that one sequence takes on all devices together, ``[n]``: what cannot be cut is stored on each of them."""
    parts = np.where(setting.replicated, setting.devices, np.minimum(setting.devices, sizes.shards))
    copies = setting.devices / parts
    return np.asarray(copies * sizes.stored(context) * setting.cache_bytes + sizes.state * _STATE_BYTES)


def sequences_that_fit(sizes: Shapes, machine: Machine, setting: Setting) -> Floats:
    """Sequences of mean length that the memory holds beside the weights, ``[n]``, at least 1.

    Where the weights alone do not fit, 2 % of the memory are taken to be left, so that a prediction stays finite.
    """
    total = machine.capacity_bytes * setting.devices * setting.stages
    room = np.maximum(USABLE * total - weights_bytes(sizes, setting), 0.02 * total)
    held = sequence_bytes(sizes, setting, setting.prompt + setting.output / 2)
    return np.maximum(room / held, 1.0)


def judge_fit(model: Transformer, device: Device, setting: Setting) -> Fit:
    """Whether one model fits one device (or several of it), and why not.

    Args:
        model: what is served.
        device: one of those that share it.
        setting: with one element; the whole of prompt and output is kept for each concurrent request.
    """
    sizes = shapes([model])
    count = float(setting.devices[0] * setting.stages[0])
    weights = float(weights_bytes(sizes, setting)[0]) / count
    cache = float((setting.concurrency * sequence_bytes(sizes, setting, setting.prompt + setting.output))[0]) / count
    capacity = device.capacity_bytes.value if device.capacity_bytes else None
    need = Need(weights_bytes=weights, cache_bytes=cache, workspace_bytes=(1 - USABLE) * (capacity or 0.0))
    if capacity is None:
        return Fit(fits=None, reason=f"the memory of {device.name} is unknown", need=need)
    return _verdict(model, device, need, capacity, float(setting.concurrency[0]))


def _verdict(model: Transformer, device: Device, need: Need, capacity: float, sequences: float) -> Fit:
    usable = USABLE * capacity
    where = f"{units.size(usable)} of {device.name}'s {units.size(capacity)} that can be used"
    if need.weights_bytes > usable:
        reason = f"the weights of {model.name} alone take {units.size(need.weights_bytes)}, more than the {where}"
        return Fit(fits=False, reason=reason, need=need)
    if need.weights_bytes + need.cache_bytes > usable:
        cache, weights = units.size(need.cache_bytes), units.size(need.weights_bytes)
        reason = f"keys and values of {sequences:g} sequences take {cache} beside {weights} of weights, more than the {where}"
        return Fit(fits=False, reason=reason, need=need)
    total = need.weights_bytes + need.cache_bytes
    return Fit(fits=True, reason=f"weights, keys and values take {units.size(total)} of the {where}", need=need)
