"""MobileNetV2 as an ONNX graph with random weights: a network to time, not to judge (Sandler et al. 2018, table 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SIDE, CLASSES = 224, 1000
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repetitions and first stride of each stage."""
SAMPLES = 300


def layer(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, bounded: bool = True) -> nn.Sequential:
    """Convolution, batch norm and, where ``bounded``, ReLU6."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), *([nn.ReLU6()] if bounded else []))


class Inverted(nn.Module):
    """Inverted residual: widen, convolve each channel alone, narrow; x_NCHW to y_NCHW."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        wider = [layer(inputs, inner)] if expansion > 1 else []
        self.path = nn.Sequential(
            *wider, layer(inner, inner, 3, stride, groups=inner), layer(inner, outputs, bounded=False)
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Its path, beside a shortcut where the shape stays."""
        y_NCHW: Tensor = self.path(x_NCHW)
        return x_NCHW + y_NCHW if self.shortcut else y_NCHW


def network(seed: int = 0) -> nn.Sequential:
    """The whole network; batch norms have seen noise, so that activations keep a usual size."""
    torch.manual_seed(seed)
    parts: list[nn.Module] = [layer(3, 32, 3, 2)]
    channels = 32
    for expansion, outputs, repetitions, first in BLOCKS:
        for number in range(repetitions):
            parts.append(Inverted(channels, outputs, first if number == 0 else 1, expansion))
            channels = outputs
    parts += [layer(channels, 1280), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, CLASSES)]
    net = nn.Sequential(*parts)
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = None  # an average over all that it sees
    with torch.no_grad():
        for _ in range(2):
            net(torch.randn(8, 3, SIDE, SIDE))
    return net.eval()


def export(path: Path) -> Path:
    """Writes the ONNX file with a batch of one; returns ``path``."""
    program = torch.onnx.export(
        network(), (torch.zeros(1, 3, SIDE, SIDE),), input_names=["input"], output_names=["logits"], dynamo=True, verbose=False
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    program.save(str(partial), external_data=False)
    partial.replace(path)
    return path


def noise(count: int = SAMPLES) -> Iterator[tuple[Mapping[str, NDArray[Any]], int, None]]:
    """Images of noise, each its own group, without labels."""
    random = np.random.default_rng(0)
    for number in range(count):
        yield {"input": random.standard_normal((1, 3, SIDE, SIDE), dtype=np.float32)}, number, None
