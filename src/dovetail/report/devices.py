"""Shows devices: a list, one with the source of every number, several side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dovetail.core import units
from dovetail.core.device import DTYPES, Device, Fact
from dovetail.core.errors import InputError
from dovetail.core.serial import encode
from dovetail.core.source import SourceKind
from dovetail.report import columns as fit
from dovetail.report.phrases import UNKNOWN, ascii_safe, one_line

SCHEMA = 1
UNVERIFIED = "?"
_LEGEND = f"{UNVERIFIED} marks a number that nobody read in a source."
_ALWAYS = ("power_w", "idle_power_w", "price_usd", "price_usd_per_h", "deployment")
"""Numbers that every device has; where they are not known, that is said."""
_SHORT = ("name", "kind", "year")
_MISSED = ("fp32", "rent", "deployment", "year", "price", "8bit", "kind", "power")
"""Columns that a terminal leaves out where not all fit, the least missed first."""
_NARROWEST = 12
"""Of a device's column, so that words of its software fit."""
_FIELDS = [item.name for item in fields(Device)]
_FOUR_BITS = "4 bit"
"""``int4`` stands for floats too."""
_LABELS = {
    "power_w": "power, at most", "idle_power_w": "power, idle", "launch_s": "launch of an operator", "price_usd": "price",
    "price_usd_per_h": "rent", "deployment": "deployment", "cores": "cores",
    "capacity_bytes": "size", "bandwidth_bytes_per_s": "bandwidth", "pair_bytes_per_s": "to one", "all_bytes_per_s": "to all",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A number in the list.

    Attributes:
        title: with the unit on a second line.
        fact: of a device.
        most_first: how a list sorted by it starts.
    """

    title: str
    fact: Callable[[Device], Fact | None]
    most_first: bool = True


def _peak(*dtypes: str) -> Callable[[Device], Fact | None]:
    def best(device: Device) -> Fact | None:
        known = [device.peak_flop_per_s[dtype] for dtype in dtypes if dtype in device.peak_flop_per_s]
        return max(known, key=lambda fact: fact.value, default=None)

    return best


COLUMNS: Mapping[str, Column] = {
    "fp32": Column(title="fp32\nFLOP/s", fact=_peak("fp32")),
    "16bit": Column(title="16 bit\nFLOP/s", fact=_peak("fp16", "bf16")),
    "8bit": Column(title="8 bit\nOP/s", fact=_peak("fp8", "int8")),
    "memory": Column(title="memory\nB", fact=lambda device: device.capacity_bytes),
    "bandwidth": Column(title="bandwidth\nB/s", fact=lambda device: device.bandwidth_bytes_per_s),
    "power": Column(title="power\nW", fact=lambda device: device.power_w, most_first=False),
    "price": Column(title="price\nUSD", fact=lambda device: device.price_usd, most_first=False),
    "rent": Column(title="rent\nUSD/h", fact=lambda device: device.price_usd_per_h, most_first=False),
    "deployment": Column(title="deploy\n1-5", fact=lambda device: device.deployment, most_first=False),
}
_WORDS: Mapping[str, Callable[[Device], Any]] = {
    "name": lambda device: device.name.lower(),
    "kind": lambda device: device.kind,
    "vendor": lambda device: device.vendor.lower(),
}


def in_order(devices: Iterable[Device], column: str) -> list[Device]:
    """Sorted by a column; a device whose number is not known comes last, whichever way the column runs.

    Raises:
        InputError: there is no such column.
    """
    if column in _WORDS:
        return sorted(devices, key=_WORDS[column])
    if column == "year":
        return sorted(devices, key=lambda device: (device.year is None, -(device.year or 0)))
    if column not in COLUMNS:
        known = ", ".join((*_WORDS, "year", *COLUMNS))
        raise InputError(f"there is no column {column!r}", where="--sort", hint=f"one of: {known}")
    chosen = COLUMNS[column]

    def place(device: Device) -> tuple[bool, float]:
        fact = chosen.fact(device)
        return fact is None, 0.0 if fact is None else -fact.value if chosen.most_first else fact.value

    return sorted(devices, key=place)


def render_list(devices: Sequence[Device], console: Console) -> None:
    """One row a device, its main numbers in columns, as many of them as fit."""
    titles = {name: name for name in _SHORT} | {name: column.title for name, column in COLUMNS.items()}
    cells: dict[str, list[Text]] = {
        "name": [_text(device.name, console) for device in devices],
        "kind": [Text(device.kind) for device in devices],
        "year": [Text(str(device.year or "")) for device in devices],
        **{name: [_marked(column.fact(d), units.count) for d in devices] for name, column in COLUMNS.items()},
    }
    widths = {name: fit.width([titles[name], *(cell.plain for cell in found)]) for name, found in cells.items()}
    shown = fit.fitting(widths, _MISSED, console.width)
    table = _table()
    for name in shown:
        number = name in COLUMNS
        table.add_column(titles[name], justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in zip(*(cells[name] for name in shown), strict=True):
        table.add_row(*row)
    console.print(table)
    hidden = [name for name in cells if name not in shown]
    more = f" {fit.total(list(widths.values()))} columns show {', '.join(hidden)} too." if hidden else ""
    console.print(f"{len(devices)} devices. {_LEGEND} Blank is unknown.{more}", style="dim")


def render_one(device: Device, console: Console) -> None:
    """Every number of a device with where it comes from."""
    console.print(_text(device.name, console, "bold"))
    grid = Table.grid(padding=(0, 2))
    for head, words in _facts_in_words(device):
        grid.add_row(Text(head, style="dim"), _text(words, console))
    console.print(grid)
    refs = {ref: number for number, ref in enumerate(dict.fromkeys(fact.source.ref for _, fact in device.numbers()), 1)}
    console.print()
    console.print(_numbers(device, refs, console))
    console.print(Text("\nSources", style="bold"))
    for ref, number in refs.items():
        console.print(_text(f"[{number}] {ref}", console))
    if any(fact.source.kind is SourceKind.ASSUMED for _, fact in device.numbers()):
        console.print(_LEGEND, style="dim")
    if device.notes:
        console.print(Text("\nNotes", style="bold"))
    for note in device.notes:
        console.print(_text(f"{note[:1].upper()}{note[1:]}.", console))


def _numbers(device: Device, refs: Mapping[str, int], console: Console) -> Table:
    table = _table()
    table.add_column("number", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    for title in ("obtained", "source", "date"):
        table.add_column(title, overflow="fold")
    for name, fact in device.numbers():
        source = fact.source
        sure = source.kind is not SourceKind.ASSUMED
        obtained = Text(str(source.kind)) if sure else Text(f"{source.kind} {UNVERIFIED}", style="yellow")
        row = (_text(label(name, device), console), value_of(name, fact.value), obtained, Text(f"[{refs[source.ref]}]"))
        table.add_row(*row, source.date or "undated")
    for name in _missing(device):
        table.add_row(_text(label(name, device), console), UNKNOWN, "", "", "", style="dim")
    return table


def render_comparison(devices: Sequence[Device], console: Console) -> None:
    """Numbers side by side, each also as a multiple of the first device's; below each other where not all devices fit."""
    rows = compared(devices)
    labels = ["software", *(label(name, None) for name, _ in rows)]
    widths = [
        max(fit.width([_cell(name, facts[i], facts[0]).plain for name, facts in rows]), fit.width(device.name.split()))
        for i, device in enumerate(devices)
    ]
    first = fit.total([fit.width(labels), widths[0]])
    for group in fit.in_groups(first, widths[1:], console.width):
        places = [0, *(i + 1 for i in group)]
        console.print(_compared(devices, rows, places, widths, console))
        console.print()
    console.print(_LEGEND, style="dim")


def _compared(
    devices: Sequence[Device],
    rows: Sequence[tuple[str, list[Fact | None]]],
    places: Sequence[int],
    widths: Sequence[int],
    console: Console,
) -> Table:
    table = _table()
    table.add_column("", no_wrap=True)
    some = [devices[i] for i in places]
    for i, device in zip(places, some, strict=True):
        table.add_column(_text(device.name, console), justify="right", max_width=max(widths[i], _NARROWEST), overflow="fold")
    table.add_row("kind", *(device.kind for device in some))
    table.add_row("year", *(str(device.year or UNKNOWN) for device in some))
    for name, facts in rows:
        table.add_row(label(name, None), *(_cell(name, facts[i], facts[0]) for i in places))
    table.add_row("software", *(_text(", ".join(device.software) or UNKNOWN, console) for device in some))
    return table


def compared(devices: Sequence[Device]) -> list[tuple[str, list[Fact | None]]]:
    """Name of every number that one of the devices has → that of each; the main memories count as one, whatever their kind."""
    named = [{_common(name, device): fact for name, fact in device.numbers()} for device in devices]
    names = sorted({*_ALWAYS, *(name for facts in named for name in facts)}, key=_place)
    return [(name, [facts.get(name) for facts in named]) for name in names]


def list_to_json(devices: Sequence[Device]) -> dict[str, Any]:
    """``schema``, ``devices``; SI units, ``null`` for unknown, every number with its source."""
    return {"schema": SCHEMA, "devices": [encode(device) for device in devices]}


def one_to_json(device: Device) -> dict[str, Any]:
    """``schema``, ``device``; SI units, ``null`` for unknown, every number with its source."""
    return {"schema": SCHEMA, "device": encode(device)}


def comparison_to_json(devices: Sequence[Device]) -> dict[str, Any]:
    """``schema``, ``devices`` (names), ``rows`` of ``number``, ``values`` in SI, and ``ratios`` to the first device."""
    rows = [
        {"number": name, "values": [encode(fact) for fact in facts], "ratios": [_ratio(fact, facts[0]) for fact in facts]}
        for name, facts in compared(devices)
    ]
    return {"schema": SCHEMA, "devices": [device.name for device in devices], "rows": rows}


def label(name: str, device: Device | None) -> str:
    """``memory.HBM.capacity_bytes`` → ``HBM size``; a link is called by its own name where its device is given."""
    head, _, rest = name.partition(".")
    if head == "peak_flop_per_s":
        return f"peak {_FOUR_BITS if rest == 'int4' else rest}"
    if head == "memory":
        tier, _, what = rest.rpartition(".")
        return f"{tier} {_LABELS[what]}"
    if head in ("link", "host_link"):
        link = getattr(device, head, None)
        called = link.name if link is not None else "link" if head == "link" else "host link"
        return f"{called} to the host" if head == "host_link" and link is not None else f"{called} {_LABELS[rest]}"
    return _LABELS[head]


def value_of(name: str, value: float) -> str:
    """A number in the unit that its name states, for people."""
    head, _, rest = name.partition(".")
    if head == "peak_flop_per_s":
        return units.count(value, "OP/s" if rest.startswith("int") else "FLOP/s", digits=4)
    if name.endswith("bytes_per_s"):
        return f"{units.size(value)}/s"
    if name.endswith("bytes"):
        return units.size(value)
    if head == "launch_s":
        return units.time(value)
    if head == "deployment":
        return f"{value:.0f} of 5"
    if head.startswith("price"):
        return f"{value:,.2f} USD/h" if head.endswith("per_h") else f"{value:,.0f} USD"
    return units.count(value, "W") if head.endswith("power_w") else f"{value:,.0f}"


def _facts_in_words(device: Device) -> list[tuple[str, str]]:
    rows = [
        ("vendor", device.vendor or UNKNOWN),
        ("kind", str(device.kind)),
        ("year", str(device.year or UNKNOWN)),
        ("memory", ", ".join(tier.name for tier in device.memory) or UNKNOWN),
        ("link", device.link.name if device.link else UNKNOWN),
        ("host link", device.host_link.name if device.host_link else UNKNOWN),
        ("software", ", ".join(device.software) or UNKNOWN),
    ]
    return [*rows, ("also called", ", ".join(device.aliases))] if device.aliases else rows


def _missing(device: Device) -> list[str]:
    missing = [name for name in _ALWAYS if getattr(device, name) is None]
    main = device.memory[0] if device.memory else None
    tier = main.name if main else "memory"
    parts = [part for part in ("capacity_bytes", "bandwidth_bytes_per_s") if main is None or getattr(main, part) is None]
    return [*(f"memory.{tier}.{part}" for part in parts), *missing]


def _common(name: str, device: Device) -> str:
    """A name under which numbers of several devices meet."""
    main = f"memory.{device.memory[0].name}." if device.memory else "memory.memory."
    return f"memory.memory.{name.removeprefix(main)}" if name.startswith(main) else name


def _place(name: str) -> tuple[int, int, str]:
    """Numbers come in the order of a device's fields, peaks from the widest type on."""
    head, _, rest = name.partition(".")
    tier, _, what = rest.rpartition(".")
    within = DTYPES.index(rest) if rest in DTYPES else list(_LABELS).index(what) if what else 0
    return _FIELDS.index(head), within, "" if tier == "memory" else tier


def _cell(name: str, fact: Fact | None, first: Fact | None) -> Text:
    text = _marked(fact, lambda value: value_of(name, value)) if fact else Text(UNKNOWN, style="dim")
    ratio = _ratio(fact, first)
    if fact is not first and ratio is not None and name != "deployment":
        text.append(f"  {units.ratio(ratio, 2 if ratio >= 0.1 else 4)}", style="dim")
    return text


def _ratio(fact: Fact | None, first: Fact | None) -> float | None:
    return fact.value / first.value if fact is not None and first is not None else None


def _marked(fact: Fact | None, show: Callable[[float], str]) -> Text:
    """A number; one that nobody read is marked, one that nobody knows is blank."""
    if fact is None:
        return Text("")
    assumed = fact.source.kind is SourceKind.ASSUMED
    return Text(f"{show(fact.value)}{UNVERIFIED if assumed else ' '}", style="yellow" if assumed else "")


def _text(words: str, console: Console, style: str = "") -> Text:
    """Words without control characters or markup."""
    clean = one_line(words)
    return Text(ascii_safe(clean) if console.options.ascii_only else clean, style=style, overflow="fold")


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
