"""Public language models by their shapes, each with the place its numbers were read in.

``assumed`` marks what nobody read in a source. The names are those of the model cards, without the owner.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from dovetail.core.errors import InputError
from dovetail.core.source import Source, SourceKind
from dovetail.core.transformer import Latent, Recurrent, Transformer

_LITGPT = "Lightning-AI/litgpt:litgpt/config.py@0006c97"
_CONFIGURATOR = "ai-dynamo/aiconfigurator:src/aiconfigurator/model_configs"


def _model(name: str, ref: str, shape: tuple[int, ...], kind: SourceKind = SourceKind.QUOTED, **more: Any) -> Transformer:
    """``shape``: layers, hidden, heads, kv_heads, head_dim, ffn, vocab."""
    fields = ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab")
    counts: dict[str, Any] = dict(zip(fields, shape, strict=True))
    return Transformer(name=name, source=Source(kind=kind, ref=ref), **counts, **more)


def _llama() -> Iterator[Transformer]:
    for name, shape in {
        "LLaMA-7B": (32, 4096, 32, 32, 128, 11008, 32000),
        "Llama-2-7B": (32, 4096, 32, 32, 128, 11008, 32000),
        "Llama-2-13B": (40, 5120, 40, 40, 128, 13824, 32000),
        "Llama-2-70B": (80, 8192, 64, 8, 128, 28672, 32000),
        "Llama-3-8B": (32, 4096, 32, 8, 128, 14336, 128256),
        "Llama-3-70B": (80, 8192, 64, 8, 128, 28672, 128256),
        "Llama-3.1-405B": (126, 16384, 128, 8, 128, 53248, 128256),
    }.items():
        yield _model(name, _LITGPT, shape)
    for name, shape in {
        "Llama-3.2-1B": (16, 2048, 32, 8, 64, 8192, 128256),
        "Llama-3.2-3B": (28, 3072, 24, 8, 128, 8192, 128256),
    }.items():
        yield _model(name, _LITGPT, shape, tied=True)


def _qwen() -> Iterator[Transformer]:
    for name, shape in {
        "Qwen3-8B": (36, 4096, 32, 8, 128, 12288, 151936),
        "Qwen3-14B": (40, 5120, 40, 8, 128, 17408, 151936),
        "Qwen3-32B": (64, 5120, 64, 8, 128, 25600, 151936),
    }.items():
        yield _model(name, _LITGPT, shape)
    mixture: dict[str, Any] = {"experts": 128, "experts_per_token": 8}
    yield _model("Qwen3-30B-A3B", _LITGPT, (48, 2048, 32, 4, 128, 0, 151936), expert_ffn=768, **mixture)
    yield _model("Qwen3-235B-A22B", _LITGPT, (94, 4096, 64, 4, 128, 0, 151936), expert_ffn=1536, **mixture)
    yield _model(
        "Qwen3.5-397B-A17B",
        f"{_CONFIGURATOR}/Qwen--Qwen3.5-397B-A17B_config.json@87fe4b0",
        (60, 4096, 32, 2, 256, 0, 248320),
        query_gate=True,
        experts=512,
        experts_per_token=10,
        expert_ffn=1024,
        shared_ffn=1024,
        recurrent=Recurrent(layers=45, key_heads=16, value_heads=64, head_dim=128),
    )


def _latent() -> Iterator[Transformer]:
    deepseek = Latent(query_rank=1536, key_rank=512, plain_dim=128, rotary_dim=64, value_dim=128)
    shared: dict[str, Any] = {"experts_per_token": 8, "expert_ffn": 2048, "shared_ffn": 2048}
    yield _model(
        "DeepSeek-V3",
        "deepseek-ai/DeepSeek-V3:inference/configs/config_671B.json; DeepSeek-V3 technical report, arXiv:2412.19437, 4.2",
        (61, 7168, 128, 128, 128, 18432, 129280),
        experts=256,
        dense_layers=3,
        latent=deepseek,
        **shared,
    )
    yield _model(
        "Kimi-K2.5",
        f"{_CONFIGURATOR}/moonshotai--Kimi-K2.5_config.json@821eb9a",
        (61, 7168, 64, 64, 128, 18432, 163840),
        experts=384,
        dense_layers=1,
        latent=deepseek,
        **shared,
    )
    yield _model(
        "GLM-5",
        f"{_CONFIGURATOR}/zai-org--GLM-5-FP8_config.json@691ec90; 2,048 attended tokens: arXiv:2512.02556, 2.1",
        (78, 6144, 64, 64, 256, 12288, 154880),
        experts=256,
        dense_layers=3,
        latent=Latent(query_rank=2048, key_rank=512, plain_dim=192, rotary_dim=64, value_dim=256, attended=2048),
        **shared,
    )


def _others() -> Iterator[Transformer]:
    yield _model("GPT-J-6B", "model card of EleutherAI/gpt-j-6b", (28, 4096, 16, 16, 256, 16384, 50400), matrices=2)
    mixtral: dict[str, Any] = {"experts": 8, "experts_per_token": 2}
    ref = "mistralai/Mixtral-8x7B-Instruct-v0.1:config.json"
    yield _model("Mixtral-8x7B", ref, (32, 4096, 32, 8, 128, 0, 32000), expert_ffn=14336, **mixtral)
    ref = "mistralai/Mixtral-8x22B-v0.1:config.json, from memory"
    yield _model("Mixtral-8x22B", ref, (56, 6144, 48, 8, 128, 0, 32000), SourceKind.ASSUMED, expert_ffn=16384, **mixtral)
    yield _model(
        "MiniMax-M2.5",
        "MiniMaxAI/MiniMax-M2.5:config.json, as in ModelCloud/GPTQModel",
        (62, 3072, 48, 8, 128, 0, 200064),
        experts=256,
        experts_per_token=8,
        expert_ffn=1536,
    )
    for name, layers, experts in (("gpt-oss-120b", 36, 128), ("gpt-oss-20b", 24, 32)):
        yield _model(
            name,
            "GptOssConfig of huggingface/transformers; window 128 on every second layer",
            (layers, 2880, 64, 8, 64, 0, 201088),
            experts=experts,
            experts_per_token=4,
            expert_ffn=2880,
            window=128,
            windowed_layers=layers // 2,
        )


ARCHITECTURES = {model.name: model for family in (_llama, _qwen, _latent, _others) for model in family()}
"""Name → model."""


def architecture(name: str) -> Transformer:
    """The model of that name, whatever its case.

    Raises:
        InputError: there is none; the hint names the nearest.
    """
    found = {known.lower(): model for known, model in ARCHITECTURES.items()}
    if name.lower() in found:
        return found[name.lower()]
    near = difflib.get_close_matches(name.lower(), found, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(found[key].name for key in near)}?" if near else f"known: {', '.join(ARCHITECTURES)}"
    raise InputError(f"no language model is called {name!r}", hint=hint)
