"""Reads the ``config.json`` of a language model, as Hugging Face repositories hold it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from dovetail.core.errors import InputError, ModelError
from dovetail.core.source import Source, SourceKind
from dovetail.core.transformer import Latent, Recurrent, Transformer


def _any(*names: str, default: Any = ...) -> Any:
    return Field(default, validation_alias=AliasChoices(*names))


class _Config(BaseModel):
    """The keys that shapes follow from, under the names that model families give them. Other keys say nothing about shapes."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model_type: str = ""
    layers: int = _any("num_hidden_layers", "n_layer", "num_layers")
    hidden: int = _any("hidden_size", "n_embd", "d_model")
    heads: int = _any("num_attention_heads", "n_head", "num_heads")
    kv_heads: int | None = _any("num_key_value_heads", "multi_query_group_num", default=None)
    head_dim: int | None = None
    ffn: int | None = _any("intermediate_size", "n_inner", "ffn_hidden_size", default=None)
    vocab: int = _any("vocab_size", "padded_vocab_size")
    tied: bool = _any("tie_word_embeddings", default=False)
    query_gate: bool = _any("attn_output_gate", default=False)
    experts: int = _any("num_local_experts", "num_experts", "n_routed_experts", default=0)
    experts_per_token: int = _any("num_experts_per_tok", "experts_per_token", "moe_topk", default=0)
    expert_ffn: int | None = _any("moe_intermediate_size", default=None)
    shared_experts: int | None = _any("n_shared_experts", default=None)
    shared_ffn: int | None = _any("shared_expert_intermediate_size", default=None)
    dense_layers: int | None = _any("first_k_dense_replace", default=None)
    query_rank: int | None = _any("q_lora_rank", default=None)
    key_rank: int | None = _any("kv_lora_rank", default=None)
    plain_dim: int = _any("qk_nope_head_dim", default=0)
    rotary_dim: int = _any("qk_rope_head_dim", default=0)
    value_dim: int = _any("v_head_dim", default=0)
    attended: int = _any("index_topk", default=0)
    window: int | None = _any("sliding_window", default=None)
    use_window: bool = _any("use_sliding_window", default=True)
    layer_types: list[str] = []
    key_heads: int = _any("linear_num_key_heads", default=0)
    value_heads: int = _any("linear_num_value_heads", default=0)
    recurrent_dim: int = _any("linear_value_head_dim", default=0)


_UNGATED = frozenset({"gptj", "gpt2", "gpt_neox", "opt", "phi", "bloom", "mpt", "falcon", "starcoder2"})
"""Families whose feed-forward networks have two matrices."""


def read_config(config: Mapping[str, Any], name: str = "", where: str = "config.json") -> Transformer:
    """The model that a configuration describes.

    Args:
        config: as parsed from JSON; where a multimodal model nests the text part, that is read.
        name: of the model; that in the configuration by default.
        where: for messages and the source.

    Raises:
        ModelError: a key that shapes need is missing or is no number, or the shapes contradict each other.
    """
    text = {**config, **config.get("text_config", {})}
    try:
        found = _Config.model_validate({key: value for key, value in text.items() if value is not None})
    except ValidationError as exc:
        first = exc.errors()[0]
        keys = ".".join(str(part) for part in first["loc"])
        message = "is missing" if first["type"] == "missing" else f"cannot be used: {first['msg']}"
        raise ModelError(
            f"{keys} {message}", where=where, hint="the config.json of a decoder-only language model is wanted"
        ) from exc
    try:
        return _transformer(found, name or str(config.get("_name_or_path") or found.model_type or "model"), where)
    except ValueError as exc:
        raise ModelError(str(exc), where=where) from exc


def read_file(path: Path) -> Transformer:
    """The model of one ``config.json``.

    Raises:
        InputError: the file cannot be read or holds no JSON object.
        ModelError: as :func:`read_config`.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InputError(f"cannot be read: {exc}", where=str(path)) from exc
    if not isinstance(config, dict):
        raise InputError("holds no JSON object", where=str(path))
    return read_config(config, where=str(path))


def _transformer(found: _Config, name: str, where: str) -> Transformer:
    windowed = _windowed_layers(found)
    mixture = found.experts > 0
    # Mixtral and gpt-oss give an expert's width as intermediate_size and have no dense layer.
    expert_ffn = (found.expert_ffn or found.ffn or 0) if mixture else 0
    dense_layers = (found.dense_layers or 0) if mixture else 0
    return Transformer(
        name=name,
        layers=found.layers,
        hidden=found.hidden,
        heads=found.heads,
        kv_heads=found.kv_heads or found.heads,
        head_dim=found.head_dim or max(found.hidden // max(found.heads, 1), 1),
        ffn=0 if mixture and not dense_layers else (found.ffn or 4 * found.hidden),
        vocab=found.vocab,
        source=Source(kind=SourceKind.QUOTED, ref=where),
        matrices=2 if found.model_type in _UNGATED else 3,
        tied=found.tied,
        query_gate=found.query_gate,
        experts=found.experts,
        experts_per_token=found.experts_per_token,
        expert_ffn=expert_ffn,
        shared_ffn=found.shared_ffn or (found.shared_experts or 0) * expert_ffn,
        dense_layers=dense_layers,
        latent=_latent(found),
        recurrent=_recurrent(found),
        window=(found.window or 0) if windowed else 0,
        windowed_layers=windowed,
    )


def _windowed_layers(found: _Config) -> int:
    """Layers that look back on a window: those listed, else all where a window is set and used."""
    if found.layer_types:
        return found.layer_types.count("sliding_attention") if found.window else 0
    return found.layers if found.window and found.use_window else 0


def _latent(found: _Config) -> Latent | None:
    if not found.key_rank:
        return None
    return Latent(
        query_rank=found.query_rank or 0,
        key_rank=found.key_rank,
        plain_dim=found.plain_dim,
        rotary_dim=found.rotary_dim,
        value_dim=found.value_dim,
        attended=found.attended,
    )


def _recurrent(found: _Config) -> Recurrent | None:
    layers = found.layer_types.count("linear_attention")
    if not layers:
        return None
    return Recurrent(layers=layers, key_heads=found.key_heads, value_heads=found.value_heads, head_dim=found.recurrent_dim)
