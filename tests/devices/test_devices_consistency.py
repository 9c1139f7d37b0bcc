"""The rules catch what catalogues get wrong, and leave the package's own devices alone."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from dovetail.core.device import Device, Fact, Link, Memory
from dovetail.core.source import Source, SourceKind
from dovetail.devices.catalogue import packaged
from dovetail.devices.catalogue.reader import Entry
from dovetail.devices.consistency import findings

ENTRIES: Mapping[str, Entry] = {entry.device.name: entry for entry in packaged()}


def fact(value: float) -> Fact:
    return Fact(value=value, source=Source(kind=SourceKind.QUOTED, ref="a catalogue that is wrong"))


def peaks(device: Device, **changed: float) -> Device:
    return replace(device, peak_flop_per_s={**device.peak_flop_per_s, **{name: fact(v * 1e12) for name, v in changed.items()}})


def memory(device: Device, *, gb: float | None = None, gbps: float | None = None) -> Device:
    main = device.memory[0]
    size = main.capacity_bytes if gb is None else fact(gb * 1e9)
    speed = main.bandwidth_bytes_per_s if gbps is None else fact(gbps * 1e9)
    return replace(device, memory=(Memory(name=main.name, capacity_bytes=size, bandwidth_bytes_per_s=speed),))


def linked(device: Device, *, pair: float, everyone: float) -> Device:
    assert device.link is not None
    return replace(device, link=Link(name=device.link.name, pair_bytes_per_s=fact(pair), all_bytes_per_s=fact(everyone)))


def broken(name: str, device: Device) -> set[str]:
    return {finding.rule for finding in findings(device, ENTRIES[name].allowed)}


@pytest.mark.parametrize("name", ENTRIES)
def test_our_own_devices_are_consistent(name: str) -> None:
    assert findings(ENTRIES[name].device, ENTRIES[name].allowed) == ()


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.allowed])
def test_exceptions_are_written_down_where_people_read_them(name: str) -> None:
    entry = ENTRIES[name]
    assert all(any(reason in note for note in entry.device.notes) for reason in entry.allowed.values())


# -- errors of other catalogues ------------------------------------------------------------------------------------------


def test_a_peak_with_sparsity() -> None:
    """PyTorch inductor's table: H100 at 1979 TFLOPS of bf16."""
    h100 = ENTRIES["H100 SXM 80GB"].device
    assert {"halving", "ridge", "efficiency"} <= broken("H100 SXM 80GB", peaks(h100, bf16=1979))
    alone = replace(h100, peak_flop_per_s={"bf16": fact(1979e12)})
    assert "ridge" in broken("H100 SXM 80GB", alone), "caught without any other type to compare with"


def test_a_bandwidth_of_another_device() -> None:
    """PyTorch inductor's table: L4 at 3350 GB/s."""
    assert {"ridge", "memory"} <= broken("L4", memory(ENTRIES["L4"].device, gbps=3350))


def test_a_shader_rate_beside_matrix_rates() -> None:
    """Lightning's table: A6000 at 38.7 TFLOPS of bf16."""
    assert {"order", "halving"} <= broken("RTX A6000", peaks(ENTRIES["RTX A6000"].device, fp16=38.7, bf16=38.7))


@pytest.mark.parametrize(("name", "wrong"), [("B300 SXM", 4500), ("GB300 (per GPU)", 5000)])
def test_the_other_side_of_a_conflict(name: str, wrong: float) -> None:
    """The reason that is written down for the low int8 rate would be about nothing."""
    found = findings(peaks(ENTRIES[name].device, int8=wrong), ENTRIES[name].allowed)
    assert [finding.rule for finding in found] == ["allowed"] and "'order'" in found[0].what


def test_the_sum_of_all_links_as_the_speed_of_one() -> None:
    """MI300X: 448 GB/s to all seven others, 64 GB/s to one."""
    assert broken("Instinct MI300X", linked(ENTRIES["Instinct MI300X"].device, pair=448e9, everyone=448e9)) == {"links"}


def test_units_a_thousandfold_off() -> None:
    h100 = ENTRIES["H100 SXM 80GB"].device
    assert "memory" in broken("H100 SXM 80GB", memory(h100, gb=80_000))
    assert {"ridge", "efficiency"} <= broken("H100 SXM 80GB", replace(h100, peak_flop_per_s={"fp16": fact(989e9)}))


# -- every rule ----------------------------------------------------------------------------------------------------------


def test_one_neighbour_cannot_get_more_than_all() -> None:
    h100 = ENTRIES["H100 SXM 80GB"].device
    assert broken("H100 SXM 80GB", linked(h100, pair=900e9, everyone=450e9)) == {"links"}
    assert not broken("H100 SXM 80GB", linked(h100, pair=450e9, everyone=450e9)), "a switch gives a pair everything"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"year": 20222}, "year"),
        ({"price_usd": fact(3e7)}, "price"),
        ({"price_usd_per_h": fact(4290.0)}, "price"),
        ({"idle_power_w": fact(900.0)}, "idle"),
        ({"power_w": fact(70.0)}, "efficiency"),
    ],
)
def test_numbers_out_of_this_world(changes: dict[str, object], rule: str) -> None:
    device = replace(ENTRIES["H100 SXM 80GB"].device, **changes)  # type: ignore[arg-type]
    found = findings(device)
    assert {finding.rule for finding in found} == {rule}
    assert all(finding.values and any(character.isdigit() for character in finding.what) for finding in found)


def test_a_device_of_which_little_is_known_breaks_nothing() -> None:
    h100 = ENTRIES["H100 SXM 80GB"].device
    assert findings(Device(name="bare", vendor="", kind=h100.kind)) == ()


def test_impossible_values_do_not_even_construct() -> None:
    for value in (-1.0, 0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite and above zero"):
            fact(value)
