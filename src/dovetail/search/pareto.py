"""Which candidates no other beats in every respect."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def front(points: Mapping[str, Sequence[float | None]]) -> tuple[str, ...]:
    """Names of the points that no other dominates; lower is better in every coordinate.

    A point with a missing coordinate is on no front: an unknown number never ranks first.
    """
    known = {
        name: tuple(float(v) for v in values if v is not None)
        for name, values in points.items()
        if all(v is not None and not math.isnan(v) for v in values)
    }
    return tuple(name for name, point in known.items() if not any(_dominates(other, point) for other in known.values()))


def _dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))
