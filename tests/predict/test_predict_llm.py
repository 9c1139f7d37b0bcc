"""Serving, offline and single-stream predictions of language models: what binds, what fits, published runs."""

from dataclasses import replace

import numpy as np
import pytest

from dovetail.core.device import Device, Fact, Kind, Memory
from dovetail.core.errors import InputError
from dovetail.core.source import Source, SourceKind
from dovetail.devices.catalogue import device
from dovetail.predict.fitted_file import parameters
from dovetail.predict.llm import decode_step, prefill_s, serve
from dovetail.predict.llm_asked import Asked
from dovetail.predict.llm_engine import engine
from dovetail.predict.llm_memory import judge_fit
from dovetail.predict.llm_offline import offline
from dovetail.predict.llm_serving import serving
from dovetail.predict.llm_setting import Setting, link_note, machine
from dovetail.predict.llm_shapes import shapes
from dovetail.predict.llm_storage import label, multiplied_in, outside_experts, quantisation, stored
from dovetail.predict.llm_stream import Streamed, stream
from dovetail.workloads.architectures import architecture


def setting(n=1, **more):
    """One device, 16-bit weights, one request of 1,024 + 1,024 tokens, unless said otherwise."""
    numbers = {
        "devices": 1.0, "stages": 1.0, "concurrency": 1.0, "prompt": 1024.0, "output": 1024.0,
        "common_bytes": 2.0, "expert_bytes": 2.0, "cache_bytes": 2.0,
    } | more  # fmt: skip
    replicated = np.full(n, bool(numbers.pop("replicated", False)))
    return Setting(**{name: np.full(n, 1.0) * value for name, value in numbers.items()}, replicated=replicated)


def on(name, model, dtype="fp16"):
    return shapes([architecture(model)]), machine([device(name)], [dtype]), engine(parameters("serving"), ["vllm"])


def scaled(facts, **factors):
    return replace(facts, **{name: getattr(facts, name) * factor for name, factor in factors.items()})


def test_decoding_one_sequence_is_bound_by_bandwidth():
    sizes, facts, vllm = on("H100 SXM 80GB", "Llama-3-8B")
    one = np.ones(1)
    step = decode_step(sizes, facts, setting(), vllm, one, 1000 * one)
    assert step.binding()[0] == "weights"
    faster = decode_step(sizes, scaled(facts, bandwidth_bytes_per_s=2), setting(), vllm, one, 1000 * one)
    stronger = decode_step(sizes, scaled(facts, peak_flop_per_s=2, peak16_flop_per_s=2), setting(), vllm, one, 1000 * one)
    assert faster.total_s[0] < 0.7 * step.total_s[0]
    assert stronger.total_s[0] > 0.99 * step.total_s[0]


def test_reading_a_long_prompt_is_bound_by_arithmetic():
    sizes, facts, vllm = on("H100 SXM 80GB", "Llama-3-8B")
    prompt = np.full(1, 8192.0)
    time = prefill_s(sizes, facts, setting(), vllm, prompt)
    stronger = prefill_s(sizes, scaled(facts, peak_flop_per_s=2, peak16_flop_per_s=2), setting(), vllm, prompt)
    faster = prefill_s(sizes, scaled(facts, bandwidth_bytes_per_s=2), setting(), vllm, prompt)
    assert stronger[0] < 0.6 * time[0]
    assert faster[0] > 0.95 * time[0]


def test_reading_the_cache_grows_linearly_with_context_and_batch():
    sizes, facts, vllm = on("H100 SXM 80GB", "Llama-3-8B")
    one = np.ones(1)
    times = [decode_step(sizes, facts, setting(), vllm, one, context * one).cache_s[0] for context in (1000, 2000, 4000)]
    assert np.allclose(times, [times[0], 2 * times[0], 4 * times[0]])
    assert decode_step(sizes, facts, setting(), vllm, 8 * one, 1000 * one).cache_s[0] == pytest.approx(8 * times[0])


def test_a_mixture_reads_more_experts_for_more_sequences():
    sizes, facts, vllm = on("H200 SXM 141GB", "DeepSeek-V3", "fp8")
    eight = setting(devices=8.0, common_bytes=1.0, expert_bytes=1.0)
    one = np.ones(1)
    few, many, all_of_them = (
        decode_step(sizes, facts, eight, vllm, batch * one, 1000 * one).weights_s[0] for batch in (1, 64, 4096)
    )
    assert 5 * few < many < all_of_them < 1.3 * many


def test_more_requests_give_more_throughput_and_a_longer_time_between_tokens():
    sizes, facts, vllm = on("H100 SXM 80GB", "Llama-3-8B")
    few, many = (serve(sizes, facts, setting(concurrency=count), vllm) for count in (1.0, 64.0))
    assert many.tpot_s[0] > few.tpot_s[0]
    assert many.ttft_s[0] > few.ttft_s[0]
    assert many.output_tokens_per_s[0] > 10 * few.output_tokens_per_s[0]
    assert many.request_s[0] == pytest.approx(many.ttft_s[0] + 1023 * many.tpot_s[0])


def test_cutting_a_model_over_devices_shortens_a_step_by_less_than_their_number():
    sizes, facts, vllm = on("H100 SXM 80GB", "Llama-3-70B", "fp8")
    eight_bits = {"common_bytes": 1.0, "expert_bytes": 1.0, "cache_bytes": 1.0, "concurrency": 8.0}
    two, eight = (serve(sizes, facts, setting(devices=count, **eight_bits), vllm).tpot_s[0] for count in (2.0, 8.0))
    assert two / 4 < eight < two
    slow = scaled(facts, pair_bytes_per_s=1 / 20, all_bytes_per_s=1 / 20)
    assert serve(sizes, slow, setting(devices=8.0, **eight_bits), vllm).tpot_s[0] > eight


def test_a_group_talks_over_the_links_between_its_members():
    facts = machine([device("Instinct MI300X")], ["fp16"])
    rates = [facts.link_bytes_per_s(np.full(1, count))[0] / 1e9 for count in (2.0, 4.0, 8.0)]
    assert rates == [64, 192, 448]
    switched = machine([device("H100 SXM 80GB")], ["fp16"])
    assert [switched.link_bytes_per_s(np.full(1, count))[0] / 1e9 for count in (2.0, 8.0)] == [450, 450]


def test_devices_without_a_link_talk_over_the_hosts_and_that_is_said():
    # PCIe 3.0 x16: 16 GB/s one direction.
    old = device("V100 PCIe 16GB")
    assert machine([old], ["fp16"]).link_bytes_per_s(np.full(1, 2.0))[0] == 16e9
    assert "16 GB/s (assumed)" in link_note(old, 2) and not link_note(old, 1)
    assert not link_note(device("H100 SXM 80GB"), 8)
    bridged = machine([device("A30")], ["fp16"])
    assert [bridged.link_bytes_per_s(np.full(1, count))[0] / 1e9 for count in (2.0, 4.0)] == [100, 32]
    assert "joins two" in link_note(device("A30"), 4) and not link_note(device("A30"), 2)


def test_a_precision_is_stored_and_multiplied_as_in_the_fitted_runs():
    a100, b200 = device("A100 SXM 80GB"), device("B200 SXM")
    assert [quantisation(b200, name) for name in ("bf16", "fp16", "fp8", "int4")] == ["", "", "fp8", "nvfp4"]
    # The 4-bit integer units of an A100 are not used: weights alone are packed, and multiplied in 16 bits.
    assert quantisation(a100, "int4") == "int4_wo" and multiplied_in(a100, "int4_wo") == "fp16"
    assert multiplied_in(b200, "nvfp4") == "int4" and multiplied_in(device("H100 SXM 80GB"), "nvfp4") == "fp16"
    assert multiplied_in(b200, "fp8") == "fp8" and multiplied_in(a100, "fp8") == "fp16"
    assert [label(name) for name in ("", "fp8_block", "int4_wo")] == ["bf16", "fp8", "int4_wo"]
    with pytest.raises(InputError, match="fp32"):
        quantisation(a100, "fp32")


def test_scales_caches_and_what_is_no_expert_count_as_stored():
    weights, cache = stored(["", "fp8", "nvfp4"])
    assert weights.tolist() == [2.0, 1.0, 0.5625] and cache.tolist() == [2.0, 1.0, 1.0]
    mixture, plain = architecture("gpt-oss-120b"), architecture("Llama-3-8B")
    assert outside_experts([mixture, plain, mixture], np.array([0.5625, 0.5625, 1.0])).tolist() == [2.0, 0.5625, 1.0]


def test_requests_that_the_memory_does_not_hold_wait():
    sizes, facts, vllm = on("H100 SXM 80GB", "Llama-3-8B")
    full = serve(sizes, facts, setting(concurrency=4096.0), vllm)
    assert full.batch[0] < 4096
    assert full.ttft_s[0] > 10 * serve(sizes, facts, setting(concurrency=64.0), vllm).ttft_s[0]


def test_seven_billion_weights_do_not_fit_a_microcontroller():
    found = judge_fit(architecture("Llama-2-7B"), device("STM32H7A3"), setting(common_bytes=1.0, cache_bytes=1.0))
    assert found.fits is False
    assert found.reason == (
        "the weights of Llama-2-7B alone take 7 GB, more than the 1.07 MB of STM32H7A3 (Cortex-M7 280MHz)'s 1.19 MB "
        "that can be used"
    )


def test_what_ran_out_of_memory_does_not_fit_and_what_ran_does():
    # LLaMA-3 8B F16 with 8,192 tokens: out of memory on a 4080 of 16 GB, ran on an RTX 4000 Ada times 4
    # (XiongjieDai/GPU-Benchmarks-on-LLM-Inference, README.md).
    model, asked = architecture("Llama-3-8B"), setting(prompt=0.0, output=8192.0)
    assert judge_fit(model, device("GeForce RTX 4080"), asked).fits is False
    assert judge_fit(model, device("RTX 4000 Ada"), setting(prompt=0.0, output=8192.0, stages=4.0)).fits is True


def test_sequences_that_do_not_fit_are_named_with_what_they_take():
    many = setting(concurrency=512.0)
    found = judge_fit(architecture("Llama-3-8B"), device("H100 SXM 80GB"), many)
    assert found.fits is False
    assert "keys and values of 512 sequences take 137 GB beside 16.1 GB of weights" in found.reason


def made_up(**more):
    source = Source(kind=SourceKind.USER, ref="typed")
    return Device(name="made up", vendor="nobody", kind=Kind.GPU, **more), source


def test_unknown_memory_cannot_be_judged_and_unknown_bandwidth_not_predicted():
    blank, source = made_up()
    assert judge_fit(architecture("Llama-3-8B"), blank, setting()).fits is None
    with pytest.raises(InputError, match="bandwidth of made up is unknown"):
        machine([blank], ["fp16"])
    half, _ = made_up(memory=(Memory(name="HBM", bandwidth_bytes_per_s=Fact(value=1e12, source=source)),))
    with pytest.raises(InputError, match="no peak of made up"):
        machine([half], ["fp16"])


def question(model, name, dtype, backend, precision, **more):
    return Asked(
        models=[architecture(model)],
        devices=[device(name)],
        dtypes=[dtype],
        backends=[backend],
        precisions=[precision],
        setting=setting(**more),
    )


EIGHT = {"common_bytes": 1.0, "expert_bytes": 1.0, "cache_bytes": 1.0}

# Runs of silicon_sample.csv (ai-dynamo/aiconfigurator@095f58a): id, question, milliseconds between tokens.
RUNS = [
    ("2026_04_06_llama_3_1_70b_b200_sxm_trtllm_fp8_agg_1024x1024_c32_tp1_ep1_263",
     question("Llama-3-70B", "B200 SXM", "fp8", "trtllm", "fp8", concurrency=32.0, **EIGHT), 17.8646545670302),
    ("2026_04_06_llama_3_1_70b_h100_sxm_vllm_fp8_agg_1024x8192_c16_tp4_ep1_300",
     question("Llama-3-70B", "H100 SXM 80GB", "fp8", "vllm", "fp8", concurrency=16.0, output=8192.0, devices=4.0, **EIGHT),
     14.094837221545944),
    ("qwen_qwen3_32b_qwen_qwen3_32b_h100_sxm_sglang_agg_1024x128_c16_tp2_epnone_1",
     question("Qwen3-32B", "H100 SXM 80GB", "fp16", "sglang", "bf16", concurrency=16.0, output=128.0, devices=2.0),
     16.538571871875),
    ("minimaxm2_5_h200_vllm_fp8_agg_1024x8192_c8_cfg606",
     question("MiniMax-M2.5", "H200 SXM 141GB", "fp8", "vllm", "fp8", concurrency=8.0, output=8192.0, devices=4.0, **EIGHT),
     13.643641503642812),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "milliseconds"), [run[1:] for run in RUNS], ids=[run[0] for run in RUNS])
def test_published_serving_runs(asked, milliseconds):
    found = serving(parameters("serving"), asked)["tpot_s"]
    assert 1e3 * found.value[0] == pytest.approx(milliseconds, rel=0.25)
    assert found.low[0] <= milliseconds / 1e3 <= found.high[0]


def test_intervals_are_wider_for_what_was_not_fitted():
    known = serving(parameters("serving"), question("Llama-3-70B", "H200 SXM 141GB", "fp8", "vllm", "fp8", **EIGHT))["tpot_s"]
    other = serving(parameters("serving"), question("Llama-2-70B", "L40S", "fp8", "vllm", "fp8", devices=4.0, **EIGHT))[
        "tpot_s"
    ]
    assert other.high[0] / other.low[0] > known.high[0] / known.low[0]


def test_published_throughput_of_tensorrt_llm():
    # NVIDIA/TensorRT-LLM performance overview: Llama 3.3 70B, H200, FP8, 1,000 + 1,000 tokens: 2,909 tokens/s.
    asked = question("Llama-3-70B", "H200 SXM 141GB", "fp8", "in flight", "fp8", concurrency=2048.0, prompt=1000.0,
                     output=1000.0, **EIGHT)  # fmt: skip
    found = offline(parameters("trtllm"), asked)["tokens_per_s"]
    assert found.value[0] == pytest.approx(2909, rel=0.25)
    assert found.low[0] <= 2909 <= found.high[0]


# LLaMA-3 with llama.cpp (XiongjieDai/GPU-Benchmarks-on-LLM-Inference, README.md): GPU, number, model, format, tokens, tokens/s.
WRITTEN = [
    ("GeForce RTX 4080", 1, "Llama-3-8B", "F16", 1024, 40.29),
    ("GeForce RTX 3090", 2, "Llama-3-70B", "Q4_K_M", 512, 16.57),
    ("A40", 1, "Llama-3-8B", "Q4_K_M", 4096, 83.10),
    ("H100 PCIe 80GB", 4, "Llama-3-70B", "F16", 1024, 9.63),
]


@pytest.mark.parametrize(("name", "count", "model", "form", "tokens", "rate"), WRITTEN)
def test_published_tokens_per_second_of_one_sequence(name, count, model, form, tokens, rate):
    asked = Streamed(
        models=[architecture(model)],
        devices=[device(name)],
        counts=np.array([float(count)]),
        weight_bytes=np.array([2.0 if form == "F16" else 4.85 / 8]),
        tokens=np.array([float(tokens)]),
        formats=[form],
    )
    found = stream(parameters("llamacpp"), asked)["written_per_s"]
    assert found.value[0] == pytest.approx(rate, rel=0.15)
    assert found.low[0] < found.value[0] < found.high[0]
