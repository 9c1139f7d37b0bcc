"""Language models as columns: the counts of :class:`~dovetail.core.transformer.Transformer`, one element a prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.core.transformer import Transformer

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """Counts of n models, each ``[n]``; elements of weights and caches, not bytes.

    Attributes:
        layers: of all kinds; ``moe_layers`` with experts; ``latent_layers`` with latent attention; ``sparse_layers`` with an
            indexer that chooses what is attended to.
        hidden: width of the residual stream; ``heads`` of queries.
        attention: elements of the attention projections of all layers.
        common: elements in the layers that every token multiplies with, ``attention`` among them.
        head: elements of the output layer.
        tables: elements of embedding table and output layer as stored.
        expert: elements of one expert; ``experts`` of one layer; ``per_token`` of them visited.
        cache: elements that a layer stores for one token.
        shards: parts that a cache can be cut into, one a head of keys and values; 1 for latent attention.
        full: layers that attend to everything; ``windowed`` to the last ``window`` tokens; ``most`` tokens at most.
        prefill_pair: FLOP of a pair of tokens in one layer while a prompt is read.
        decode_pair: the same for a new token; latent attention then works on the stored vectors (arXiv:2405.04434, 2.1.2).
        state: elements of recurrent states of one sequence.
    """

    layers: Floats
    moe_layers: Floats
    latent_layers: Floats
    sparse_layers: Floats
    hidden: Floats
    heads: Floats
    attention: Floats
    common: Floats
    head: Floats
    tables: Floats
    expert: Floats
    experts: Floats
    per_token: Floats
    cache: Floats
    shards: Floats
    full: Floats
    windowed: Floats
    window: Floats
    most: Floats
    prefill_pair: Floats
    decode_pair: Floats
    state: Floats

    @property
    def routed(self) -> Floats:
        """Elements of all experts, ``[n]``."""
        return self.moe_layers * self.experts * self.expert

    @property
    def active(self) -> Floats:
        """Elements that one token multiplies with, the output layer left out, ``[n]``."""
        return self.common + self.moe_layers * self.per_token * self.expert

    def touched(self, tokens: Floats) -> Floats:
        """Elements of the experts that at least one of the tokens visits (:meth:`Transformer.experts_touched`), ``[n]``."""
        share = np.where(self.experts > 0, self.per_token / np.maximum(self.experts, 1), 0.0)
        return self.moe_layers * self.expert * self.experts * (1 - (1 - share) ** tokens)

    def stored(self, context: Floats) -> Floats:
        """Elements that one sequence keeps, ``[n]``, recurrent states left out."""
        return self.cache * (self.full * context + self.windowed * np.minimum(context, self.window))

    def attended(self, context: Floats) -> Floats:
        """Tokens that a new token attends to, summed over the layers, ``[n]``."""
        return self.full * np.minimum(context, self.most) + self.windowed * np.minimum(context, self.window)

    def pairs(self, prompt: Floats) -> Floats:
        """Pairs of tokens that attend to each other while a prompt is read, summed over the layers, ``[n]``."""
        return prompt * (self.full * _half(prompt, self.most) + self.windowed * _half(prompt, self.window))


def _half(prompt: Floats, most: Floats) -> Floats:
    """Mean number of tokens before one, of which at most ``most`` count: ``∫ min(t, m) dt / p``."""
    short = np.minimum(prompt, most)
    return np.where(np.isinf(most), prompt / 2, short - short**2 / (2 * np.maximum(prompt, 1)))


def shapes(models: Sequence[Transformer]) -> Shapes:
    """The counts of the given models in their order."""
    distinct = list(dict.fromkeys(models))
    number = {model: index for index, model in enumerate(distinct)}
    pick = np.array([number[model] for model in models], dtype=np.intp)
    return Shapes(
        **{name: np.array([count(model) for model in distinct], dtype=np.float64)[pick] for name, count in _COUNTS.items()}
    )


def _recurrent_layers(model: Transformer) -> int:
    return model.recurrent.layers if model.recurrent else 0


def _attention(model: Transformer) -> int:
    recurrent = _recurrent_layers(model)
    return (model.layers - recurrent) * model.attention_params + recurrent * model.recurrent_params


def _decode_pair(model: Transformer) -> int:
    if model.latent is None:
        return model.attention_flop_per_pair
    return 2 * model.heads * (2 * model.latent.key_rank + model.latent.rotary_dim)


def _most(model: Transformer) -> float:
    return float(model.latent.attended) if model.latent and model.latent.attended else np.inf


_COUNTS: dict[str, Callable[[Transformer], float]] = {
    "layers": lambda m: m.layers,
    "moe_layers": lambda m: m.moe_layers,
    "latent_layers": lambda m: m.layers if m.latent else 0,
    "sparse_layers": lambda m: m.layers if m.latent and m.latent.attended else 0,
    "hidden": lambda m: m.hidden,
    "heads": lambda m: m.heads,
    "attention": _attention,
    "common": lambda m: m.common_params,
    "head": lambda m: m.head_params,
    "tables": lambda m: m.head_params * (1 if m.tied else 2),
    "expert": lambda m: m.expert_params,
    "experts": lambda m: m.experts,
    "per_token": lambda m: m.experts_per_token,
    "cache": lambda m: m.kv_elements_per_layer,
    "shards": lambda m: 1 if m.latent else m.kv_heads,
    "full": lambda m: m.full_layers,
    "windowed": lambda m: m.windowed_layers,
    "window": lambda m: m.window,
    "most": _most,
    "prefill_pair": lambda m: m.attention_flop_per_pair,
    "decode_pair": _decode_pair,
    "state": lambda m: m.state_elements,
}
