"""A user's own devices: from a few numbers upward, checked, kept, and refused with one clear message."""

import datetime
from pathlib import Path

import pytest

from dovetail.core.errors import InputError, StorageError
from dovetail.core.source import SourceKind
from dovetail.devices.catalogue import catalogue, device
from dovetail.devices.catalogue.user import Added, add, user_folder

FIVE = """
devices:
  - name: My board
    kind: edge
    peak_tops: {int8: 4}
    memory_gb: 2
    memory_gbps: 12.8
"""
SOURCED = """
sources:
  sheet: {ref: "My chip, data sheet 1.3, page 4", date: 2026-05}
devices:
  - name: My chip
    kind: npu
    vendor: Me
    year: 2026
    aliases: [mine]
    source: sheet
    software: [qnn]
    peak_tflops: {fp16: 2}
    peak_tops: {int8: 4, int4: {value: 8, kind: assumed}}
    memory_kind: DRAM
    memory_mb: 512
    memory_gbps: {value: 12.8, kind: derived, source: "32 bits × 3200 MT/s"}
    tiers: [{name: SRAM, memory_kb: 2048}]
    power_mw: {value: 900, kind: measured, source: wall meter, date: 2026-11-03}
    idle_power_w: 0.1
    launch_us: 20
    link: {name: mesh, pair_gbps: 1, all_gbps: 3}
    host_link: {name: USB3, pair_gbps: 0.5}
    price_usd: 99
    price_usd_per_h: 0.01
    cores: 2
    notes: [a note]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOVETAIL_CONFIG", str(tmp_path / "config"))
    return user_folder()


def added(text: str, folder: Path, *, force: bool = False, name: str = "board.yaml") -> tuple[Added, ...]:
    path = folder.parent.parent / name
    path.write_text(text, encoding="utf-8")
    return add(path, folder, catalogue(folder), force=force)


def refused(text: str, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        added(text, folder)
    assert not list(folder.glob("*")), "nothing is written"
    return str(caught.value)


def test_five_numbers_make_a_device(folder: Path) -> None:
    (one,) = added(FIVE, folder)
    assert one.findings == () and one.path.parent == folder
    found = device("my-board")
    assert found.peak_flop_per_s["int8"].value == 4e12
    assert found.capacity_bytes is not None and found.capacity_bytes.value == 2e9
    assert found.bandwidth_bytes_per_s is not None and found.bandwidth_bytes_per_s.value == 12.8e9
    assert found.power_w is None and found.price_usd is None and found.link is None and found.deployment is None
    source = found.peak_flop_per_s["int8"].source
    assert (source.kind, source.ref, source.date) == (SourceKind.USER, "board.yaml", datetime.date.today().isoformat())


def test_a_name_and_a_kind_will_do(folder: Path) -> None:
    added("devices: [{name: Bare, kind: gpu}]", folder)
    assert list(device("bare").numbers()) == [] and device("bare").memory == ()


def test_everything_that_can_be_said(folder: Path) -> None:
    added(SOURCED, folder)
    found = device("mine")
    numbers = dict(found.numbers())
    assert {name: fact.value for name, fact in numbers.items()} == pytest.approx(
        {
            "peak_flop_per_s.fp16": 2e12,
            "peak_flop_per_s.int8": 4e12,
            "peak_flop_per_s.int4": 8e12,
            "memory.DRAM.capacity_bytes": 512e6,
            "memory.DRAM.bandwidth_bytes_per_s": 12.8e9,
            "memory.SRAM.capacity_bytes": 2048e3,
            "power_w": 0.9,
            "idle_power_w": 0.1,
            "launch_s": 20e-6,
            "link.pair_bytes_per_s": 1e9,
            "link.all_bytes_per_s": 3e9,
            "host_link.pair_bytes_per_s": 0.5e9,
            "price_usd": 99.0,
            "price_usd_per_h": 0.01,
            "deployment": 3.0,
            "cores": 2.0,
        }
    )
    sheet = numbers["price_usd"].source
    assert (sheet.kind, sheet.ref, sheet.date) == (SourceKind.QUOTED, "My chip, data sheet 1.3, page 4", "2026-05")
    assert numbers["peak_flop_per_s.int4"].source.kind is SourceKind.ASSUMED
    assert numbers["memory.DRAM.bandwidth_bytes_per_s"].source.ref == "32 bits × 3200 MT/s"
    assert (numbers["power_w"].source.kind, numbers["power_w"].source.date) == (SourceKind.MEASURED, "2026-11-03")


def test_what_looks_odd_is_pointed_out_and_kept(folder: Path) -> None:
    (one,) = added(FIVE.replace("memory_gbps: 12.8", "memory_gbps: 0.0001"), folder)
    assert [finding.rule for finding in one.findings] == ["ridge"]
    assert device("my board").name == "My board"


def test_four_bit_floats_and_integers_are_one_type(folder: Path) -> None:
    added("devices: [{name: Four, kind: gpu, peak_tflops: {fp4: 10}}]", folder)
    assert device("four").peak_flop_per_s["int4"].value == 1e13
    with pytest.raises(InputError, match="int4 is given twice"):
        added("devices: [{name: Five, kind: gpu, peak_tflops: {fp4: 10}, peak_tops: {int4: 10}}]", folder)


def test_names_that_look_like_something_else_stay_names(folder: Path) -> None:
    added("devices: [{name: 4090, kind: gpu, vendor: no, peak_tflops: {fp16: 1e2}}]", folder, force=True)
    assert device("4090").vendor == "no" and device("4090").peak_flop_per_s["fp16"].value == 1e14


# -- names that are taken ------------------------------------------------------------------------------------------------


def test_a_name_that_is_there_is_refused_unless_forced(folder: Path) -> None:
    text = FIVE.replace("My board", "h100 sxm 80gb")
    assert "'H100 SXM 80GB' in the catalogue" in refused(text, folder) and "--force" in refused(text, folder)
    added(text, folder, force=True)
    assert device("H100 SXM 80GB").kind == "edge"
    assert sum(name.lower() == "h100 sxm 80gb" for name in catalogue()) == 1


def test_an_alias_that_is_there_is_refused_and_wins_when_forced(folder: Path) -> None:
    text = FIVE.replace("kind: edge", "kind: edge\n    aliases: [h100]")
    assert "'h100' is 'H100 SXM 80GB'" in refused(text, folder)
    added(text, folder, force=True)
    assert device("h100").name == "My board" and device("H100 SXM 80GB").kind == "gpu"


def test_adding_again_with_force_replaces(folder: Path) -> None:
    added(FIVE, folder)
    with pytest.raises(InputError, match="--force"):
        added(FIVE, folder)
    added(FIVE.replace("int8: 4", "int8: 5"), folder, force=True)
    assert device("my board").peak_flop_per_s["int8"].value == 5e12
    assert len(list(folder.iterdir())) == 1


def test_of_several_devices_none_is_written_when_one_is_refused(folder: Path) -> None:
    assert "H100" in refused(FIVE + "  - {name: H100 SXM 80GB, kind: gpu}\n", folder)
    assert "twice" in refused(FIVE + "  - {name: my-board, kind: gpu}\n", folder)
    both = added(FIVE + "  - {name: My other board, kind: gpu}\n", folder)
    assert [one.device.name for one in both] == ["My board", "My other board"]


# -- bad files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("devices: [", ["board.yaml, line", "not YAML"]),
        ("", ["has the key `devices`"]),
        ("name: My board", ["has the key `devices`"]),
        ("devices: []", ["devices: list should have at least 1 item"]),
        ("devices: 3", ["devices:", "valid list"]),
        ("devices: [3]", ["valid dictionary"]),
        ("devices: [{kind: gpu}]", ["the key 'name' is missing"]),
        ("devices: [{name: '!!', kind: gpu}]", ["name", "does not fit"]),
        (FIVE.replace("edge", "toaster"), ["line 4", "kind: toaster does not fit", "'cpu'"]),
        (FIVE.replace("memory_gbps", "memory_gb_s"), ["line 7", "no key 'memory_gb_s'", "did you mean 'memory_gbps'"]),
        (FIVE.replace("memory_gb: 2", "memory_gb: -2"), ["line 6", "memory_gb: -2 does not fit", "greater than 0"]),
        (FIVE.replace("memory_gb: 2", "memory_gb: 0"), ["memory_gb: 0 does not fit", "greater than 0"]),
        (FIVE.replace("memory_gb: 2", "memory_gb: 2 GB"), ["memory_gb: 2 GB does not fit", "number"]),
        (FIVE.replace("memory_gb: 2", "memory_gb: .inf"), ["memory_gb: .inf does not fit"]),
        (FIVE.replace("memory_gb: 2", "memory_gb: true"), ["memory_gb: true does not fit"]),
        (FIVE.replace("memory_gb: 2", "memory_gb: {value: 2, unit: GB}"), ["no key 'memory_gb.unit'"]),
        (FIVE.replace("memory_gb: 2", "memory_gb: {source: x}"), ["the key 'value' is missing"]),
        (FIVE.replace("memory_gb: 2", "memory_gb: {value: 2, date: soon}"), ["memory_gb.date: soon does not fit"]),
        (FIVE.replace("memory_gb: 2", "memory_gb: 2\n    memory_mb: 2000"), ["memory_gb and memory_mb say the same thing"]),
        (FIVE.replace("{int8: 4}", "4"), ["line 5", "peak_tops: 4 does not fit", "names the type", "{fp16: 100}"]),
        (FIVE.replace("{int8: 4}", "{fp16: 4}"), ["peak_tops", "fp16 does not fit", "'int8' or 'int4'"]),
        (FIVE.replace("memory_gb: 2", "memory_gbps: 2"), ["not YAML: 'memory_gbps' occurs twice", "line 3"]),
        (FIVE + "    deployment: 6\n", ["deployment: 6 does not fit", "less than or equal to 5"]),
    ],
)
def test_a_bad_file_is_one_message_with_the_place(folder: Path, text: str, words: list[str]) -> None:
    message = refused(text, folder)
    assert "board.yaml" in message and len(message.splitlines()) <= 2
    assert [word for word in words if word not in message] == [], message


def test_a_file_that_is_not_there_or_not_text(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.yaml").write_bytes(b"\xff\xfe\x00")
    for name, words in (("nowhere.yaml", "No such file"), (".", "directory"), ("noise.yaml", "not UTF-8")):
        with pytest.raises(InputError, match=words):
            add(tmp_path / name, folder, {})


def test_a_damaged_file_in_the_folder_is_named(folder: Path) -> None:
    added(FIVE, folder)
    (folder / "myboard.yaml").write_text("devices: [{name: My board, kind: edge, memory_gb: lots}]")
    with pytest.raises(InputError, match=r"myboard\.yaml, line 1.*memory_gb: lots"):
        catalogue()


def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        added(FIVE, folder)
