"""Time of a language model behind a batching server: between output tokens, to the first token, of a whole request.

A decode step reads the weights that its tokens need and the keys and values of every sequence; it costs small operators, and
one all-reduce after attention and one after the feed-forward network where a model is cut over devices (Megatron-LM,
arXiv:1909.08053, section 3). Reading a prompt is bound by arithmetic (Pope et al. 2022, arXiv:2211.05102, section 2). A
server that batches continuously reads prompts between decode steps (Orca, OSDI 2022), so that every sequence waits for the
prompts of the others. Memory and arithmetic overlap in part: ``(memory^q + arithmetic^q)^(1/q)``.

Known to be off: speculative decoding shortens the time between tokens by a third and more, and is not seen here; a run that
keeps more sequences than the memory holds depends on how the engine evicts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.llm_engine import Engine
from dovetail.predict.llm_memory import sequences_that_fit
from dovetail.predict.llm_setting import Machine, Setting
from dovetail.predict.llm_shapes import Shapes

Floats = NDArray[np.float64]

PACE_BYTES_PER_S = 8e12
"""Bandwidth of the device whose small operators the overheads of an engine are stated for (B200)."""

_ACTIVATION_BYTES = 2.0
_STATE_BYTES = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Seconds of one decode step by cause, each ``[n]``.

    Attributes:
        weights_s: to read weights.
        compute_s: for the products with them; overlaps ``weights_s``.
        cache_s: to read keys, values and states, or to multiply with them, whichever takes longer.
        link_s: for all-reduces.
        overhead_s: for small operators and the host.
        total_s: of the step.
    """

    weights_s: Floats
    compute_s: Floats
    cache_s: Floats
    link_s: Floats
    overhead_s: Floats
    total_s: Floats

    def binding(self) -> NDArray[np.str_]:
        """The part that takes longest, ``[n]``: ``weights``, ``compute``, ``cache``, ``link`` or ``overhead``."""
        parts = ("weights", "compute", "cache", "link", "overhead")
        times = np.stack([getattr(self, f"{part}_s") for part in parts])
        return np.array([parts[index] for index in times.argmax(axis=0)], dtype=np.str_)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a server's users see, each ``[n]``.

    Attributes:
        tpot_s: time per output token: mean time between the output tokens of a request after its first one.
        ttft_s: time to the first token: from a request's arrival to its first output token, queueing included.
        request_s: of a whole request, ``ttft_s + (output − 1) tpot_s``.
        output_tokens_per_s: of all requests together, over all devices.
        batch: sequences decoded together.
        step: one decode step by cause.
        prefill_s: to read one prompt alone.
    """

    tpot_s: Floats
    ttft_s: Floats
    request_s: Floats
    output_tokens_per_s: Floats
    batch: Floats
    step: Step
    prefill_s: Floats


def _join(first: Floats, second: Floats, blend: Floats) -> Floats:
    """``(a^q + b^q)^(1/q)``, scaled so that it neither overflows nor divides by zero."""
    top = np.maximum(np.maximum(first, second), 1e-30)
    return top * ((first / top) ** blend + (second / top) ** blend) ** (1 / blend)


def _slowness(machine: Machine, engine: Engine) -> Floats:
    """Factor on the time of small operators."""
    return (PACE_BYTES_PER_S / machine.bandwidth_bytes_per_s) ** engine.pace


def _products_s(shapes: Shapes, machine: Machine, setting: Setting, engine: Engine, tokens: Floats) -> Floats:
    """For all products in the layers; what is stored in 16 bits is multiplied in 16 bits."""
    narrow = machine.peak_flop_per_s * np.where(
        machine.peak_flop_per_s > 3 * machine.peak16_flop_per_s, engine.four_bit_share, 1.0
    )
    plain = np.where(setting.common_bytes < _ACTIVATION_BYTES, narrow, machine.peak16_flop_per_s)
    routed = shapes.moe_layers * shapes.per_token * shapes.expert / (narrow * engine.mixture_share)
    return 2 * tokens / setting.devices * (shapes.common / (plain * engine.dense_share) + routed)


def _overhead(shapes: Shapes, machine: Machine, engine: Engine) -> Floats:
    layers = shapes.layers * engine.layer_s + shapes.moe_layers * engine.moe_layer_s
    special = shapes.latent_layers * engine.latent_layer_s + shapes.sparse_layers * engine.sparse_layer_s
    return _slowness(machine, engine) * (layers + special + engine.step_s)


def _reduced_s(shapes: Shapes, machine: Machine, setting: Setting, tokens: Floats, share: Floats) -> Floats:
    """Two all-reduces a layer in rings, ``2 (g − 1) / g`` times the activations over the links (Patarasuk & Yuan 2009)."""
    size = shapes.layers * 2 * tokens * shapes.hidden * _ACTIVATION_BYTES
    return size * 2 * (setting.devices - 1) / setting.devices / (machine.link_bytes_per_s(setting.devices) * share)


def _weights_s(shapes: Shapes, machine: Machine, setting: Setting, engine: Engine, tokens: Floats) -> Floats:
    """To read every weight that some tokens need once."""
    attention = shapes.attention / np.where(setting.replicated, 1.0, setting.devices)
    rest = (shapes.common - shapes.attention) / setting.devices
    dense = (attention + rest) * setting.common_bytes + shapes.head / setting.devices * _ACTIVATION_BYTES
    routed = shapes.touched(tokens) / setting.devices * setting.expert_bytes
    return (dense / engine.weight_share + routed / engine.expert_share) / machine.bandwidth_bytes_per_s


def decode_step(shapes: Shapes, machine: Machine, setting: Setting, engine: Engine, batch: Floats, context: Floats) -> Step:
    """One step that gives each sequence of a batch one token.

    Args:
        shapes: of the models.
        machine: one device of each.
        setting: how the model is stored and cut.
        engine: what the serving engine reaches.
        batch: ``[n]`` sequences over all devices of one copy of the model.
        context: ``[n]`` mean tokens of a sequence so far.
    """
    count = setting.devices
    weights = _weights_s(shapes, machine, setting, engine, batch)
    head = 2 * batch * shapes.head / count / (machine.peak16_flop_per_s * engine.dense_share)
    compute = _products_s(shapes, machine, setting, engine, batch) + head
    cache = _cache_s(shapes, machine, setting, engine, batch, context)
    link = np.where(
        count > 1,
        2 * shapes.layers * engine.hop_s * _slowness(machine, engine)
        + _reduced_s(shapes, machine, setting, batch, engine.decode_link_share),
        0.0,
    )
    overhead = _overhead(shapes, machine, engine) + engine.sequence_s * batch
    total = _join(weights, compute, engine.blend) + cache + link + overhead
    return Step(weights_s=weights, compute_s=compute, cache_s=cache, link_s=link, overhead_s=overhead, total_s=total)


def _cache_s(shapes: Shapes, machine: Machine, setting: Setting, engine: Engine, batch: Floats, context: Floats) -> Floats:
    attended = shapes.attended(context)
    parts = np.where(setting.replicated, setting.devices, np.minimum(setting.devices, shapes.shards))
    size = batch * shapes.cache * attended * setting.cache_bytes / parts
    states = batch * shapes.state * 2 * _STATE_BYTES / setting.devices
    read = (size + states) / (machine.bandwidth_bytes_per_s * engine.cache_share)
    flop = np.where(shapes.latent_layers > 0, batch * attended * shapes.decode_pair / setting.devices, 0.0)
    return _join(read, flop / (machine.peak16_flop_per_s * engine.latent_share), engine.blend)


def prefill_s(shapes: Shapes, machine: Machine, setting: Setting, engine: Engine, prompt: Floats) -> Floats:
    """Seconds to read a prompt alone, ``[n]``."""
    products = _products_s(shapes, machine, setting, engine, prompt)
    whole = _join(_weights_s(shapes, machine, setting, engine, prompt), products, engine.blend)
    return whole + _beside_products_s(shapes, machine, setting, engine, prompt) + _overhead(shapes, machine, engine)


def joining_s(shapes: Shapes, machine: Machine, setting: Setting, engine: Engine, prompt: Floats) -> Floats:
    """Seconds that a prompt adds to steps that run anyway, ``[n]``: weights are read and operators started for them already."""
    products = _products_s(shapes, machine, setting, engine, prompt)
    return products + _beside_products_s(shapes, machine, setting, engine, prompt)


def _beside_products_s(shapes: Shapes, machine: Machine, setting: Setting, engine: Engine, prompt: Floats) -> Floats:
    """Attention over a prompt and its all-reduces."""
    flop = shapes.prefill_pair * shapes.pairs(prompt) / setting.devices
    attention = flop / (machine.peak16_flop_per_s * engine.prompt_attention_share)
    return attention + np.where(
        setting.devices > 1, _reduced_s(shapes, machine, setting, prompt, engine.prompt_link_share), 0.0
    )


def serve(shapes: Shapes, machine: Machine, setting: Setting, engine: Engine) -> Served:
    """A server that always holds ``setting.concurrency`` requests of one length.

    Args:
        shapes: of the models.
        machine: one device of each.
        setting: of the server and its requests.
        engine: what the serving engine reaches.
    """
    room = sequences_that_fit(shapes, machine, setting)
    batch = np.minimum(setting.concurrency / setting.stages, room / setting.stages)
    step = decode_step(shapes, machine, setting, engine, batch, setting.prompt + setting.output / 2)
    prefill = prefill_s(shapes, machine, setting, engine, setting.prompt)
    others = np.maximum(batch - 1, 0.0)
    joining = joining_s(shapes, machine, setting, engine, setting.prompt)
    tpot = step.total_s + engine.interference * others / setting.output * joining
    decoding = (setting.output - 1) * tpot
    # Requests that found no room wait until others leave: in a closed loop each for the share of the loop that is held back.
    held = np.maximum(setting.concurrency / setting.stages / batch - 1, 0.0) * decoding
    ttft = engine.arrival_s + engine.own * prefill + engine.queue * others * joining + engine.steps * tpot + engine.held * held
    request = ttft + decoding
    return Served(
        tpot_s=tpot,
        ttft_s=ttft,
        request_s=request,
        output_tokens_per_s=setting.concurrency * setting.output / request,
        batch=batch * setting.stages,
        step=step,
        prefill_s=prefill,
    )


def offline_tokens_per_s(shapes: Shapes, machine: Machine, setting: Setting, engine: Engine) -> Floats:
    """Output tokens per second, ``[n]``, when all requests are there from the start and the memory is kept full.

    Every request's prompt is read once while it and the others decode: a request takes ``output`` steps, and in that time each
    place of the batch reads one prompt. With stages, each works on one part of the batch at a time.

    Args:
        shapes: of the models.
        machine: one device of each.
        setting: ``concurrency`` is the most that the engine decodes together.
        engine: what the serving engine reaches.
    """
    batch = np.minimum(setting.concurrency, sequences_that_fit(shapes, machine, setting)) / setting.stages
    step = decode_step(shapes, machine, setting, engine, batch, setting.prompt + setting.output / 2)
    prompts = batch / setting.output * joining_s(shapes, machine, setting, engine, setting.prompt)
    stages = setting.stages / (1 + engine.stage_loss * (setting.stages - 1))
    return batch * stages / (step.total_s + engine.interference * prompts)
