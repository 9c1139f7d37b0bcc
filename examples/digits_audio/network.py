"""A small network for spoken digits, as ``dovetail`` takes it: ``network.py:cnn``."""

from __future__ import annotations

import torch
from torch import nn

BANDS, FRAMES = 40, 64
"""Of the spectra in ``data.py``."""


def cnn() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Four convolutions, each followed by pooling, and the mean over what is left; takes ``[N, 1, 40, 64]``."""
    layers: list[nn.Module] = []
    for inner, outer in ((1, 32), (32, 48), (48, 64), (64, 96)):
        layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10)), (torch.zeros(1, 1, BANDS, FRAMES),)
