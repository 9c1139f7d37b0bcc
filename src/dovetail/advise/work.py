"""Workloads that are told by a few numbers, where there is no model file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CnnWork(_Strict):
    """A convolutional network of ``flop`` operations (a multiply-add is 2) and ``parameters``.

    ``activations`` are elements written by all layers of one sample; without them, a hundredth of the operations (assumed).
    ``live`` of them are held at a time; a fifth by default (assumed).
    """

    kind: Literal["cnn"]
    flop: float = Field(gt=0)
    parameters: float = Field(gt=0)
    layers: int = Field(50, ge=1)
    side: int = Field(224, ge=1)
    activations: float | None = Field(None, gt=0)
    live: float | None = Field(None, gt=0)


class RecommenderWork(_Strict):
    """A recommender: an embedding table of ``rows`` times ``dim``, ``lookups`` in it a sample, and dense layers."""

    kind: Literal["recommender"]
    rows: float = Field(gt=0)
    dim: int = Field(gt=0)
    lookups: int = Field(100, ge=1)
    dense_parameters: float = Field(1e7, gt=0)
    dense_layers: int = Field(8, ge=1)
    table_precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"


class ShapeWork(_Strict):
    """Sizes of a decoder-only transformer, under the names of :class:`dovetail.core.transformer.Transformer`."""

    layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    ffn: int = Field(ge=1)
    vocab: int = Field(ge=1)


class LlmWork(_Strict):
    """A language model behind a batching server: a known architecture or sizes, and how many use it at a time."""

    kind: Literal["llm"]
    architecture: str | None = None
    shape: ShapeWork | None = None
    users: float = Field(1.0, ge=1)
    prompt: float = Field(512.0, ge=1)
    output: float = Field(256.0, ge=2)


class TrainingWork(_Strict):
    """Training of a transformer of ``parameters`` on ``tokens``, in mixed precision with Adam."""

    kind: Literal["training"]
    parameters: float = Field(gt=0)
    tokens: float = Field(gt=0)
