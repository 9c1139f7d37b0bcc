"""One sample as the user's data hold it, and a stream of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dovetail.core.protocols import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Raw feeds keyed by input name, before checks and preprocessing; with or without a batch axis.

    ``group`` is what the user calls the independent unit; ``None`` for a unit of its own.
    """

    feeds: Mapping[str, Array]
    label: Any = None
    group: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """A stream of records.

    Attributes:
        where: file, folder or function, for messages.
        size: number of records; ``None`` when only iterating tells.
        iterate: starts reading; a second call is not promised to work.
    """

    where: str
    iterate: Callable[[], Iterator[Record]]
    size: int | None = None
