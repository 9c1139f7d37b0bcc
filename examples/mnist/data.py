"""MNIST for the examples: ``train`` (50,000 images), ``select`` (10,000) and ``certify`` (the 10,000 test images).

Reads the file that the variable ``MNIST`` names: an ``.npz`` with ``x_train``, ``y_train``, ``x_test`` and ``y_test``, images
as uint8 ``[N, 28, 28]`` (LeCun, Cortes, Burges; CC BY-SA 3.0).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

Samples = Iterator[tuple[np.ndarray, int]]
SELECT = 10_000
"""Training images, the last ones, that are kept from training and select."""


def train() -> Samples:
    """What may be trained on."""
    return _samples("train", slice(None, -SELECT))


def select() -> Samples:
    """What the search selects on."""
    return _samples("train", slice(-SELECT, None))


def certify() -> Samples:
    """What certifies the answer."""
    return _samples("test", slice(None))


def _samples(part: str, taken: slice) -> Samples:
    with np.load(os.environ["MNIST"], allow_pickle=False) as file:
        images, labels = file[f"x_{part}"][taken], file[f"y_{part}"][taken]
    for image, label in zip(images, labels, strict=True):
        yield image[None].astype(np.float32) / 255, int(label)
