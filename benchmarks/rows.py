"""The journal of results: ``results/NAME.jsonl``, one row a result with its configuration, versions, machine and date."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dovetail.core.serial import encode
from dovetail.devices.probe import environment

FOLDER = Path(__file__).resolve().parent / "results"
Row = dict[str, Any]


def append(name: str, config: Mapping[str, Any], figures: Mapping[str, Any], versions: Mapping[str, str] | None = None) -> Row:
    """Files one result and returns its row.

    Args:
        name: of the journal.
        config: what was run.
        figures: what came out.
        versions: of packages that are not Dovetail's own.
    """
    machine = encode(environment())
    own = machine.pop("versions")
    row = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": encode(config),
        "versions": {**own, **(versions or {})},
        "machine": machine,
        "figures": encode(figures),
    }
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return row


def read(path: Path) -> Iterator[Row]:
    """Rows of a journal in order; nothing where there is none."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from (json.loads(line) for line in file)


def latest(name: str) -> list[Row]:
    """The last row of every model in a journal; artifacts that were made elsewhere stand beside the usual one."""
    found = read(FOLDER / f"{name}.jsonl")
    return list({(row["config"]["model"], row["config"].get("ours", "")): row for row in found}.values())


def geometric_mean(values: Iterable[float]) -> float:
    """NaN of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(statistics.fmean(logs)) if logs else math.nan
