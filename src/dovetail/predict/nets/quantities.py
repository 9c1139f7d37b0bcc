"""What is added up over a network's operators, for one sample: operations, elements moved and operators, kind by kind.

Kinds of operators, as PyTorch runs them: ``conv`` (dense, kernels greater than 1), ``pw`` (1·1), ``grp`` (groups), ``dw``
(depthwise), ``mm`` (activations by weights), ``bmm`` (activations by activations), ``sdpa`` (fused attention), ``bn`` (batch
norms), ``ln`` (other norms), ``copy`` (moves), ``red`` (reductions and pooling), ``ew`` (element-wise).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PRODUCTS = ("conv", "pw", "grp", "dw", "mm", "bmm", "sdpa")
KINDS = (*PRODUCTS, "bn", "ln", "copy", "red", "ew")
INTENSITIES = (25, 100, 400)
"""FLOP that take as long as a byte, at which :attr:`roof` quantities are added up."""

FLOP = tuple(f"flop_{kind}" for kind in PRODUCTS)
MOVED = tuple(f"moved_{kind}" for kind in KINDS)
COUNT = tuple(f"count_{kind}" for kind in KINDS)
UNEVEN = ("flop_odd", "flop_thin32", "flop_thin64", "flop_thin128")
"""FLOP of products with channels that 8 does not divide; with fewer than 32 channels, with 32 to 63, with 64 to 127."""
ROOF = tuple(f"roof_{intensity}" for intensity in INTENSITIES)
"""16-bit bytes that products (but depthwise) move, or FLOP over the intensity where that is more, operator by operator."""
QUANTITIES = (*FLOP, *MOVED, *COUNT, *UNEVEN, *ROOF, "params")

FIXED = np.array([name.startswith("count_") or name == "params" for name in QUANTITIES])
"""``[quantities]`` what neither the batch nor the size of the image changes."""
_INDEX = {name: index for index, name in enumerate(QUANTITIES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One operator on one sample.

    Attributes:
        kind: of :data:`KINDS`.
        flop: a multiply-add counts as 2; 0 of what is no product.
        read: elements of activations; ``written`` likewise.
        channels: that each output sums over, and that there are of outputs, per group; empty where that says nothing.
    """

    kind: str
    flop: float = 0.0
    read: float = 0.0
    written: float = 0.0
    channels: tuple[int, ...] = ()


def summed(operators: Iterable[Counted], params: float) -> Floats:
    """``[quantities]`` in the order of :data:`QUANTITIES`."""
    total = dict.fromkeys(QUANTITIES, 0.0)
    for op in operators:
        total[f"moved_{op.kind}"] += op.read + op.written
        total[f"count_{op.kind}"] += 1
        if op.kind in PRODUCTS:
            _add_product(total, op)
    total["params"] = params
    return np.array([total[name] for name in QUANTITIES])


def _add_product(total: dict[str, float], op: Counted) -> None:
    total[f"flop_{op.kind}"] += op.flop
    if op.kind != "dw":
        for intensity in INTENSITIES:
            total[f"roof_{intensity}"] += max(op.flop / intensity, 2 * (op.read + op.written))
    if op.kind in ("conv", "pw", "grp", "mm") and op.channels:
        total["flop_odd"] += op.flop * any(channel % 8 for channel in op.channels)
        least = min(op.channels)
        if least < 128:
            total["flop_thin32" if least < 32 else "flop_thin64" if least < 64 else "flop_thin128"] += op.flop


def pick(values: Floats, names: Iterable[str]) -> Floats:
    """``[n, names]`` of ``[n, quantities]``."""
    return np.asarray(values[:, [_INDEX[name] for name in names]])
