"""The probe reads what is there, believes limits, and invents nothing."""

import math
from pathlib import Path

import pytest

from dovetail.devices import probe
from dovetail.devices.cgroup import cpu_quota, memory_limit_bytes, throttled_s
from dovetail.devices.doctor import diagnose
from dovetail.devices.probe import disturbance, environment

CPUINFO = """processor\t: 0
model name\t: Some Processor 9000
flags\t\t: fpu avx2 fma avx512f avx512_vnni amx_int8 sse2
cpu MHz\t\t: 2500.000

processor\t: 1
model name\t: Some Processor 9000
cpu MHz\t\t: 3500.000
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"


def tree(root: Path, **files: str) -> Path:
    """Writes files whose names have ``__`` for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_machine_is_described() -> None:
    here = environment()
    assert here.cores >= 1 and here.cpu and here.os and len(here.fingerprint) == 12
    assert here.versions["numpy"]
    assert environment().fingerprint == here.fingerprint


def test_an_empty_file_system_gives_unknowns(tmp_path: Path) -> None:
    here = environment(tmp_path)
    assert here.isa == () and math.isnan(here.memory_bytes) and here.cores >= 1
    found = disturbance(tmp_path)
    assert (found.steal_s, found.throttled_s, found.thermal_events, found.frequency_hz) == (None, None, None, None)


def test_flags_and_names_of_both_architectures(tmp_path: Path) -> None:
    x86 = environment(tree(tmp_path / "x86", proc__cpuinfo=CPUINFO))
    assert x86.cpu == "Some Processor 9000"
    assert x86.isa == ("avx2", "fma", "avx512f", "avx512_vnni", "amx_int8")
    arm = environment(tree(tmp_path / "arm", proc__cpuinfo=ARM))
    assert arm.cpu == "Arm implementer 0x41 part 0xd40"
    assert arm.isa == ("asimd", "asimddp", "i8mm")
    assert x86.fingerprint != arm.fingerprint


def test_version_2_limits_hold_for_the_group_and_its_ancestors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(
        tmp_path,
        proc__self__cgroup="0::/outer/inner\n",
        proc__meminfo="MemTotal:       16000000 kB\n",
        sys__fs__cgroup__outer__cpu_dot_max="150000 100000\n",
        sys__fs__cgroup__outer__inner__cpu_dot_max="max 100000\n",
        sys__fs__cgroup__outer__inner__memory_dot_max="1000000000\n",
        sys__fs__cgroup__outer__inner__cpu_dot_stat="usage_usec 5\nthrottled_usec 2500000\n",
    )
    monkeypatch.setattr(probe.os, "sched_getaffinity", lambda pid: range(8))
    assert cpu_quota(root) == 1.5
    assert probe.usable_cores(root) == 1
    assert probe.usable_memory_bytes(root) == 1e9
    assert throttled_s(root) == 2.5


def test_version_1_limits(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        proc__self__cgroup="4:memory:/job\n2:cpu,cpuacct:/job\n",
        proc__meminfo="MemTotal:       16000000 kB\n",
        sys__fs__cgroup__cpu__job__cpu_dot_cfs_quota_us="400000\n",
        sys__fs__cgroup__cpu__job__cpu_dot_cfs_period_us="100000\n",
        sys__fs__cgroup__memory__job__memory_dot_limit_in_bytes="9223372036854771712\n",
    )
    assert cpu_quota(root) == 4.0
    assert memory_limit_bytes(root) is None
    assert probe.usable_memory_bytes(root) == 16000000 * 1024


def test_a_group_that_is_not_mounted_here_falls_back_to_the_top(tmp_path: Path) -> None:
    root = tree(tmp_path, proc__self__cgroup="0::/host/only\n", sys__fs__cgroup__cpu_dot_max="200000 100000\n")
    assert cpu_quota(root) == 2.0


def test_disturbances_are_read(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        proc__stat="cpu  10 0 3 26 37 0 59 900 0 0\ncpu0 1 2 3\n",
        proc__cpuinfo=CPUINFO,
        sys__devices__system__cpu__cpu0__thermal_throttle__core_throttle_count="3\n",
        sys__devices__system__cpu__cpu1__thermal_throttle__core_throttle_count="4\n",
    )
    found = disturbance(root)
    assert found.steal_s == pytest.approx(900 / probe.os.sysconf("SC_CLK_TCK"))
    assert found.thermal_events == 7
    assert found.frequency_hz == pytest.approx(3.0e9)


def test_the_doctor_names_what_is_missing_and_what_to_do(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "root", proc__cpuinfo="flags\t: avx2\n", proc__meminfo="MemTotal: 4000000 kB\nMemAvailable: 1000 kB\n"
    )
    checks = {check.name: check for check in diagnose(tmp_path / "cache" / "deep", root)}
    assert checks["onnxruntime"].status == "ok"
    assert checks["int8 arithmetic"].status == "warning"
    assert checks["NVIDIA driver"].status == "missing"
    assert checks["memory"].status == "warning" and checks["memory"].hint
    assert checks["cache"].status == "ok"
    assert all(check.detail for check in checks.values())
    assert not (tmp_path / "cache").exists()
