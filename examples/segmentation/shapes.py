"""Pictures of discs, squares and triangles under noise, with a class for every pixel. Nothing is downloaded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
CLASSES = ("background", "disc", "square", "triangle")
SIDE, NOISE = 48, 0.08
"""Pixels each way; standard deviation of the noise, where black is 0 and white is 1."""
_CORNERS = {2: 4, 3: 3}
"""Class → corners; the disc has none."""


def draw(count: int, seed: int) -> tuple[Array, Array]:
    """Pictures, float32 ``[count, 1, SIDE, SIDE]``, and masks of class numbers, int64 ``[count, SIDE, SIDE]``."""
    rng = np.random.default_rng(seed)
    pictures, masks = zip(*(_picture(rng) for _ in range(count)), strict=True)
    return np.stack(pictures)[:, None].astype(np.float32), np.stack(masks)


def _picture(rng: np.random.Generator) -> tuple[Array, Array]:
    """Two to four shapes on a slope of grey; a later one covers an earlier one."""
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    picture = 0.4 + rng.uniform(-0.15, 0.15) * (x - 0.5) + rng.uniform(-0.15, 0.15) * (y - 0.5)
    mask = np.zeros((SIDE, SIDE), np.int64)
    for kind in rng.integers(1, len(CLASSES), rng.integers(2, 5)):
        inside = _inside(kind, x, y, rng)
        mask[inside] = kind
        picture[inside] += rng.choice([-1, 1]) * rng.uniform(0.2, 0.4)
    return picture + rng.normal(0, NOISE, picture.shape), mask


def _inside(kind: int, x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Which pixels a shape of random place, size and turn covers."""
    (left, top), radius, turn = rng.uniform(0.15, 0.85, 2), rng.uniform(0.12, 0.28), rng.uniform(0, 2 * np.pi)
    if kind not in _CORNERS:
        return (x - left) ** 2 + (y - top) ** 2 <= radius**2
    corners = _CORNERS[kind]
    sides = turn + 2 * np.pi * np.arange(corners) / corners
    away = np.cos(sides)[:, None, None] * (x - left) + np.sin(sides)[:, None, None] * (y - top)
    covered: Array = (away <= radius * np.cos(np.pi / corners)).all(axis=0)
    return covered
