"""Where a number comes from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SourceKind(StrEnum):
    """How a number was obtained."""

    MEASURED = "measured"
    QUOTED = "quoted"
    DERIVED = "derived"
    ASSUMED = "assumed"
    USER = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The provenance of one number: how it was obtained, from where, and when (ISO date, empty when undated)."""

    kind: SourceKind
    ref: str
    date: str = ""
