"""Topology, limits and disks from a tree of files; what is not there is unknown."""

from pathlib import Path

from fake_sysfs import tree

from dovetail.core.machine import Limits, Topology
from dovetail.devices.disks import disks
from dovetail.devices.topology import limits, listed, topology

CPU = "sys/devices/system/cpu"


def two_sockets(root: Path) -> Path:
    """Two packages of two cores with two threads each; the last processor is off line."""
    files = {f"{CPU}/online": "0-6\n", f"{CPU}/cpu0/cpuidle/x": "", f"{CPU}/intel_pstate/no_turbo": "0\n"}
    for number in range(8):
        socket, core, twin = number % 4 // 2, number % 2, (number + 4) % 8
        folder = f"{CPU}/cpu{number}"
        files |= {
            f"{folder}/topology/physical_package_id": f"{socket}\n",
            f"{folder}/topology/core_id": f"{core}\n",
            f"{folder}/topology/thread_siblings_list": f"{min(number, twin)},{max(number, twin)}\n",
            f"{folder}/cpufreq/scaling_governor": "performance\n" if number else "schedutil\n",
            f"{folder}/cpufreq/cpuinfo_min_freq": "800000\n",
            f"{folder}/cpufreq/cpuinfo_max_freq": f"{3500000 + 100000 * number}\n",
        }
    for index, (level, use, size, shared) in enumerate([
        ("1", "Data", "48K", "0,4"),
        ("1", "Instruction", "32K", "0,4"),
        ("2", "Unified", "2048K", "0,4"),
        ("3", "Unified", "36M", "0-1,4-5"),
    ]):
        folder = f"{CPU}/cpu0/cache/index{index}"
        files |= {f"{folder}/level": level, f"{folder}/type": use, f"{folder}/size": size, f"{folder}/shared_cpu_list": shared}
    for node in range(2):
        folder = f"sys/devices/system/node/node{node}"
        files[f"{folder}/cpulist"] = f"{2 * node}-{2 * node + 1}\n"
        files[f"{folder}/meminfo"] = f"Node {node} MemTotal:  8000000 kB\n"
    return tree(root, files)


def test_a_machine_of_two_sockets(tmp_path: Path) -> None:
    found = topology(two_sockets(tmp_path))
    assert (found.processors, found.cores, found.threads_per_core, found.sockets) == (7, 4, 2, 2)
    assert [(node.number, node.processors, node.memory_bytes) for node in found.numa] == [(0, 2, 8.192e9), (1, 2, 8.192e9)]
    assert [(cache.name, cache.size_bytes, cache.shared_by) for cache in found.caches] == [
        ("L1d", 48 * 2**10, 2), ("L1i", 32 * 2**10, 2), ("L2", 2 * 2**20, 2), ("L3", 36 * 2**20, 4),
    ]  # fmt: skip
    assert found.governor == "schedutil, performance"
    assert (found.least_hz, found.most_hz, found.boost) == (0.8e9, 4.1e9, True)


def test_nothing_is_known_of_an_empty_tree(tmp_path: Path) -> None:
    assert topology(tmp_path) == Topology()
    assert limits(tmp_path) == Limits()
    assert disks(tmp_path) == ()


def test_this_machine_has_processors() -> None:
    found = topology(Path("/"))
    assert found.processors is None or found.processors >= 1
    assert found.cores is None or found.processors is None or found.cores <= found.processors


def test_kernel_lists() -> None:
    assert listed("0-2,5\n".strip()) == [0, 1, 2, 5]
    assert listed("") == listed(None) == []


def test_versions_of_control_groups(tmp_path: Path) -> None:
    second = tree(tmp_path / "2", {"sys/fs/cgroup/cgroup.controllers": "cpu memory", "sys/fs/cgroup/cpu.max": "150000 100000"})
    assert limits(second) == Limits(version=2, cores=1.5)
    first = tree(tmp_path / "1", {"sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000000"})
    assert limits(first) == Limits(version=1, memory_bytes=1e9)


def test_disks_are_what_holds_data(tmp_path: Path) -> None:
    files = {
        "sys/block/nvme0n1/size": "2000409264\n",
        "sys/block/nvme0n1/queue/rotational": "0\n",
        "sys/block/nvme0n1/device/model": "Some SSD 1TB   \n",
        "sys/block/sda/queue/rotational": "1\n",
        "sys/block/vda/queue/rotational": "1\n",
        "sys/block/loop0/size": "8\n",
        "sys/block/dm-0/size": "8\n",
        "sys/block/zram0/size": "8\n",
    }
    ssd, bare, virtual = disks(tree(tmp_path, files))
    assert (ssd.name, ssd.model, ssd.size_bytes, ssd.rotates) == ("nvme0n1", "Some SSD 1TB", 2000409264 * 512, False)
    assert (bare.name, bare.model, bare.size_bytes, bare.rotates) == ("sda", "", None, True)
    assert (virtual.name, virtual.rotates) == ("vda", None)
