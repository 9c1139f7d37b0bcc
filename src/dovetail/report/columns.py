"""Tables that fit a terminal: the columns that are missed least are left out first, and that is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len

GAP = 2
"""Spaces between two columns."""


def width(texts: Sequence[str]) -> int:
    """Of the widest line."""
    return max((cell_len(line) for text in texts for line in text.split("\n")), default=0)


def total(widths: Sequence[int]) -> int:
    """Of a table with columns of these widths."""
    return sum(widths) + GAP * max(0, len(widths) - 1)


def fitting(widths: Mapping[str, int], missed: Sequence[str], room: int) -> list[str]:
    """Columns that are shown, in order.

    Args:
        widths: of each column.
        missed: columns that may be left out, in this order, until the rest fits.
        room: width of the terminal.
    """
    kept = list(widths)
    for name in missed:
        if total([widths[each] for each in kept]) <= room:
            break
        if name in kept:
            kept.remove(name)
    return kept


def in_groups(first: int, others: Sequence[int], room: int) -> list[range]:
    """Columns cut into tables that each begin with the same ones; every table has at least one more.

    Args:
        first: width of what each table begins with.
        others: widths of the columns that are dealt out.
        room: width of the terminal.
    """
    groups: list[range] = []
    start = 0
    for end in range(1, len(others) + 1):
        if end == len(others) or total([first, *others[start : end + 1]]) > room:
            groups.append(range(start, end))
            start = end
    return groups
