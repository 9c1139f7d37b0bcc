"""Job files that cannot be used: one clear message each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dovetail.advise.job import load_job, parse_job
from dovetail.core.errors import InputError
from dovetail.pipeline.advising import advise_job

CNN = {"kind": "cnn", "flop": 1e9, "parameters": 1e6}
LLM = {"kind": "llm", "architecture": "Llama-2-7B"}
TRAINING = {"kind": "training", "parameters": 1e9, "tokens": 1e9}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workload: {kind: cnn, flop: 1.e+9, parameters: 1.e+6}\nlatancy: 5ms\n", ("'latancy'", "'latency'")),
        ("workload: {kind: cnn, flop: 1.e+9, params: 1.e+6}\n", ("workload.params", "'parameters'")),
        ("workload: {kind: cnn, flop: 1.e+9, parameters: 1.e+6}\nbudget: {usd_monthly: 5}\n", ("budget.usd_monthly",)),
        ("workload: {kind: cnn, flop: 1, parameters: 1}\ndeployment: {battery: {wh: 5}}\n", ("battery.wh", "capacity_wh")),
    ],
)
def test_an_unknown_key_is_named_with_its_file(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as fault:
        load_job(path)
    assert all(word in str(fault.value) for word in (str(path), *words))


@pytest.mark.parametrize(
    ("keys", "pair"),
    [
        ({"workload": TRAINING, "latency": "5ms"}, ("training", "latency")),
        ({"workload": CNN, "within": "5h"}, ("within", "workload")),
        ({"workload": CNN, "first_token": "1s"}, ("first_token", "workload")),
        ({"workload": LLM, "throughput": 5}, ("workload: llm", "throughput")),
        ({"workload": CNN, "batch": 32, "throughput": 10, "latency": "100ms"}, ("batch", "latency")),
        ({"workload": CNN, "deployment": {"kinds": ["mcu"], "highest_level": 2}}, ("deployment.kinds", "highest_level")),
        ({"workload": CNN, "budget": {"basis": "rent", "purchase_usd": 5}}, ("basis: rent", "purchase_usd")),
    ],
)
def test_contradicting_keys_are_both_named(keys: dict[str, Any], pair: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="contradict") as fault:
        parse_job(keys, "job.yaml")
    assert all(word in str(fault.value) for word in ("job.yaml", *pair))


def test_two_rules_that_no_device_meets_together_are_both_named() -> None:
    with pytest.raises(InputError, match=r"deployment.kinds and stack contradict"):
        advise_job(parse_job({"workload": CNN, "stack": ["cuda"], "deployment": {"kinds": ["mcu"]}}, "job.yaml"))


def test_an_unknown_stack_is_said() -> None:
    with pytest.raises(InputError, match="no device of the catalogue meets stack"):
        advise_job(parse_job({"workload": CNN, "stack": ["abacus"]}, "job.yaml"))


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"workload": CNN, "model": "a.onnx"},
        {"workload": CNN, "precision": "int7"},
        {"workload": CNN, "latency": "fast"},
        {"workload": CNN, "latency": 0},
        {"workload": CNN, "latency": float("inf")},
        {"workload": CNN, "throughput": float("inf")},
        {"workload": LLM | {"users": float("inf")}},
        {"workload": CNN, "budget": {"usd_per_month": float("nan")}},
        {"workload": CNN, "batch": 0},
        {"workload": {"kind": "cnn", "flop": -1, "parameters": 1}},
        {"workload": {"kind": "poem"}},
    ],
)
def test_impossible_values(keys: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"job\.yaml"):
        parse_job(keys, "job.yaml")


def test_a_language_model_in_more_than_16_bits_is_refused() -> None:
    with pytest.raises(InputError, match="16 bits or fewer"):
        advise_job(parse_job({"workload": LLM, "precision": "fp32"}, "job.yaml"))


def test_an_unknown_architecture_suggests_one() -> None:
    with pytest.raises(InputError, match="Llama-2-7B"):
        advise_job(parse_job({"workload": {"kind": "llm", "architecture": "Llama2-7B"}}, "job.yaml"))


def test_a_key_that_comes_twice_does_not_silently_win(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("workload: {kind: cnn, flop: 1.e+9, parameters: 1.e+6}\nlatency: 5ms\nlatency: 50ms\n")
    with pytest.raises(InputError, match=r"'latency' occurs twice, first in line 2"):
        load_job(path)


@pytest.mark.parametrize("text", ["- a\n", "a: [\n"])
def test_what_is_no_job_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="job.yaml"):
        load_job(path)
    with pytest.raises(InputError, match="absent.yaml"):
        load_job(tmp_path / "absent.yaml")
