"""Times that a network's quantities would take at the data sheet's rates: a prediction is a sum of them with weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.nets.quantities import COUNT, FLOP, MOVED, PRODUCTS, ROOF, UNEVEN, pick
from dovetail.predict.nets.setting import Setting

Floats = NDArray[np.float64]

LAUNCH_S = 5e-6
"""Unit of the terms that count operators: about what starting one takes on a GPU."""
TERMS = (*FLOP, *UNEVEN, *MOVED, *ROOF, "params", "operators", "products", "step")


def terms_s(quantities: Floats, batch: Floats, settings: Sequence[Setting]) -> Floats:
    """``[n, TERMS]`` seconds a sample.

    Args:
        quantities: ``[n, QUANTITIES]`` of one sample.
        batch: ``[n]`` samples a step: launches and parameters are shared by them.
        settings: ``[n]``.
    """
    peak = np.array([s.peak_flop_per_s for s in settings])[:, None]
    bandwidth = np.array([s.bandwidth_bytes_per_s / s.element_bytes for s in settings])[:, None]
    clock = np.array([s.clock for s in settings])[:, None]
    counts, own = pick(quantities, COUNT), batch[:, None]
    operators = counts.sum(axis=1, keepdims=True)
    products = pick(quantities, [f"count_{kind}" for kind in PRODUCTS]).sum(axis=1, keepdims=True)
    found = np.concatenate(
        [
            pick(quantities, (*FLOP, *UNEVEN)) / peak,
            pick(quantities, MOVED) / bandwidth,
            pick(quantities, ROOF) / 2 / bandwidth,
            pick(quantities, ["params"]) / bandwidth / own,
            LAUNCH_S * operators / own,
            LAUNCH_S * products / own,
            LAUNCH_S / own,
        ],
        axis=1,
    )
    return np.asarray(found / clock)


def composition(quantities: Floats, batch: Floats, pixels: Floats) -> Floats:
    """``[n, features]`` what a network is made of, for trees: sizes in logarithms, shares of operations, traffic, operators.

    Args:
        quantities: ``[n, QUANTITIES]`` of one sample.
        batch: ``[n]``.
        pixels: ``[n]`` side of the input image.
    """
    flop, moved, counts = (pick(quantities, names) for names in (FLOP, MOVED, COUNT))
    all_flop, all_moved, operators = (np.maximum(v.sum(axis=1), 1.0) for v in (flop, moved, counts))
    params = np.maximum(pick(quantities, ["params"])[:, 0], 1.0)
    sizes = [batch, pixels, all_flop, all_flop / all_moved, params, operators, all_flop / operators]
    shares = [flop / all_flop[:, None], pick(quantities, UNEVEN) / all_flop[:, None], moved / all_moved[:, None]]
    return np.concatenate([np.log(np.stack(sizes, axis=1)), *shares, counts / operators[:, None]], axis=1)


def limits(shares: Floats, quantities: Floats) -> Floats:
    """``[n, 3]`` shares of the time that go into operations, memory traffic and launches.

    Args:
        shares: ``[n, TERMS]``.
        quantities: ``[n, QUANTITIES]``; they tell which part of the terms ``ROOF`` is traffic.
    """
    of = {name: shares[:, index] for index, name in enumerate(TERMS)}
    moved = 2 * pick(quantities, [f"moved_{kind}" for kind in PRODUCTS if kind != "dw"]).sum(axis=1)
    roofs = pick(quantities, ROOF)
    traffic = np.clip(moved[:, None] / np.maximum(roofs, 1.0), 0.0, 1.0)
    by_roof = np.stack([of[name] for name in ROOF], axis=1)
    return np.stack(
        [
            sum(of[name] for name in (*FLOP, *UNEVEN)) + (by_roof * (1 - traffic)).sum(axis=1),
            sum(of[name] for name in (*MOVED, "params")) + (by_roof * traffic).sum(axis=1),
            of["operators"] + of["products"] + of["step"],
        ],
        axis=1,
    )
