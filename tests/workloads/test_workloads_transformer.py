"""Language models by their shapes: counts against published sizes, configurations against the table."""

import json

import numpy as np
import pytest

from dovetail.core.errors import InputError, ModelError
from dovetail.core.source import SourceKind
from dovetail.workloads.architectures import ARCHITECTURES, architecture
from dovetail.workloads.transformer import read_config, read_file

# Parameters in billions as the model cards or papers state them.
PUBLISHED = {
    "LLaMA-7B": 6.74,
    "Llama-2-13B": 13.02,
    "Llama-2-70B": 68.98,
    "Llama-3-8B": 8.03,
    "Llama-3-70B": 70.55,
    "Llama-3.1-405B": 405.9,
    "Llama-3.2-1B": 1.24,
    "Llama-3.2-3B": 3.21,
    "Qwen3-8B": 8.19,
    "Qwen3-32B": 32.8,
    "Qwen3-30B-A3B": 30.5,
    "Qwen3-235B-A22B": 235.1,
    "Qwen3.5-397B-A17B": 397,
    "GPT-J-6B": 6.053,
    "Mixtral-8x7B": 46.7,
    "DeepSeek-V3": 671,
    "GLM-5": 744,
    "MiniMax-M2.5": 229,
    "gpt-oss-120b": 116.8,
    "gpt-oss-20b": 20.9,
}

DEEPSEEK = {
    "model_type": "deepseek_v3", "num_hidden_layers": 61, "hidden_size": 7168, "num_attention_heads": 128,
    "num_key_value_heads": 128, "intermediate_size": 18432, "vocab_size": 129280, "n_routed_experts": 256,
    "n_shared_experts": 1, "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "first_k_dense_replace": 3,
    "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "rope_theta": 10000, "torch_dtype": "bfloat16",
}  # fmt: skip

GPT_OSS = {
    "model_type": "gpt_oss", "num_hidden_layers": 36, "hidden_size": 2880, "num_attention_heads": 64, "num_key_value_heads": 8,
    "head_dim": 64, "intermediate_size": 2880, "vocab_size": 201088, "num_local_experts": 128, "num_experts_per_tok": 4,
    "sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 18,
}  # fmt: skip

LLAMA = {
    "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 14336, "vocab_size": 128256, "rope_scaling": None, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize(("name", "billions"), PUBLISHED.items())
def test_parameters_are_the_published_ones_to_a_hundredth(name, billions):
    assert architecture(name).parameters / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize(("name", "billions"), {"DeepSeek-V3": 37, "Qwen3-235B-A22B": 22, "Mixtral-8x7B": 12.9}.items())
def test_active_parameters_of_mixtures(name, billions):
    assert architecture(name).active_parameters / 1e9 == pytest.approx(billions, rel=0.02)


def test_every_model_names_its_source():
    assert all(model.source.ref for model in ARCHITECTURES.values())
    assert [model.name for model in ARCHITECTURES.values() if model.source.kind is SourceKind.ASSUMED] == ["Mixtral-8x22B"]


def test_the_cache_grows_linearly_and_a_window_bounds_it():
    llama, oss = architecture("Llama-3-8B"), architecture("gpt-oss-120b")
    assert np.allclose(llama.kv_elements([1000, 2000, 4000]), [65_536_000, 131_072_000, 262_144_000])
    assert float(oss.kv_elements(128) / oss.kv_elements(64)) == pytest.approx(2)
    assert float(oss.kv_elements(12_800) - oss.kv_elements(6_400)) == 18 * 2 * 8 * 64 * 6_400


def test_latent_attention_stores_a_fraction():
    # 576 elements a layer and token (DeepSeek-V3, arXiv:2412.19437) where 128 heads of keys and values would take 32,768.
    assert architecture("DeepSeek-V3").kv_elements_per_layer == 576


def test_recurrent_layers_store_a_state_of_fixed_size():
    qwen = architecture("Qwen3.5-397B-A17B")
    assert float(qwen.kv_elements(0)) == 45 * 64 * 128**2
    assert float(qwen.kv_elements(2000) - qwen.kv_elements(1000)) == 15 * 2 * 2 * 256 * 1000


def test_flop_of_a_token_are_twice_the_weights_and_grow_with_its_context():
    llama = architecture("Llama-3-8B")
    assert float(llama.flop_per_token(0)) == 2 * llama.active_parameters
    assert float(llama.flop_per_token(8192) - llama.flop_per_token(0)) == 4 * 32 * 128 * 32 * 8192


def test_experts_touched_by_one_token_by_many_and_by_none():
    deepseek = architecture("DeepSeek-V3")
    touched = deepseek.experts_touched([0, 1, 64, 10_000])
    assert touched[0] == 0
    assert touched[1] == pytest.approx(8)
    assert 200 < touched[2] < 256
    assert touched[3] == pytest.approx(256)


@pytest.mark.parametrize(("config", "name"), [(DEEPSEEK, "DeepSeek-V3"), (GPT_OSS, "gpt-oss-120b"), (LLAMA, "Llama-3-8B")])
def test_a_configuration_reads_as_the_model_of_the_table(config, name):
    read, known = read_config(config), architecture(name)
    assert read.parameters == known.parameters
    assert float(read.kv_elements(5000)) == float(known.kv_elements(5000))
    assert float(read.flop_per_token(5000)) == float(known.flop_per_token(5000))


def test_the_text_part_of_a_multimodal_model_is_read(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"vision_config": {"hidden_size": 1152}, "text_config": LLAMA}), encoding="utf-8")
    assert read_file(path).parameters == architecture("Llama-3-8B").parameters


def test_a_family_of_two_matrices():
    config = {"model_type": "gptj", "n_layer": 28, "n_embd": 4096, "n_head": 16, "n_inner": None, "vocab_size": 50400}
    assert read_config(config).parameters == architecture("GPT-J-6B").parameters


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({key: value for key, value in LLAMA.items() if key != "hidden_size"}, "num_hidden|hidden_size"),
        (LLAMA | {"num_key_value_heads": 5}, "cannot share 5 heads"),
        (LLAMA | {"num_hidden_layers": "many"}, "num_hidden_layers cannot be used"),
        (LLAMA | {"num_hidden_layers": 0}, "layers is at least 1"),
    ],
)
def test_a_configuration_that_says_nothing_usable_is_one_message(config, message):
    with pytest.raises(ModelError, match=message):
        read_config(config)


def test_a_file_that_is_no_configuration(tmp_path):
    path = tmp_path / "config.json"
    with pytest.raises(InputError, match="cannot be read"):
        read_file(path)
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(InputError, match="no JSON object"):
        read_file(path)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match="Qwen3-32B"):
        architecture("qwen3-33b")
