"""The metric of the example, as ``dovetail`` takes a user's own: ``metric.py:mean_iou``.

The function is called once per picture and returns a row of numbers; ``aggregate`` turns all rows into the value. So the value
can be computed again on any selection of pictures, which is what certifies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def mean_iou(outputs: Mapping[str, Array], mask: Array) -> Array:
    """Pixels that a class and its prediction share, for every class, then pixels that either has.

    Args:
        outputs: output name → array; here ``scores`` ``[1, C, H, W]``.
        mask: class numbers ``[H, W]``.
    """
    scores = outputs["scores"][0]
    predicted = scores.argmax(axis=0)
    classes = np.arange(len(scores))[:, None, None]
    ours, truth = predicted == classes, mask == classes
    return np.concatenate([(ours & truth).sum(axis=(1, 2)), (ours | truth).sum(axis=(1, 2))])


def aggregate(rows: Array) -> float:
    """Intersection over union of each class over all pictures, then the mean over the classes that occur."""
    both, either = rows.sum(axis=0).reshape(2, -1)
    seen = either > 0
    return float((both[seen] / either[seen]).mean())
