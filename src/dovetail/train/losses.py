"""Losses: against labels, and against a teacher. All are means over the batch, in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from dovetail.core.errors import ModelError

_EPSILON = 1e-12


def kl_divergence(student_NC: Any, teacher_NC: Any, temperature: float) -> Any:
    """``T² · KL(softmax(t/T) ‖ softmax(s/T))`` (Hinton 2015, section 2.1), the mean over rows.

    The factor T² keeps the gradient's size when T changes.
    """
    student = functional.log_softmax(student_NC.float() / temperature, dim=-1)
    teacher = functional.log_softmax(teacher_NC.float() / temperature, dim=-1)
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def squared_error(student: Any, teacher: Any) -> Any:
    """Mean squared error of logits or other outputs (Ba & Caruana 2014)."""
    return functional.mse_loss(student.float(), teacher.float())


def relative_error(student: Any, teacher: Any) -> Any:
    """Squared error over the teacher's variance in the batch, so that outputs of any unit weigh alike."""
    s, t = student.float(), teacher.float()
    return functional.mse_loss(s, t) / t.var(correction=0).clamp_min(_EPSILON)


def feature_match(student: Any, teacher: Any) -> Any:
    """``‖s - t‖² / ‖t‖²`` of two inner tensors.

    Maps ``[N, C, H, W]`` of different channel counts are compared by where they are active: the mean of the squares over the
    channels, each map scaled to length 1 (Zagoruyko & Komodakis 2017, eq. 2).

    Raises:
        ModelError: the shapes differ in another way.
    """
    s, t = student.float(), teacher.float()
    if s.shape == t.shape:
        return ((s - t) ** 2).sum() / (t**2).sum().clamp_min(_EPSILON)
    if s.ndim != 4 or t.ndim != 4 or s.shape[0] != t.shape[0] or s.shape[2:] != t.shape[2:]:
        raise ModelError(f"tapped tensors of shapes {list(s.shape)} and {list(t.shape)} cannot be compared", where="taps")
    maps = [functional.normalize((m**2).mean(dim=1).flatten(1), dim=1) for m in (s, t)]
    return ((maps[0] - maps[1]) ** 2).sum(dim=1).mean()


def relations(student_ND: Any, teacher_ND: Any) -> Any:
    """How the samples of a batch lie to each other: distances and cosines.

    Distances are divided by their mean and compared by the Huber loss (RKD-D, Park 2019, eq. 5 to 7). The cosines between
    all samples stand in for the paper's angles, which take the cube of the batch.
    """
    s, t = _rows(student_ND.float()), _rows(teacher_ND.float())
    distances = functional.smooth_l1_loss(_distances(s), _distances(t))
    return distances + functional.mse_loss(_cosines(s), _cosines(t))


def _distances(x_ND: Any) -> Any:
    """Euclidean distances of all pairs, over their mean."""
    squares = (x_ND**2).sum(dim=1)
    products = x_ND @ x_ND.T
    apart = ~torch.eye(len(x_ND), dtype=torch.bool)
    squared = (squares[:, None] + squares[None, :] - 2 * products)[apart]
    distances = squared.clamp_min(_EPSILON).sqrt()
    return distances / distances.mean().clamp_min(_EPSILON)


def _cosines(x_ND: Any) -> Any:
    unit = functional.normalize(x_ND, dim=1)
    return unit @ unit.T


def cosine_match(student_ND: Any, teacher_ND: Any) -> Any:
    """``1 - cos(s, t)``, the mean over samples."""
    return 1 - functional.cosine_similarity(_rows(student_ND.float()), _rows(teacher_ND.float()), dim=1).mean()


def cross_entropy(logits_NC: Any, labels_N: Any, smoothing: float) -> Any:
    """Cross-entropy of integer labels, per row."""
    return functional.cross_entropy(logits_NC.float(), labels_N.long(), label_smoothing=smoothing, reduction="none")


def binary_cross_entropy(logits: Any, labels: Any) -> Any:
    """Cross-entropy of scores before a sigmoid, per sample."""
    losses = functional.binary_cross_entropy_with_logits(logits.float(), labels.float().reshape(logits.shape), reduction="none")
    return _rows(losses).mean(dim=1)


def error(y: Any, labels: Any, *, absolute: bool) -> Any:
    """Mean absolute or squared error, per sample."""
    difference = y.float() - labels.float().reshape(y.shape)
    return _rows(difference.abs() if absolute else difference**2).mean(dim=1)


def pair_error(y_ND: Any, labels_N: Any, low: float, high: float) -> Any:
    """``(cos(a, b) - label)²`` of each pair, labels brought from ``low .. high`` to 0 .. 1 (as Sentence-BERT trains on STS-B).

    Rows 0 and 1 are the first pair, rows 2 and 3 the second; both rows of a pair carry its label.
    """
    y = _rows(y_ND.float())
    cosine = functional.cosine_similarity(y[0::2], y[1::2], dim=1)
    return (cosine - (labels_N[0::2].float() - low) / max(high - low, _EPSILON)) ** 2


def _rows(x: Any) -> Any:
    """``[N, ...]`` as ``[N, D]``; one number per sample may come without an axis of its own."""
    return x.reshape(len(x), -1)
