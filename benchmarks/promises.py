"""What validation promises, and whether it was kept: errors, what intervals hold, and how devices are ranked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

COVERAGE = (0.85, 0.96)
"""Share of unseen rows that 90 % intervals hold."""
TAU = 0.8
"""Rank correlation of devices (Kendall τ-b) within equal work, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One of them, in words, and whether it was kept."""

    text: str
    kept: bool

    def __str__(self) -> str:
        return self.text if self.kept else f"{self.text}: missed"


def promises(figures: Mapping[str, Any]) -> Iterator[Promise]:
    """Of one set, from its figures as they are in the journal.

    Of parts of the rows only too narrow intervals count: one that holds more than it says of some rows is made for others too.
    """
    for gate in figures["gates"]:
        where = ", ".join(filter(None, (gate["split"], gate["part"])))
        found = "no rows" if gate["value"] is None else percent(gate["value"])
        text = f"{gate['statistic']} on {where}: {found}, wanted at most {percent(gate['limit'])}"
        yield Promise(text=text, kept=gate["kept"])
    least, most = COVERAGE
    for split, parts in figures["unseen"].items():
        whole = parts[""]["coverage"]
        text = f"intervals on {split} hold {percent(whole)} of {parts['']['n']:,}, wanted {percent(least)} to {percent(most)}"
        yield Promise(text=text, kept=least <= whole <= most)
        for part, error in parts.items():
            if part and error["coverage"] < least:
                held = f"{percent(error['coverage'])} of {error['n']:,}"
                text = f"intervals on {split}, {part} hold {held}, wanted at least {percent(least)}"
                yield Promise(text=text, kept=False)
        if parts[""].get("kendall"):
            tau, works = parts[""]["kendall"]
            text = f"ranking of devices, {split}: Kendall τ {tau:.3f} over {works} works, wanted at least {TAU:.2f}"
            yield Promise(text=text, kept=tau >= TAU)


def percent(share: float) -> str:
    """``0.1234`` → ``12.3 %``."""
    return f"{100 * share:.1f} %"
