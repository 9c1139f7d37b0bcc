"""The package's own devices: every number has a source, says how it was obtained, and is what was collected."""

import csv
import re
from pathlib import Path

import pytest

from dovetail.core.device import DEPLOYMENT, Device, Fact, Kind
from dovetail.core.errors import InputError
from dovetail.core.source import SourceKind
from dovetail.devices.catalogue import catalogue, device, packaged
from dovetail.devices.catalogue.names import key

DEVICES = [entry.device for entry in packaged()]
COLUMNS = {"mem_gb": 1e9, "mem_gbps": 1e9, "tdp_w": 1.0, "cloud_usd_per_h": 1.0, "list_usd": 1.0}
PEAKS = re.compile(r"(\w+?)(?:_or_fp4)?_t(?:flops|ops)$")
BETTER = {"tdp_w": "the chip's power was read in the list of prices", "list_usd": "so was its price"}
"""Columns whose recalled numbers gave way to ones that somebody read."""
MOVED = {("Ampere Altra Max 128", "bf16"): "fp16", ("Hailo-8", "mem_gb"): None}
"""A rate that was filed under a type the chip lacks, and a size of zero that means unknown."""


@pytest.fixture(autouse=True)
def no_user_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_CONFIG", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def hardware(shared_data: Path) -> Path:
    return shared_data.parent / "hardware"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(found: Device, column: str) -> Fact | None:
    """What the catalogue has for a column of the collected table."""
    peak = PEAKS.fullmatch(column)
    if peak:
        return found.peak_flop_per_s.get(peak[1])
    names = {"tdp_w": "power_w", "cloud_usd_per_h": "price_usd_per_h", "list_usd": "price_usd"}
    if column in names:
        fact: Fact | None = getattr(found, names[column])
        return fact
    return found.capacity_bytes if column == "mem_gb" else found.bandwidth_bytes_per_s


# -- sources -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", DEVICES, ids=lambda found: found.name)
def test_every_number_names_a_source_of_ours(found: Device) -> None:
    for name, fact in found.numbers():
        assert len(fact.source.ref) > 8 and fact.source.ref != "no source given", name
        assert fact.source.kind in (SourceKind.QUOTED, SourceKind.DERIVED, SourceKind.ASSUMED), name
        # A short name that the file's table lacks would be left as a reference of one bare word.
        assert re.search(r"[./ ]", fact.source.ref), f"{name}: {fact.source.ref}"


@pytest.mark.parametrize("found", DEVICES, ids=lambda found: found.name)
def test_every_device_says_what_it_takes_to_deploy(found: Device) -> None:
    assert found.deployment is not None and found.deployment.value in DEPLOYMENT
    assert found.software and found.vendor and found.year


def test_what_nobody_read_is_assumed_and_says_so() -> None:
    for found in DEVICES:
        for name, fact in found.numbers():
            if "recalled" in fact.source.ref:
                assert fact.source.kind is SourceKind.ASSUMED, f"{found.name} {name}"


def test_no_idle_power_is_invented() -> None:
    assert not any(found.idle_power_w for found in DEVICES)


# -- the collected table -------------------------------------------------------------------------------------------------


def test_all_collected_devices_are_there(hardware: Path) -> None:
    table = rows(hardware / "hardware.csv")
    assert len(table) == 137
    assert {row["name"] for row in table} <= set(catalogue())
    assert all(catalogue()[row["name"]].kind == row["kind"] for row in table)


def test_numbers_are_those_collected(hardware: Path) -> None:
    compared = 0
    for row in rows(hardware / "hardware.csv"):
        found = catalogue()[row["name"]]
        for column, text in row.items():
            peak = PEAKS.fullmatch(column)
            moved = MOVED.get((row["name"], peak[1] if peak else column), column)
            if not text or moved is None or not (peak or column in COLUMNS):
                continue
            fact = found.peak_flop_per_s[moved] if moved != column else number(found, column)
            assert fact is not None, f"{row['name']} {column}"
            same = fact.value == pytest.approx(float(text) * COLUMNS.get(column, 1e12), rel=1e-3)
            assert same or (column in BETTER and fact.source.kind is SourceKind.QUOTED), f"{row['name']} {column}"
            compared += 1
    assert compared > 850


def test_nothing_of_an_unread_row_is_quoted_but_its_price(hardware: Path) -> None:
    unread = [row for row in rows(hardware / "hardware.csv") if row["verified"] == "no"]
    assert len(unread) == 30
    for row in unread:
        for name, fact in catalogue()[row["name"]].numbers():
            rule = name == "deployment"
            assert fact.source.kind is (SourceKind.DERIVED if rule else SourceKind.ASSUMED), f"{row['name']} {name}"


def test_a_row_that_was_read_is_quoted_throughout(hardware: Path) -> None:
    read = [row for row in rows(hardware / "hardware.csv") if row["verified"] == "yes" and not row["unverified_fields"]]
    assert len(read) > 30
    for row in read:
        found = catalogue()[row["name"]]
        columns = [column for column in row if PEAKS.fullmatch(column) or column in ("mem_gb", "mem_gbps", "tdp_w")]
        facts = [number(found, column) for column in columns]
        assert all(fact.source.kind is SourceKind.QUOTED for fact in facts if fact is not None), row["name"]


@pytest.mark.parametrize(
    ("name", "column", "kind"),
    [
        ("A30", "fp32_tflops", SourceKind.ASSUMED),
        ("A30", "fp16_tflops", SourceKind.QUOTED),
        ("GeForce RTX 5090", "fp32_tflops", SourceKind.QUOTED),
        ("GeForce RTX 5090", "int8_tops", SourceKind.ASSUMED),
        ("TPU v4 (chip)", "mem_gbps", SourceKind.QUOTED),
        ("TPU v4 (chip)", "tdp_w", SourceKind.ASSUMED),
        ("ZCU104 (2xB4096@300MHz)", "mem_gb", SourceKind.ASSUMED),
        ("ZCU104 (2xB4096@300MHz)", "int8_tops", SourceKind.DERIVED),
        ("VEK280 VE2802 (C20B14)", "mem_gbps", SourceKind.ASSUMED),
        ("Xeon Platinum 8480+ (SPR)", "bf16_tflops", SourceKind.DERIVED),
        ("Xeon Platinum 8480+ (SPR)", "tdp_w", SourceKind.QUOTED),
        ("Jetson AGX Orin 64GB", "int8_tops", SourceKind.DERIVED),
        ("Jetson AGX Orin 64GB", "fp16_tflops", SourceKind.ASSUMED),
        ("Raspberry Pi 5", "fp32_tflops", SourceKind.ASSUMED),
        ("Instinct MI250", "fp64_tflops", SourceKind.ASSUMED),
        ("Instinct MI250", "fp16_tflops", SourceKind.QUOTED),
    ],
)
def test_what_was_read_is_told_number_by_number(name: str, column: str, kind: SourceKind) -> None:
    fact = number(catalogue()[name], column)
    assert fact is not None and fact.source.kind is kind


def test_derived_peaks_follow_from_their_formula() -> None:
    for found in DEVICES:
        for name, fact in found.numbers():
            factors = re.search(r"([\d.]+) (?:cores|multiply-add)[^;]*? × ([\d.]+) GHz × ([\d.]+) FLOP", fact.source.ref)
            if factors:
                product = float(factors[1]) * float(factors[2]) * float(factors[3]) * 1e9
                assert fact.value == pytest.approx(product, rel=0.03), f"{found.name} {name}"


def test_prices_are_those_of_the_list(hardware: Path) -> None:
    listed = {row["name"]: float(row["msrp_usd"]) for row in rows(hardware / "sku_prices.csv")}
    names = {"Instinct MI300X": "MI300", "GeForce RTX 3060 12GB": "RTX 3060", "H20": "H20", "Apple M2": "Apple M2"}
    for name, entry in names.items():
        price = catalogue()[name].price_usd
        assert price is not None and price.value == listed[entry] and price.source.kind is SourceKind.QUOTED


def test_no_matrix_product_ever_beat_a_peak(shared_data: Path) -> None:
    """Measured rates of large products: above the listed peak, the peak would be wrong."""
    measured = [row for row in rows(shared_data.parent / "validation" / "matmul_mamf.csv") if row["mamf_tflops"]]
    for row in measured:
        called = re.sub(r"^(NVIDIA|AMD|Intel) ", "", row["accelerator"]).replace("Gaudi ", "Gaudi")
        found = device({"A100 SXM": "a100", "A100 PCIe": "a100 pcie", "GH200 SXM": "gh200"}.get(called, called))
        peak = found.peak_flop_per_s[row["dtype"]].value
        assert float(row["mamf_tflops"]) * 1e12 < peak, row["accelerator"]
        assert peak == pytest.approx(float(row["theory_tflops"]) * 1e12, rel=0.09), row["accelerator"]


# -- facts that other catalogues get wrong -------------------------------------------------------------------------------


def test_peaks_are_dense() -> None:
    assert device("h100").peak_flop_per_s["bf16"].value == 989e12
    assert device("l4").bandwidth_bytes_per_s == device("L4").memory[0].bandwidth_bytes_per_s
    assert device("l4").memory[0].bandwidth_bytes_per_s.value == 300e9  # type: ignore[union-attr]
    assert device("rtx a6000").peak_flop_per_s["bf16"].value == 154.8e12


@pytest.mark.parametrize("name", ["mi300x", "mi325x"])
def test_one_neighbour_gets_a_seventh_of_what_all_get(name: str) -> None:
    link = device(name).link
    assert link is not None and link.pair_bytes_per_s is not None and link.all_bytes_per_s is not None
    assert (link.pair_bytes_per_s.value, link.all_bytes_per_s.value) == (64e9, 448e9)


def test_a_switch_gives_a_pair_everything() -> None:
    link = device("h100").link
    assert link is not None and link.pair_bytes_per_s is not None and link.all_bytes_per_s is not None
    assert link.pair_bytes_per_s.value == link.all_bytes_per_s.value == 450e9


def test_a_conflict_between_sources_is_told() -> None:
    found = device("b300")
    assert found.peak_flop_per_s["int8"].value == 153.5e12
    assert any("conflict" in note and "4500" in note for note in found.notes)


def test_a_chip_without_memory_outside_has_an_unknown_size_not_zero() -> None:
    found = device("hailo-8")
    assert found.capacity_bytes is None and found.bandwidth_bytes_per_s is None and found.memory[0].name == "SRAM"


def test_flash_is_a_tier_of_its_own() -> None:
    tiers = {tier.name: tier.capacity_bytes for tier in device("stm32h7a3").memory}
    assert {name: fact.value for name, fact in tiers.items() if fact} == {"SRAM": 1.19e6, "flash": 2e6}


# -- names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("a100", "A100 SXM 80GB"),
        ("H100", "H100 SXM 80GB"),
        ("rtx4090", "GeForce RTX 4090"),
        ("RTX-4090", "GeForce RTX 4090"),
        ("4090", "GeForce RTX 4090"),
        ("rpi5", "Raspberry Pi 5"),
        ("jetson-orin-nano", "Jetson Orin Nano 8GB"),
        ("b200_sxm", "B200 SXM"),
        ("HAILO8L", "Hailo-8L"),
        ("xeon platinum 8480+", "Xeon Platinum 8480+ (SPR)"),
        ("kv260", "Kria K26/KV260 (B4096@300MHz)"),
    ],
)
def test_a_device_is_found_by_what_people_call_it(called: str, name: str) -> None:
    assert device(called).name == name


def test_a_name_of_several_lists_them() -> None:
    with pytest.raises(InputError, match="A100 PCIe 40GB, A100 PCIe 80GB|A100 PCIe 40GB, A100 SXM 40GB"):
        device("a100 40gb")


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'GeForce RTX 4090'"):
        device("rtx4091")
    with pytest.raises(InputError, match="no device 'abacus'"):
        device("abacus")


def test_no_two_devices_share_a_name() -> None:
    called = [key(name) for found in DEVICES for name in {found.name, *found.aliases}]
    assert len(called) == len(set(called))


def test_every_kind_is_there() -> None:
    assert {found.kind for found in DEVICES} == set(Kind)
