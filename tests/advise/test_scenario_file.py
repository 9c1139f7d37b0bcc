"""Scenario files: everything that may stand in one, and one clear message for what may not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dovetail.advise.scenario import Split, team
from dovetail.advise.scenario_file import load_scenario
from dovetail.core.errors import InputError

MACHINE = "machine: {tflops: 1, memory_gb: 200, power_w: 500}\n"
FULL = """\
machine: {tflops: 2, memory_gb: 200, power_w: 500, idle_power_w: 100}
work: {tflop_per_step: 8}
accelerator: {factor: 4, share: 0.9, power_w: 250}
heterogeneous: {rates: [1, 0.6], split: even, share: 0.8, power_w: 50}
compression: {keeps: 1/2, share: 1, skipped: 1/4, memory_share: 0.8}
distributed: {rates: [1, 1, 0.5], share: 0.95, sharded: true}
communication: {gb_per_step: 0.5, link_gb_per_s: 10, latency_us: 20, overlap: 0.5}
input: {gb_per_step: 0.2, gb_per_s: 2, overlap: 1, shared: true}
memory: {divided_by: 2, share: 1}
energy: {divided_by: 3, share: 0.5}
"""
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def call(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return call


def test_every_key_is_taken(write: Write) -> None:
    found = load_scenario(write(FULL))
    assert (found.name, found.flop_per_s, found.serial_s, found.n) == ("mine", 2e12, 4.0, 3)
    assert found.heterogeneous == team([1, 0.6], Split.EVEN) and found.helpers == 2 and found.keeps == 0.5
    assert found.exchange is not None and found.exchange.bytes_per_s == 1e10
    assert found.reading is not None and found.shared_input and found.sharded
    assert found.given == {
        "machine.idle_share": 0.2, "accelerator.share": 0.9, "accelerator.power_share": 0.5, "heterogeneous.share": 0.8,
        "heterogeneous.power_share": 0.1, "compression.share": 1, "compression.skipped": 0.25, "compression.memory_share": 0.8,
        "distributed.share": 0.95, "communication.latency_us": 20, "communication.overlap": 0.5, "input.overlap": 1,
        "memory.share": 1, "energy.share": 0.5,
    }  # fmt: skip


def test_a_machine_alone_is_enough(write: Write) -> None:
    found = load_scenario(write(MACHINE))
    assert not found.naive and not found.given and found.n == 1


@pytest.mark.parametrize(
    ("more", "line", "said"),
    [
        ("acelerator: {factor: 4}", 2, "there is no key 'acelerator'; did you mean 'accelerator'?"),
        ("accelerator: {factr: 4, factor: 2}", 2, "did you mean 'factor'?"),
        ("accelerator: {}", 2, "the key 'accelerator.factor' is missing"),
        ("accelerator: 4", 2, "accelerator: 4 does not fit: it has keys of its own: factor, share, power_w"),
        ("accelerator: {factor: 0}", 2, "accelerator.factor: 0 does not fit"),
        ("accelerator: {factor: -4}", 2, "accelerator.factor: -4 does not fit"),
        ("accelerator: {factor: .inf}", 2, "accelerator.factor"),
        ("accelerator: {factor: .nan}", 2, "accelerator.factor"),
        ("accelerator: {factor: true}", 2, "accelerator.factor"),
        ("accelerator: {factor: fast}", 2, "accelerator.factor: fast does not fit"),
        ("accelerator: {factor: 4, share: 1.2}", 2, "accelerator.share: 1.2 does not fit"),
        ("accelerator: {factor: 4, share: -0.1}", 2, "accelerator.share: -0.1 does not fit"),
        ("compression: {keeps: 2}", 2, "compression.keeps: 2 does not fit"),
        ("compression: {keeps: 0}", 2, "compression.keeps: 0 does not fit"),
        ("compression: {keeps: 1/0}", 2, "not a fraction"),
        ("distributed: {workers: 0}", 2, "distributed.workers: 0 does not fit"),
        ("distributed: {workers: 2.5}", 2, "distributed.workers: 2.5 does not fit"),
        ("distributed: {rates: [1, 0]}", 2, "distributed.rates.1: 0 does not fit"),
        ("distributed: {rates: []}", 2, "distributed.rates"),
        ("heterogeneous: {rates: [1, 1], split: fair}", 2, "heterogeneous.split: fair does not fit"),
        ("memory: {divided_by: 0}", 2, "memory.divided_by: 0 does not fit"),
        ("machine: {tflops: 1}", 2, "'machine' occurs twice, first in line 1"),
    ],
)
def test_bad_values_are_one_message(write: Write, more: str, line: int, said: str) -> None:
    path = write(f"{MACHINE}{more}\n")
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    assert said in str(caught.value)
    assert caught.value.where == f"{path}, line {line}"


@pytest.mark.parametrize(
    ("more", "keys"),
    [
        ("heterogeneous: {factor: 2, rates: [1, 1]}", ("heterogeneous.factor", "heterogeneous.rates")),
        ("heterogeneous: {share: 0.5}", ("heterogeneous.factor", "heterogeneous.rates")),
        ("distributed: {share: 0.5}", ("distributed.workers", "distributed.rates")),
        ("distributed: {workers: 3, rates: [1, 1]}", ("distributed.workers", "distributed.rates")),
        ("communication: {share: 0.1}", ("communication", "distributed")),
        (
            "distributed: {workers: 2}\ncommunication: {share: 0.1, gb_per_step: 1, link_gb_per_s: 1}",
            ("communication.share", "communication.gb_per_step"),
        ),
        ("distributed: {workers: 2}\ncommunication: {gb_per_step: 1}", ("communication.gb_per_step", "link_gb_per_s")),
        ("distributed: {workers: 2}\ncommunication: {latency_us: 1}", ("communication.latency_us", "gb_per_step")),
        (
            "distributed: {workers: 2}\ncommunication: {gb_per_step: 1, link_gb_per_s: 1}",
            ("communication.gb_per_step", "work.tflop_per_step"),
        ),
        ("input: {gb_per_step: 1, gb_per_s: 1}", ("input.gb_per_step", "work.tflop_per_step")),
    ],
)
def test_contradictions_name_both_keys(write: Write, more: str, keys: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario(write(f"{MACHINE}{more}\n"))
    assert all(key in caught.value.what for key in keys)


def test_a_waiting_machine_draws_no_more_than_a_busy_one(write: Write) -> None:
    with pytest.raises(InputError, match=r"machine\.idle_power_w and machine\.power_w"):
        load_scenario(write("machine: {tflops: 1, memory_gb: 1, power_w: 5, idle_power_w: 6}\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has the key `machine`"),
        ("- 1", "has the key `machine`"),
        ("machine: [", "not YAML"),
        ("name: x", "'machine' is missing"),
    ],
)
def test_what_is_no_scenario(write: Write, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_scenario(write(text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_scenario(tmp_path / "none.yaml")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "image.yaml"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="not UTF-8"):
        load_scenario(path)
