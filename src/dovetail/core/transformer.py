"""What a decoder-only language model is made of, and what one token costs it. A multiply-add counts as 2 FLOP.

The counts follow from shapes alone: a weight matrix of ``n`` elements costs ``2 n`` FLOP a token (Kaplan et al. 2020,
arXiv:2001.08361, section 2.1), attention to a context of ``c`` tokens costs ``2 c`` for each element of a query and of a value.
Norms, rotations and softmax are left out; they are below 1 % of either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dovetail.core.source import Source

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Multi-head latent attention: keys and values are stored as one short vector a token (DeepSeek-V2, arXiv:2405.04434, 2.1).

    Attributes:
        query_rank: width that queries pass through; 0 where they do not.
        key_rank: width of the stored vector.
        plain_dim: part of a head's query and key that carries no position.
        rotary_dim: part that does; the key's is shared by all heads and stored too.
        value_dim: of one head's value.
        attended: tokens that a query attends to at most, chosen by an indexer (DeepSeek-V3.2, arXiv:2512.02556); 0 for all.
    """

    query_rank: int
    key_rank: int
    plain_dim: int
    rotary_dim: int
    value_dim: int
    attended: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrent:
    """Layers whose attention is a recurrence with a state of fixed size (Gated DeltaNet, arXiv:2412.06464).

    Attributes:
        layers: how many of the model's layers are such.
        key_heads: of queries and keys.
        value_heads: of values and of their gates.
        head_dim: of both.
    """

    layers: int
    key_heads: int
    value_heads: int
    head_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformer:
    """A decoder-only transformer.

    Attributes:
        name: as its makers publish it.
        layers: of all kinds.
        hidden: width of the residual stream.
        heads: query heads.
        kv_heads: heads of keys and values; fewer than ``heads`` in grouped-query attention.
        head_dim: of one head.
        ffn: inner width of a dense layer's feed-forward network; 0 where no layer is dense.
        vocab: rows of the embedding table.
        matrices: of a feed-forward network: 3 with a gate, 2 without.
        tied: the output layer is the embedding table.
        query_gate: queries come with a gate of their size for the output.
        experts: of a mixture layer; 0 in a dense model.
        experts_per_token: of them that a token visits.
        expert_ffn: inner width of one.
        shared_ffn: inner width of the experts that every token visits, together.
        dense_layers: the layers before the first mixture.
        latent: latent attention instead of ``kv_heads`` keys and values.
        recurrent: layers without a growing memory.
        window: tokens that windowed layers look back on.
        windowed_layers: how many layers are windowed.
        source: of these numbers.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    source: Source
    matrices: int = 3
    tied: bool = False
    query_gate: bool = False
    experts: int = 0
    experts_per_token: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    dense_layers: int = 0
    latent: Latent | None = None
    recurrent: Recurrent | None = None
    window: int = 0
    windowed_layers: int = 0

    def __post_init__(self) -> None:
        for field in ("layers", "hidden", "heads", "kv_heads", "head_dim", "vocab"):
            if getattr(self, field) < 1:
                raise ValueError(f"{self.name}: {field} is at least 1, not {getattr(self, field)}")
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.name}: {self.heads} heads cannot share {self.kv_heads} heads of keys and values evenly")
        if self.experts and not 1 <= self.experts_per_token <= self.experts:
            raise ValueError(f"{self.name}: a token visits 1 to {self.experts} experts, not {self.experts_per_token}")
        if not self.ffn and (not self.experts or self.dense_layers):
            raise ValueError(f"{self.name}: a dense layer needs the width of its feed-forward network")

    @property
    def moe_layers(self) -> int:
        """Layers that hold a mixture of experts."""
        return self.layers - self.dense_layers if self.experts else 0

    @property
    def full_layers(self) -> int:
        """Layers that attend to the whole context."""
        return self.layers - self.windowed_layers - (self.recurrent.layers if self.recurrent else 0)

    @property
    def attention_params(self) -> int:
        """Elements of the projections of one layer with attention."""
        if self.latent is None:
            width = self.heads * self.head_dim
            return self.hidden * (width * (3 if self.query_gate else 2) + 2 * self.kv_heads * self.head_dim)
        part = self.latent
        query = self.heads * (part.plain_dim + part.rotary_dim)
        into = part.query_rank * (self.hidden + query) if part.query_rank else self.hidden * query
        keys = self.hidden * (part.key_rank + part.rotary_dim) + part.key_rank * self.heads * (part.plain_dim + part.value_dim)
        return into + keys + self.heads * part.value_dim * self.hidden

    @property
    def recurrent_params(self) -> int:
        """Elements of the projections of one recurrent layer: queries, keys, values, gates, two scalars a head, output."""
        if self.recurrent is None:
            return 0
        part = self.recurrent
        return self.hidden * (2 * part.key_heads * part.head_dim + part.value_heads * (3 * part.head_dim + 2))

    @property
    def expert_params(self) -> int:
        """Elements of one expert."""
        return self.matrices * self.hidden * self.expert_ffn

    @property
    def common_params(self) -> int:
        """Elements that every token multiplies with in the layers: projections, dense networks, shared experts, routers."""
        recurrent = self.recurrent.layers if self.recurrent else 0
        dense = self.layers - self.moe_layers
        return (
            (self.layers - recurrent) * self.attention_params
            + recurrent * self.recurrent_params
            + dense * self.matrices * self.hidden * self.ffn
            + self.moe_layers * (self.matrices * self.hidden * self.shared_ffn + self.experts * self.hidden)
        )

    @property
    def head_params(self) -> int:
        """Elements of the output layer."""
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All elements of weight matrices, the embedding table included."""
        tables = self.head_params * (1 if self.tied else 2)
        return self.common_params + self.moe_layers * self.experts * self.expert_params + tables

    @property
    def active_parameters(self) -> int:
        """Elements that one token multiplies with: the output layer counts, the look-up in the embedding table does not."""
        return self.common_params + self.moe_layers * self.experts_per_token * self.expert_params + self.head_params

    @property
    def kv_elements_per_layer(self) -> int:
        """Elements that a layer stores for each token of its context."""
        if self.latent is not None:
            return self.latent.key_rank + self.latent.rotary_dim
        return 2 * self.kv_heads * self.head_dim

    def kv_elements(self, context: ArrayLike) -> Floats:
        """Elements stored for one sequence.

        Args:
            context: tokens so far, any shape.
        """
        length = np.asarray(context, dtype=np.float64)
        tokens = self.full_layers * length + self.windowed_layers * np.minimum(length, self.window)
        return np.asarray(tokens * self.kv_elements_per_layer + self.state_elements)

    @property
    def state_elements(self) -> int:
        """Elements of the recurrent layers' states of one sequence: one matrix a value head."""
        if self.recurrent is None:
            return 0
        return self.recurrent.layers * self.recurrent.value_heads * self.recurrent.head_dim**2

    def attended(self, context: ArrayLike) -> Floats:
        """Tokens that a new token attends to, summed over the layers; any shape."""
        length = np.asarray(context, dtype=np.float64)
        most = self.latent.attended if self.latent and self.latent.attended else np.inf
        return np.asarray(self.full_layers * np.minimum(length, most) + self.windowed_layers * np.minimum(length, self.window))

    @property
    def attention_flop_per_pair(self) -> int:
        """FLOP of one token that attends to one other in one layer, keys and values given for each head."""
        if self.latent is not None:
            return 2 * self.heads * (self.latent.plain_dim + self.latent.rotary_dim + self.latent.value_dim)
        return 4 * self.heads * self.head_dim

    def flop_per_token(self, context: ArrayLike) -> Floats:
        """FLOP to process one token.

        Args:
            context: tokens before it, any shape.
        """
        state = 0 if self.recurrent is None else 6 * self.state_elements
        return np.asarray(2.0 * self.active_parameters + state + self.attention_flop_per_pair * self.attended(context))

    def experts_touched(self, tokens: ArrayLike) -> Floats:
        """Experts of one mixture layer that at least one token visits, when each token draws its experts evenly.

        The expectation of distinct draws, ``E (1 − (1 − k/E)ⁿ)``. Trained routers are less even, so that fewer are touched.

        Args:
            tokens: processed together, any shape.
        """
        if not self.experts:
            return np.zeros_like(np.asarray(tokens, dtype=np.float64))
        missed = (1 - self.experts_per_token / self.experts) ** np.asarray(tokens, dtype=np.float64)
        return np.asarray(self.experts * (1 - missed))
