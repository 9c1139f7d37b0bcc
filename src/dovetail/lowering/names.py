"""Names of new values."""

from __future__ import annotations

from collections.abc import Container


def free_name(wanted: str, taken: Container[str], separator: str = "_") -> str:
    """The wished name, with a number behind it where that is taken."""
    name, number = wanted, 1
    while name in taken:
        name, number = f"{wanted}{separator}{number}", number + 1
    return name
