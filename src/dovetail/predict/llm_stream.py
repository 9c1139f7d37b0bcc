"""Tokens per second of one sequence on an engine that starts one small operator after the other, such as llama.cpp.

Written tokens: every weight is read once a token, and each layer's operators cost a time that no reading hides. That time is
what keeps fast memories far from their bandwidth: on an A100 or H100 a token takes half the bytes' time again. Weights packed
in 4 bits also cost arithmetic to unpack. Several devices hold layers one after the other, so that they add memory and no
speed.

Read tokens (a prompt): bound by arithmetic; attention is not fused, so that its scores pass through memory several times.
Batches of :data:`MICRO_BATCH` tokens run through the devices as through a pipeline (GPipe, arXiv:1811.06965, section 2.1).

Parameters are fitted to published runs (``fitted/llamacpp.json``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.core.device import Device
from dovetail.core.errors import InputError
from dovetail.core.transformer import Transformer
from dovetail.predict.effects import shift
from dovetail.predict.llm_asked import Bounded, bounded, regimes
from dovetail.predict.llm_setting import peak
from dovetail.predict.llm_shapes import Shapes, shapes

Floats = NDArray[np.float64]

QUANTITIES = ("written_per_s", "read_per_s")
MICRO_BATCH = 512.0
"""Tokens that llama.cpp reads at once (``n_ubatch``)."""

_CACHE_BYTES = 2.0
_SCORE_BYTES = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """What is to be predicted, ``[n]`` of each.

    Attributes:
        models: that run.
        devices: that they run on.
        counts: devices that the layers are spread over.
        weight_bytes: of one weight; below 2 it is packed.
        tokens: written after an empty context, or read.
        formats: what the storage of weights is called; runs of one name share a correction.
    """

    models: Sequence[Transformer]
    devices: Sequence[Device]
    counts: Floats
    weight_bytes: Floats
    tokens: Floats
    formats: Sequence[str]

    def keys(self) -> dict[str, list[str]]:
        """Level → key of each question."""
        devices = [device.name for device in self.devices]
        models = [f"{model.name} {name}" for model, name in zip(self.models, self.formats, strict=True)]
        return {"device": devices, "model": models, "cell": [" | ".join(pair) for pair in zip(devices, models, strict=True)]}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMachine:
    """Facts of one device, each ``[n]``.

    Attributes:
        bandwidth_bytes_per_s: of its memory.
        plain_flop_per_s: outside matrix units, in 32 bits.
        matrix_flop_per_s: in 16 bits with sums in 16 bits: half the 8-bit rate where that is more than what is listed.
        stacked: its memory is stacked (HBM).
    """

    bandwidth_bytes_per_s: Floats
    plain_flop_per_s: Floats
    matrix_flop_per_s: Floats
    stacked: NDArray[np.bool_]


def stream_machine(devices: Sequence[Device]) -> StreamMachine:
    """The facts of the given devices in their order.

    Raises:
        InputError: a device lacks a bandwidth or a peak.
    """
    known = {device.name: _facts(device) for device in devices}
    table = np.array([known[device.name] for device in devices], dtype=np.float64).reshape(-1, 4)
    return StreamMachine(
        bandwidth_bytes_per_s=table[:, 0], plain_flop_per_s=table[:, 1], matrix_flop_per_s=table[:, 2], stacked=table[:, 3] > 0
    )


def _facts(device: Device) -> tuple[float, ...]:
    if device.bandwidth_bytes_per_s is None:
        raise InputError(
            f"the memory bandwidth of {device.name} is unknown", hint="writing tokens is bound by it; add it to the device"
        )
    listed, eight = peak(device, "fp16"), device.peak_flop_per_s.get("int8")
    plain = device.peak_flop_per_s.get("fp32")
    return (
        device.bandwidth_bytes_per_s.value,
        plain.value if plain else listed,
        max(listed, eight.value / 2 if eight else 0.0),
        float(device.memory[0].name.startswith("HBM")),
    )


def write_s(sizes: Shapes, machine: StreamMachine, asked: Streamed, fitted: Mapping[str, float]) -> Floats:
    """Seconds of a token, ``[n]``, in the mean over ``tokens`` written after an empty context."""
    weights = sizes.active + sizes.head
    packed = asked.weight_bytes < 2.0
    share = np.where(packed, fitted["packed_share"], fitted["plain_share"])
    reading = weights * asked.weight_bytes / (machine.bandwidth_bytes_per_s * share)
    unpacking = np.where(packed, weights * fitted["unpack_flop"] / machine.plain_flop_per_s, 0.0)
    cache = sizes.stored(asked.tokens / 2) * _CACHE_BYTES / (machine.bandwidth_bytes_per_s * fitted["cache_share"])
    layers = sizes.layers * fitted["layer_s"] * np.where(machine.stacked, fitted["stacked_factor"], 1.0)
    return reading + unpacking + cache + layers + (asked.counts - 1) * fitted["hop_s"]


def read_s(sizes: Shapes, machine: StreamMachine, asked: Streamed, fitted: Mapping[str, float]) -> Floats:
    """Seconds to read a prompt of ``tokens``, ``[n]``."""
    packed, tokens = asked.weight_bytes < 2.0, asked.tokens
    share = np.where(packed, fitted["packed_share"], fitted["plain_share"])
    share = share * np.where(machine.stacked, fitted["stacked_share"], 1.0)
    products = 2 * (sizes.active + sizes.head) * tokens / (machine.matrix_flop_per_s * share)
    pairs = sizes.pairs(tokens)
    attention = sizes.prefill_pair * pairs / (machine.matrix_flop_per_s * fitted["attention_share"])
    scores = fitted["score_passes"] * sizes.heads * pairs * _SCORE_BYTES / machine.bandwidth_bytes_per_s
    batches = np.maximum(tokens / MICRO_BATCH, 1.0)
    whole = products + attention + scores + batches * sizes.layers * fitted["layer_s"]
    gain = batches * asked.counts / (batches + asked.counts - 1) - 1
    return whole / (1 + fitted["pipeline_share"] * gain) + (asked.counts - 1) * fitted["hop_s"]


def stream_values(parameters: Mapping[str, Any], asked: Streamed) -> dict[str, Floats]:
    """Tokens per second of each of :data:`QUANTITIES`, without intervals."""
    sizes, machine, keys = shapes(asked.models), stream_machine(asked.devices), asked.keys()
    plain = {
        "written_per_s": 1 / write_s(sizes, machine, asked, parameters["written_per_s"]),
        "read_per_s": asked.tokens / read_s(sizes, machine, asked, parameters["read_per_s"]),
    }
    return {name: value * np.exp(shift(parameters["effects"][name], keys)) for name, value in plain.items()}


def stream(parameters: Mapping[str, Any], asked: Streamed) -> dict[str, Bounded]:
    """Tokens per second of each of :data:`QUANTITIES`, with 90 % intervals.

    Args:
        parameters: of :func:`dovetail.predict.fitted_file.parameters`, ``llamacpp``.
        asked: the questions.
    """
    regime = regimes(parameters["effects"]["written_per_s"], asked.keys())
    return {
        name: bounded(value, parameters["spreads"][name], regime) for name, value in stream_values(parameters, asked).items()
    }
