"""This machine as a device: what the kernel says, unknown where it says nothing."""

from pathlib import Path

from dovetail.core.device import Kind
from dovetail.core.source import SourceKind
from dovetail.devices.local import this_machine

CPUINFO = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Some Processor 9000\nflags\t\t: fpu avx2 fma avx512f\n"


def test_this_machine() -> None:
    here = this_machine()
    assert here.kind is Kind.CPU and here.name and here.cores is not None and here.cores.value >= 1
    assert here.capacity_bytes is not None and here.capacity_bytes.value > 1e8
    assert "onnxruntime" in here.software and here.deployment is not None and here.deployment.value == 1
    assert all("this machine" in fact.source.ref for name, fact in here.numbers() if name != "deployment")


def test_nothing_is_invented_that_only_a_calibration_can_tell(tmp_path: Path) -> None:
    empty = this_machine(tmp_path)
    assert not empty.peak_flop_per_s and empty.bandwidth_bytes_per_s is None and empty.power_w is None
    assert empty.capacity_bytes is None and empty.vendor == "" and len(empty.memory) == 1


def test_caches_and_memory_are_read(tmp_path: Path) -> None:
    files = {"proc/cpuinfo": CPUINFO, "proc/meminfo": "MemTotal:       16000000 kB\n"}
    caches = (("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K"), ("3", "Unified", "107520K"))
    for index, values in enumerate(caches):
        for name, text in zip(("level", "type", "size"), values, strict=True):
            files[f"sys/devices/system/cpu/cpu0/cache/index{index}/{name}"] = f"{text}\n"
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    here = this_machine(tmp_path)
    assert (here.name, here.vendor) == ("Some Processor 9000", "Intel")
    sizes = {tier.name: tier.capacity_bytes for tier in here.memory}
    assert {name: fact.value for name, fact in sizes.items() if fact} == {
        "DRAM": 16000000 * 1024,
        "L3": 107520 * 1024,
        "L2": 2048 * 1024,
        "L1d": 48 * 1024,
    }
    assert all(fact.source.kind is SourceKind.QUOTED for fact in sizes.values() if fact)
    assert "avx512f" in here.notes[0]
