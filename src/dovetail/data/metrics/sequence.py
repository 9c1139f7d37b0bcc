"""Token sequences: word error rate and perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array
from dovetail.data.metrics.base import SumMetric

IGNORED_LABEL = -100
"""Label of positions that do not count, the convention of ``torch.nn.CrossEntropyLoss``."""


class Wer(SumMetric):
    """Edit distance between token sequences over the number of true tokens.

    Takes token ids ``[N, T]``, or scores ``[N, T, V]`` that are decoded greedily; with ``ctc_blank`` repeated tokens collapse
    and blanks drop out (Graves et al. 2006). Tokens below 0 on either side are padding, and so is ``pad``.
    """

    name = "wer"
    higher_is_better = False
    default_max_drop = "1pp"
    undefined = "the labels hold no token"

    def __init__(self, *, ctc_blank: int | None = None, pad: int | None = None, output: str = "") -> None:
        super().__init__(output=output)
        self.ctc_blank, self.pad = ctc_blank, pad

    def sample_rows(self, y: Array, labels: Array) -> Array:
        """``[B, 2]``: edits, true tokens."""
        tokens = y.argmax(axis=-1) if y.dtype.kind == "f" else y
        if tokens.ndim != 2:
            raise DataError(f"takes tokens [N, T] or scores [N, T, V]; the output is {list(y.shape)}", where="metric wer")
        rows = []
        for said, label in zip(tokens, labels, strict=True):
            truth = np.atleast_1d(label)
            if truth.dtype.kind not in "iu":
                raise DataError(
                    "labels are sequences of token ids", where="metric wer", hint="for text, use a function as metric"
                )
            truth = self._kept(truth)
            rows.append([edit_distance(self._kept(self._decoded(said)).tolist(), truth.tolist()), len(truth)])
        return np.array(rows, dtype=np.float64)

    def _decoded(self, tokens: Array) -> Array:
        if self.ctc_blank is None:
            return tokens
        changed = np.concatenate([[True], tokens[1:] != tokens[:-1]])
        return np.asarray(tokens[changed & (tokens != self.ctc_blank)])

    def _kept(self, tokens: Array) -> Array:
        padding = -1 if self.pad is None else self.pad
        return np.asarray(tokens[(tokens >= 0) & (tokens != padding)])

    def finish(self, totals: Array) -> float:
        """Edits per true token."""
        return float(totals[0] / totals[1]) if totals[1] else math.nan


def edit_distance(a: Sequence[int], b: Sequence[int]) -> int:
    """Levenshtein distance: fewest insertions, deletions and substitutions."""
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row = [i]
        for j, y in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
        above = row
    return above[-1]


class Perplexity(SumMetric):
    """``exp`` of the mean negative log-likelihood per token.

    Takes logits ``[N, T, V]`` and labels ``[N, T]`` already shifted to what each position predicts; -100 does not count.
    """

    name = "perplexity"
    higher_is_better = False
    default_max_drop = "1%"
    undefined = "the labels hold no token"

    def sample_rows(self, y: Array, labels: Array) -> Array:
        """``[B, 2]``: negative log-likelihood in nats, tokens."""
        if y.ndim != 3 or labels.dtype.kind not in "iu" or labels.shape != y.shape[:2]:
            raise DataError(
                f"takes logits [N, T, V] and token ids [N, T]; they are {list(y.shape)} and "
                f"{labels.dtype} {list(labels.shape)}",
                where="metric perplexity",
            )
        counted = labels != IGNORED_LABEL
        if counted.any() and not 0 <= labels[counted].min() <= labels[counted].max() < y.shape[2]:
            raise DataError(f"a token lies outside the vocabulary of {y.shape[2]}", where="metric perplexity")
        logits = y.astype(np.float64)
        top = logits.max(axis=-1, keepdims=True)
        log_sum = top[..., 0] + np.log(np.exp(logits - top).sum(axis=-1))
        said = np.take_along_axis(logits, np.where(counted, labels, 0)[..., None], axis=-1)[..., 0]
        return np.stack([((log_sum - said) * counted).sum(axis=1), counted.sum(axis=1)], axis=1).astype(np.float64)

    def finish(self, totals: Array) -> float:
        """Nats per token, exponentiated; infinite where that overflows."""
        if not totals[1]:
            return math.nan
        nats = float(totals[0] / totals[1])
        return math.exp(nats) if nats < 700 else math.inf
