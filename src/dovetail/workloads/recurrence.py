"""Finds recurrent state: inputs that an output of the same kind feeds at the next call."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dovetail.core.protocols import TensorSpec

_SUFFIXES = ("N", "n", "_n", "_new", "_next", "_out", "Out", "_output")
_SWAPS = (("in", "out"), ("past", "present"), ("prev", "next"))


def detect_state(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> dict[str, str]:
    """Recurrent input → output that carries it, told from names (``state``/``stateN``, ``h_in``/``h_out``) and matching types.

    Sizes may differ only where one side is symbolic. Names decide, so a model with other habits needs its state declared.
    """
    found = {}
    for spec in inputs:
        names = [spec.name + suffix for suffix in _SUFFIXES]
        names += [re.sub(rf"(?<![A-Za-z]){old}(?![a-z])", new, spec.name) for old, new in _SWAPS]
        partner = next((o for o in outputs if o.name in names and o.name != spec.name and _alike(spec, o)), None)
        if partner is not None:
            found[spec.name] = partner.name
    return found if len(found) < len(inputs) else {}


def _alike(a: TensorSpec, b: TensorSpec) -> bool:
    if a.dtype != b.dtype or len(a.shape) != len(b.shape):
        return False
    return all(not (isinstance(x, int) and isinstance(y, int)) or x == y for x, y in zip(a.shape, b.shape, strict=True))
