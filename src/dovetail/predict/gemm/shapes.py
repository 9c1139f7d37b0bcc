"""Matrix products and the GPUs that they run on, as arrays: row ``i`` of one belongs to row ``i`` of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROLES = ("qkv", "out", "up", "down")
"""Where in a transformer a product stands: before attention, after it, into the feed-forward layer and out of it. It tells
what the operands are like, which decides how much power a product takes; empty where nobody said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemms:
    """``n`` products ``C[m, n] = A[m, k] · B[k, n]``.

    Attributes:
        m: ``[n]`` rows of the activations; ``n`` columns of the weights, ``k`` what is summed over.
        role: of :data:`ROLES`, or empty.
        element_bytes: of all operands; 2 for fp16 and bf16.
    """

    m: Floats
    n: Floats
    k: Floats
    role: Sequence[str]
    element_bytes: float = 2.0

    def __post_init__(self) -> None:
        if not (len(self.m) == len(self.n) == len(self.k) == len(self.role)):
            raise ValueError("m, n, k and role have one value each per product")
        if len(self.m) and min(self.m.min(), self.n.min(), self.k.min()) < 1:
            raise ValueError("sizes of a product are at least 1")

    @property
    def flop(self) -> Floats:
        """``[n]``; a multiply-add counts as 2."""
        return 2 * self.m * self.n * self.k

    @property
    def bytes(self) -> Floats:
        """``[n]`` traffic if every operand is moved once."""
        return self.element_bytes * (self.m * self.k + self.n * self.k + self.m * self.n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """Where each of ``n`` products runs.

    Attributes:
        name: as the catalogue writes it.
        peak_flop_per_s: ``[n]`` dense, in the type of the operands.
        bandwidth_bytes_per_s: ``[n]``.
        processors: ``[n]`` multiprocessors that tiles are dealt out to.
        reached: ``[n]`` share of the peak that the best of all products reach (:mod:`dovetail.predict.peak_share`).
    """

    name: Sequence[str]
    peak_flop_per_s: Floats
    bandwidth_bytes_per_s: Floats
    processors: Floats
    reached: Floats

    def __post_init__(self) -> None:
        for item in fields(self)[1:]:
            values = getattr(self, item.name)
            if len(values) != len(self.name) or not (np.isfinite(values) & (values > 0)).all():
                raise ValueError(f"{item.name} is one number above zero per product")


def take(gemms: Gemms, gpus: Gpus, rows: Any) -> tuple[Gemms, Gpus]:
    """Some of the products with their GPUs."""
    names, roles = np.array(gpus.name, dtype=object)[rows], np.array(gemms.role, dtype=object)[rows]
    return (
        Gemms(m=gemms.m[rows], n=gemms.n[rows], k=gemms.k[rows], role=list(roles), element_bytes=gemms.element_bytes),
        Gpus(
            name=list(names),
            peak_flop_per_s=gpus.peak_flop_per_s[rows],
            bandwidth_bytes_per_s=gpus.bandwidth_bytes_per_s[rows],
            processors=gpus.processors[rows],
            reached=gpus.reached[rows],
        ),
    )
