"""Two small networks for handwritten digits, as ``dovetail`` takes them: ``networks.py:cnn`` and ``networks.py:mlp``."""

from __future__ import annotations

import torch
from torch import nn


def cnn() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Convolution 32, pool, convolution 64, pool, dense 64, dense 10; takes ``[N, 1, 28, 28]`` in 0..1."""
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 5 * 5, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    return network, (torch.zeros(1, 1, 28, 28),)


def mlp() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Dense 64, dense 10; takes ``[N, 1, 28, 28]`` in 0..1."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    return network, (torch.zeros(1, 1, 28, 28),)
