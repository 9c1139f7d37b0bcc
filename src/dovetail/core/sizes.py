"""Sizes of free dimensions: what to assume where nobody gives one, what a graph of fixed sizes takes, and how to say so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

Shapes = Mapping[str, tuple[int, ...]]
"""Input name → shape of its feed in one call."""

_NAMED = (
    (re.compile(r"batch|^n$|^b$"), 1),
    (re.compile(r"seq|len|token|frame|time"), 128),
    (re.compile(r"height|width|^h$|^w$"), 224),
)
_UNNAMED = 128
_IMAGE_RANK, _IMAGE_SIZE = 4, 224


def assumed_size(name: str, axis: int, rank: int) -> int:
    """The size to assume for a free dimension.

    1 for a batch (any leading axis, or a name with ``batch``), 128 for sequences, tokens, frames and times, 224 for heights and
    widths; where the name tells nothing, 224 in a tensor of four axes and 128 in any other. Networks halve such axes up to five
    times, and both are multiples of 32.

    Args:
        name: of the symbolic dimension; empty for one without a name.
        axis: its place in the tensor.
        rank: axes of the tensor.
    """
    if axis == 0:
        return 1
    unnamed = _IMAGE_SIZE if rank == _IMAGE_RANK else _UNNAMED
    return next((size for pattern, size in _NAMED if pattern.search(name.lower())), unnamed)


def fixed_batch(taken: Mapping[str, Sequence[int | str | None]], sample: Shapes) -> int:
    """Samples that every call must hold, where a model's sizes are fixed to several; else 1.

    Args:
        taken: input name → the sizes that the model takes.
        sample: shapes of the feeds of one sample, whose leading axis is 1 where it counts samples.
    """
    leading = [(sizes[0], sample[name][0]) for name, sizes in taken.items() if sizes and sample.get(name)]
    return next((size for size, own in leading if isinstance(size, int) and size > 1 and own == 1), 1)


def only_shape(shapes: Mapping[str, Sequence[object]]) -> str:
    """The phrase for a model that takes only one shape where the original took any."""
    shown = (f"{name} [{', '.join(map(str, sizes))}]" for name, sizes in shapes.items())
    return f"takes only shape {', '.join(shown)}"
