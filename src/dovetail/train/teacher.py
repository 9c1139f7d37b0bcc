"""A teacher's answers, remembered where the same samples come again as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from dovetail.train.feed import Batch

MOST_BYTES = 256_000_000
"""Answers that are remembered; more are computed anew each time."""
Answers = Mapping[str, Any]


class Teacher:
    """Answers of a fixed model.

    Args:
        answer: name → tensor of a batch.
        samples: of the data set that batches number.
    """

    def __init__(self, answer: Callable[[Batch], Answers], samples: int) -> None:
        self._answer, self._samples = answer, samples
        self._known: dict[str, Any] = {}

    def __call__(self, batch: Batch) -> Answers:
        """The answers for a batch, without gradients."""
        if self._known:
            rows = torch.from_numpy(batch.indices)
            return {name: known[rows] for name, known in self._known.items()}
        with torch.no_grad():
            return self._answer(batch)

    def remember(self, batches: Iterable[Batch]) -> None:
        """Computes the answers for all samples in a fixed order, so that every later run has bitwise the same.

        Answers that are too many, or of several shapes, are left to be computed each time.

        Args:
            batches: every sample at least once, as it will come again.
        """
        known: dict[str, Any] = {}
        for batch in batches:
            answers = self(batch)
            if not known:
                each = sum(a.nbytes / len(batch) for a in answers.values())
                if each * self._samples > MOST_BYTES or any(not a.ndim or len(a) != len(batch) for a in answers.values()):
                    return
                known = {name: a.new_zeros((self._samples, *a.shape[1:])) for name, a in answers.items()}
            if any(a.shape[1:] != known[name].shape[1:] for name, a in answers.items()):
                return
            rows = torch.from_numpy(batch.indices)
            for name, answer in answers.items():
                known[name][rows] = answer
        self._known = known
