"""What groups of measurements were found to differ by, beyond what a formula explains.

Each level (a device, a model, a combination of them) has one offset for each of its groups, drawn from a normal distribution
around zero; the offsets found are its ridge solution (best linear unbiased predictors, Henderson 1975). A group without
measurements has an offset of zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Effects = Mapping[str, Mapping[str, float]]
"""Level → group → offset of the logarithm."""


def shift(effects: Effects, keys: Mapping[str, Sequence[str]]) -> Floats:
    """Sum of the offsets that apply to each of n questions, ``[n]``.

    Args:
        effects: as found.
        keys: level → ``[n]`` group of each question; a level without offsets adds nothing.
    """
    found = [np.array([effects.get(level, {}).get(key, 0.0) for key in column]) for level, column in keys.items()]
    return np.asarray(np.sum(found, axis=0))


def find_effects(
    residuals: Floats, keys: Mapping[str, Sequence[str]], spread: Mapping[str, float], noise: float, most: float = 0.6
) -> dict[str, dict[str, float]]:
    """Offsets of all groups.

    Args:
        residuals: ``[n]`` logarithm of measured over predicted.
        keys: level → ``[n]`` group of each measurement.
        spread: level → standard deviation of its offsets.
        noise: standard deviation of a measurement within a group.
        most: residuals beyond it count as this large, so that one outlier moves no group.
    """
    columns = [(level, key) for level in spread for key in dict.fromkeys(keys[level])]
    number = {column: index for index, column in enumerate(columns)}
    design = np.zeros((len(residuals), len(columns)))
    for level in spread:
        design[np.arange(len(residuals)), [number[level, key] for key in keys[level]]] = 1.0
    penalty = np.diag([(noise / spread[level]) ** 2 for level, _ in columns])
    offsets = np.linalg.solve(design.T @ design + penalty, design.T @ np.clip(residuals, -most, most))
    effects: dict[str, dict[str, float]] = {level: {} for level in spread}
    for (level, key), offset in zip(columns, offsets, strict=True):
        effects[level][key] = float(offset)
    return effects
