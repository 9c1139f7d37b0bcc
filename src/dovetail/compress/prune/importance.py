"""How much each weight, and each unit of channels, matters.

The measures are Han et al. 2015 (magnitude), Li et al. 2017 (L1 norms of filters), Molchanov et al. 2019 (first-order Taylor
expansion of the loss, |w · g|) and Liu et al. 2017 (scales of batch normalisations).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import onnx_ir as ir

from dovetail.compress.prune.coupling import Coupling, Group
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Array

Elementwise = Literal["magnitude", "normalized", "taylor"]
Importance = Literal["magnitude", "normalized", "l1", "l2", "batch_norm", "taylor"]


def of_weights(weights: Array, method: Elementwise, gradient: Array | None = None) -> Array:
    """Importance of every weight of one layer, of the shape of ``weights``, in float64.

    ``magnitude`` is |w|. ``normalized`` is |w| / σ with σ the standard deviation of the layer's weights, so that layers can be
    compared: a weight of -2 in a layer with σ = 1 has importance 2. ``taylor`` is |w · g|, g the gradient of the loss.

    Raises:
        InputError: ``taylor`` without a gradient of the same shape.
    """
    w = np.asarray(weights, np.float64)
    if method == "taylor":
        if gradient is None or gradient.shape != w.shape:
            raise InputError("taylor needs a gradient of the weights' shape", where="importance")
        return np.abs(w * gradient)
    if method == "normalized":
        sigma = float(w.std())
        return np.abs(w) / sigma if sigma > 0 else np.abs(w)
    return np.abs(w)


def of_units(coupling: Coupling, method: Importance, gradients: Mapping[str, Array] | None = None) -> dict[int, float]:
    """Importance of every unit: its norm in each tensor that it lies in, averaged over those tensors (Fang et al. 2023).

    A norm runs over the slice of a tensor that belongs to the unit: the mean of |w| or |w| / σ, the sum of |w| (``l1``) or of
    |w · g| (``taylor``), the root of the sum of w² (``l2``), or the batch normalisation's |γ|. Biases do not count.

    Args:
        coupling: the graph.
        method: which norm.
        gradients: constant's name → gradient, for ``taylor``.
    """
    total: dict[int, float] = {}
    tensors: dict[int, int] = {}
    for value, places in coupling.walk.places.items():
        if coupling.walk.roles[value] not in (("scale",) if method == "batch_norm" else ("weight", "scale")):
            continue
        for axis, labels in places.items():
            by_position = _norms(value, axis, method, gradients or {})
            roots, place = np.unique(coupling.walk.units.roots(labels), return_inverse=True)
            means = np.bincount(place, by_position) / np.bincount(place)
            for root, mean in zip(roots.tolist(), means.tolist(), strict=True):
                total[root] = total.get(root, 0.0) + mean
                tensors[root] = tensors.get(root, 0) + 1
    return {root: total[root] / tensors[root] for root in total}


def of_group(scores: Mapping[int, float], group: Group) -> Array:
    """Scores of a group's units, ``float64[len(group)]``.

    Raises:
        ModelError: a unit has none, as without a batch normalisation behind it.
    """
    if any(unit not in scores for unit in group.units):
        raise ModelError(f"no batch normalisation follows {group.name!r}", hint="choose another importance, such as l2")
    return np.array([scores[unit] for unit in group.units])


def comparable(scores: Array) -> Array:
    """Scores of one group over their mean, so that groups can be ranked together."""
    mean = float(scores.mean())
    return scores / mean if mean > 0 else scores


def _norms(value: ir.Value, axis: int, method: Importance, gradients: Mapping[str, Array]) -> Array:
    assert value.const_value is not None
    array = value.const_value.numpy()
    others = tuple(i for i in range(array.ndim) if i != axis)
    if method == "l2":
        norms: Array = np.sqrt((array.astype(np.float64) ** 2).sum(axis=others))
    elif method in ("l1", "batch_norm"):
        norms = np.abs(array.astype(np.float64)).sum(axis=others)
    elif method == "taylor":
        name = str(value.name)
        if name not in gradients:
            raise InputError(f"no gradient of {name!r}", where="importance", hint="give one for every weight, or use l2")
        norms = of_weights(array, "taylor", gradients[name]).sum(axis=others)
    else:
        norms = of_weights(array, "normalized" if method == "normalized" else "magnitude").mean(axis=others)
    return norms


def least(scores: Iterable[float], count: int) -> list[int]:
    """Places of the ``count`` least scores; of equal ones the first."""
    places: list[int] = np.argsort(np.fromiter(scores, np.float64), kind="stable")[:count].tolist()
    return places
