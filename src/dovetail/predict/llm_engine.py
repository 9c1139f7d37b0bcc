"""How well a serving engine uses a machine: the shares and overheads that the formulas of :mod:`dovetail.predict.llm` take.

They are fitted to published runs (``fitted/serving.json``, ``fitted/trtllm.json``) by ``benchmarks/validate.py``. A factor that
one backend shows beyond the others is shrunk towards 1, so that an unknown backend gets what all have in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Each ``[n]`` or a number.

    Attributes:
        weight_share: of the memory bandwidth that reading dense weights reaches; ``expert_share`` that of reading experts,
            ``cache_share`` that of reading keys and values.
        blend: exponent that joins memory and arithmetic: 1 adds them, ∞ takes the longer.
        dense_share: of the peak that dense products reach; ``mixture_share`` those of experts.
        four_bit_share: of either that 4-bit units reach.
        stage_loss: share of a stage's throughput that each further stage costs.
        prompt_attention_share: of the 16-bit peak that attention reaches over a prompt; ``latent_share`` latent attention in
            decoding.
        layer_s: time that a layer's small operators take on a device of :data:`PACE_BYTES_PER_S`; ``moe_layer_s``,
            ``latent_layer_s``, ``sparse_layer_s`` what such layers take beyond.
        step_s: the same of a whole step; ``sequence_s`` what each sequence of the batch adds.
        pace: exponent by which small operators are slower on a device of less bandwidth.
        hop_s: start of one all-reduce; ``decode_link_share`` and ``prompt_link_share`` of the link's rate.
        interference: share of the time of others' prompts that shows between a sequence's tokens.
        arrival_s: time to the first token that no work accounts for; ``own`` times of the own prompt, ``queue`` of each other
            sequence's, ``steps`` steps in flight, ``held`` times the wait for memory.
    """

    weight_share: Floats
    expert_share: Floats
    cache_share: Floats
    blend: Floats
    dense_share: Floats
    mixture_share: Floats
    four_bit_share: Floats
    stage_loss: Floats
    prompt_attention_share: Floats
    latent_share: Floats
    layer_s: Floats
    moe_layer_s: Floats
    latent_layer_s: Floats
    sparse_layer_s: Floats
    step_s: Floats
    sequence_s: Floats
    pace: Floats
    hop_s: Floats
    decode_link_share: Floats
    prompt_link_share: Floats
    interference: Floats
    arrival_s: Floats
    own: Floats
    queue: Floats
    steps: Floats
    held: Floats


NAMES = tuple(item.name for item in fields(Engine))


def engine(parameters: Mapping[str, Any], backends: Sequence[str]) -> Engine:
    """The engine of each prediction.

    Args:
        parameters: ``common`` (name → value) and ``backends`` (backend → name → factor), as fitted.
        backends: ``[n]`` names; one that was not fitted gets no factor.
    """
    factors: Mapping[str, Mapping[str, float]] = parameters["backends"]
    distinct = list(dict.fromkeys(backends))
    number = {backend: index for index, backend in enumerate(distinct)}
    pick = np.array([number[backend] for backend in backends], dtype=np.intp)
    return Engine(
        **{
            name: value * np.array([factors.get(backend, {}).get(name, 1.0) for backend in distinct])[pick]
            for name, value in parameters["common"].items()
        }
    )
