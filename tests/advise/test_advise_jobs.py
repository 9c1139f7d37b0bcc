"""The five example jobs: what must come out, as somebody who knows the field expects it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from dovetail.advise.job import AdviseJob, load_job, parse_job
from dovetail.core.advice import Advice, Standing
from dovetail.core.device import Kind
from dovetail.core.prediction import Binds
from dovetail.devices.catalogue import catalogue
from dovetail.pipeline.advising import advise_job
from dovetail.predict.fitted_file import parameters

EXAMPLES = Path(__file__).parents[2] / "examples" / "advise"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))


@cache
def answer(name: str) -> Advice:
    return advise_job(job(name))


def job(name: str) -> AdviseJob:
    return load_job(EXAMPLES / f"{name}.yaml")


def changed(name: str, **changes: object) -> Advice:
    """The example with some keys replaced."""
    return advise_job(parse_job({**job(name).model_dump(exclude_unset=True), **changes}, "changed"))


def place(advice: Advice, device: str) -> int:
    return [option.device for option in advice.ranked].index(device)


def test_there_are_five() -> None:
    assert len(NAMES) == 5


@pytest.mark.parametrize("name", NAMES)
def test_every_device_is_in_one_list_with_its_reasons(name: str) -> None:
    found = answer(name)
    listed = [option.device for option in (*found.ranked, *found.unknown, *found.excluded)]
    assert sorted(listed) == sorted(catalogue()) and found.ranked
    assert all(any(item.standing.excludes and item.why for item in option.judged) for option in found.excluded)
    assert all(any(item.standing is Standing.UNKNOWN and item.why for item in option.judged) for option in found.unknown)
    assert all(item.standing in (Standing.SURE, Standing.LIKELY) for option in found.ranked for item in option.judged)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_number_comes_last_and_is_never_on_the_front(name: str) -> None:
    found = answer(name)
    if found.prefer == "cost":
        known = [(option.usd_total or option.usd_per_month) is not None for option in found.ranked]
        assert known == sorted(known, reverse=True)
    for option in found.ranked:
        lacks = None in (option.latency_s or option.duration_s, option.usd_total or option.usd_per_month, option.average_w)
        assert not (option.front and lacks)


def test_a_7b_model_never_fits_a_microcontroller() -> None:
    found = answer("chat-7b")
    for name, device in catalogue().items():
        if device.kind is Kind.MCU:
            memory = next(item for item in found.option(name).judged if item.requirement == "memory of the device")
            assert memory.standing is Standing.NO


def test_decoding_is_bound_by_memory_bandwidth() -> None:
    assert {option.binds for option in answer("chat-7b").ranked} == {Binds.BANDWIDTH}


def test_a_combination_that_was_fitted_gets_the_interval_of_one() -> None:
    work = {"kind": "llm", "architecture": "Qwen3-32B", "users": 4, "prompt": 1000, "output": 500}
    found = advise_job(parse_job({"workload": work}, "job")).option("H100 SXM 80GB")
    assert found.precision == "bf16" and found.latency_s is not None
    run = parameters("serving")["spreads"]["tpot_s"]["run"]
    assert found.latency_s.high / found.latency_s.low == pytest.approx(run["high"] / run["low"])


def test_narrower_weights_bring_their_scales_and_their_caches() -> None:
    sizes = {name: changed("chat-7b", precision=name).option("H200 SXM 141GB").memory_bytes for name in ("fp16", "fp8", "int4")}
    model = 6.74e9 * np.array([2.0, 1.0, 4.5 / 8])
    cache = 50 * 750 * 2 * 32 * 4096 * np.array([2.0, 1.0, 1.0])
    low = [size.low for size in sizes.values() if size]
    assert low == pytest.approx(model + cache, rel=0.05)


def test_keys_and_values_of_fifty_users_need_two_cards_of_24_gb_and_one_of_80() -> None:
    found = answer("chat-7b")
    assert found.option("A10").group >= 2 and found.option("H100 SXM 80GB").group == 1


def test_the_embedding_table_is_bound_by_memory_size() -> None:
    found = answer("recommender")
    card = found.option("H100 SXM 80GB")
    assert card.group * 80e9 >= 512e9 and card.count_by == "memory size"
    assert found.option("GeForce RTX 4090").standing.excludes
    assert found.ranked[0].kind == "cpu"


def test_a_smaller_table_turns_the_recommender_from_many_cards_to_one() -> None:
    work = {"kind": "recommender", "rows": 1e7, "dim": 128}
    assert changed("recommender", workload=work).option("H100 SXM 80GB").group == 1


def test_a_battery_leaves_microcontrollers() -> None:
    found = answer("battery-cnn")
    assert {option.kind for option in found.ranked} == {"mcu"}
    pi = {item.requirement for item in found.option("Raspberry Pi 5").judged if item.standing.excludes}
    assert {"power", "deployment.battery"} <= pi


def test_a_stricter_battery_flips_two_microcontrollers() -> None:
    deployment = {"battery": {"capacity_wh": 10, "hours": 2500}, "most_devices": 1}
    found = changed("battery-cnn", deployment=deployment)
    assert place(answer("battery-cnn"), "STM32H7A3 (Cortex-M7 280MHz)") < 4
    assert found.option("STM32H7A3 (Cortex-M7 280MHz)").standing.excludes
    assert not found.option("STM32U575 (Cortex-M33 160MHz)").standing.excludes


def test_a_shop_gets_a_board_and_more_power_lets_a_graphics_card_in() -> None:
    found, free = answer("shop-video"), changed("shop-video", power="500W")
    assert found.ranked[0].device.startswith("Jetson Orin")
    assert [i.requirement for i in found.option("GeForce RTX 3060 12GB").judged if i.standing.excludes] == ["power"]
    assert place(free, "GeForce RTX 3060 12GB") < place(free, "Jetson AGX Xavier")


def test_preferring_latency_flips_the_board_and_the_graphics_card() -> None:
    cheap, fast = changed("shop-video", power="500W"), changed("shop-video", power="500W", prefer="latency")
    board, card = "Jetson Orin Nano 4GB", "GeForce RTX 3060 12GB"
    assert place(cheap, board) < place(cheap, card) and place(fast, card) < place(fast, board)


def test_an_unknown_price_cannot_be_told_under_a_budget() -> None:
    found = answer("shop-video")
    told = next(item for item in found.option("Hailo-8").judged if item.requirement == "budget.purchase_usd")
    assert told.standing is Standing.UNKNOWN and "price" in told.why


def test_training_takes_six_flop_a_parameter_and_token() -> None:
    found = answer("train-1b3").option("H100 SXM 80GB")
    assert found.duration_s is not None and found.devices is not None
    assert found.duration_s.value * found.devices.value == pytest.approx(6 * 1.3e9 * 26e9 / (0.4 * 989e12), rel=0.01)
    assert found.binds is Binds.COMPUTE


def test_half_the_time_to_train_takes_twice_the_cards() -> None:
    slow, fast = answer("train-1b3").option("A100 SXM 40GB"), changed("train-1b3", within="84h").option("A100 SXM 40GB")
    assert slow.devices is not None and fast.devices is not None
    assert fast.devices.value in (2 * slow.devices.value - 1, 2 * slow.devices.value)


def test_what_is_for_inference_does_not_train() -> None:
    found = answer("train-1b3")
    for name in ("Hailo-8", "Coral Edge TPU", "Inferentia2", "STM32L4R5 (Cortex-M4 120MHz)", "Groq LPU v1"):
        assert "workload: training" in [item.requirement for item in found.option(name).judged if item.standing.excludes]


def test_optimizer_memory_sets_the_number_of_devices_without_a_deadline() -> None:
    large = {"kind": "training", "parameters": 70e9, "tokens": 1e9}
    found = changed("train-1b3", workload=large, within="9000h").option("H100 SXM 80GB")
    assert found.devices is not None and found.devices.value >= 70e9 * 16 / 80e9 and found.count_by == "memory size"


def test_changes_say_what_moves_the_limit() -> None:
    said = {change.what: change for change in answer("shop-video").changes}
    assert said["int8 instead of fp16"].gain > 1.2
    assert any(change.binds_before is Binds.BANDWIDTH and change.binds_after is Binds.COMPUTE for change in said.values())
    tables = [change for change in answer("recommender").changes if "table" in change.what]
    assert tables and all(change.memory_gain is not None and change.memory_gain > 3 for change in tables)


def test_a_larger_batch_that_breaks_the_latency_says_so() -> None:
    wider = [change for change in answer("shop-video").changes if change.what.startswith("batch 16")]
    assert wider and all("breaks the latency" in change.note for change in wider)
