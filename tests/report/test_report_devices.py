"""Lists, sheets and comparisons of devices say what is known, where from, and what is not."""

import io
import json
import re

import pytest
from rich.console import Console

from dovetail.core.device import Device, Kind
from dovetail.core.errors import InputError
from dovetail.devices.catalogue import packaged
from dovetail.report import devices as report

DEVICES = {entry.device.name: entry.device for entry in packaged()}
BARE = Device(name="Bare", vendor="", kind=Kind.GPU)


def shown(render, *what: object, width: int = 160, encoding: str = "utf-8") -> str:  # type: ignore[no-untyped-def]
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding=encoding, write_through=True), width=width)
    render(*what, console)
    return raw.getvalue().decode(encoding)


def test_a_list_has_a_row_a_device_and_marks_what_nobody_read() -> None:
    text = shown(report.render_list, list(DEVICES.values()))
    rows = {name: next(line for line in text.splitlines() if line.startswith(f"{name}  ")) for name in DEVICES}
    assert "989 T " in rows["H100 SXM 80GB"] and "3.35 T" in rows["H100 SXM 80GB"] and "?" not in rows["H100 SXM 80GB"]
    assert "26 T?" in rows["Hailo-8"]
    assert f"{len(DEVICES)} devices. ? marks" in text


def test_a_narrow_list_keeps_names_whole_and_says_what_it_leaves_out() -> None:
    text = shown(report.render_list, [DEVICES["H100 SXM 80GB"], DEVICES["Hailo-8"]], width=80)
    assert "H100 SXM 80GB" in text and "Hailo-8" in text and "rent" not in text.splitlines()[0]
    assert re.search(r"\d+ columns show fp32, rent, deployment too\.", " ".join(text.split()))


@pytest.mark.parametrize("column", ["memory", "price", "power", "year", "16bit", "rent"])
def test_what_is_not_known_sorts_last_either_way(column: str) -> None:
    ordered = report.in_order([BARE, *DEVICES.values()], column)
    known = [device.year if column == "year" else report.COLUMNS[column].fact(device) for device in ordered]
    count = sum(value is not None for value in known)
    assert all(value is not None for value in known[:count]) and count < len(ordered)


def test_columns_run_the_way_people_read_them() -> None:
    devices = list(DEVICES.values())
    assert report.in_order(devices, "memory")[0].name == "B300 SXM"
    assert report.in_order(devices, "price")[0].name == "Raspberry Pi 4"
    assert [device.name for device in report.in_order(devices, "name")] == sorted(DEVICES, key=str.lower)
    with pytest.raises(InputError, match="no column 'speed'"):
        report.in_order(devices, "speed")


@pytest.mark.parametrize("device", DEVICES.values(), ids=lambda device: device.name)
def test_a_sheet_shows_every_number_with_its_source(device: Device) -> None:
    text = shown(report.render_one, device)
    table, _, sources = text.partition("Sources\n")
    listed = dict(re.findall(r"^\[(\d+)\] (.*)$", sources, re.MULTILINE))
    for name, fact in device.numbers():
        row = next(line for line in table.splitlines() if line.startswith(f"{report.label(name, device)}  "))
        assert report.value_of(name, fact.value) in row and str(fact.source.kind) in row
        assert ("assumed ?" in row) == (fact.source.kind == "assumed")
        number = re.search(r"\[(\d+)\]", row)
        assert number and fact.source.ref.startswith(listed[number[1]].rstrip()[:100])


def test_a_sheet_says_what_is_not_known() -> None:
    text = shown(report.render_one, DEVICES["Hailo-8"])
    for name in ("SRAM size", "SRAM bandwidth", "power, idle", "price", "rent"):
        assert re.search(rf"^{name} +unknown", text, re.MULTILINE), name
    assert " 0 " not in text
    bare = shown(report.render_one, BARE)
    assert "memory size" in bare and "nobody read" not in bare


def test_notes_and_conflicts_are_shown() -> None:
    assert "Sources conflict: int8 153.5 TOPS" in shown(report.render_one, DEVICES["B300 SXM"])


def test_a_comparison_has_multiples_of_the_first() -> None:
    text = shown(report.render_comparison, [DEVICES["A100 SXM 80GB"], DEVICES["Instinct MI300X"], DEVICES["Raspberry Pi 5"]])
    assert re.search(r"^link to one +300 GB/s +64 GB/s +0\.21× +unknown", text, re.MULTILINE)
    assert re.search(r"^memory size +80 GB +192 GB +2\.40× +8 GB\? +0\.10×", text, re.MULTILINE)
    assert re.search(r"^power, idle +unknown +unknown +unknown", text, re.MULTILINE)


def test_json_holds_si_values_sources_and_null() -> None:
    one = json.loads(json.dumps(report.one_to_json(DEVICES["H100 SXM 80GB"])))["device"]
    assert one["peak_flop_per_s"]["bf16"]["value"] == 989e12 and one["idle_power_w"] is None
    assert one["power_w"]["source"]["kind"] == "quoted"
    both = report.comparison_to_json([DEVICES["A100 SXM 80GB"], DEVICES["Hailo-8"]])
    rows = {row["number"]: row for row in both["rows"]}
    assert rows["power_w"]["ratios"] == [1.0, 2.5 / 400]
    size = rows["memory.memory.capacity_bytes"]
    assert size["values"][1] is None and size["ratios"][1] is None
    assert len(report.list_to_json(list(DEVICES.values()))["devices"]) == len(DEVICES)


def test_a_name_cannot_steer_the_terminal_and_ascii_is_enough() -> None:
    evil = Device(name="\x1b[2J[red]bad[/red]", vendor="Käfer ×", kind=Kind.GPU)
    text = shown(report.render_one, evil, encoding="ascii")
    assert "\x1b[2J" not in text and "[red]bad[/red]" in text
