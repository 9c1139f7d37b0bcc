"""A small U-Net (Ronneberger et al. 2015): what is pooled away on the way down comes back over shortcuts on the way up."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Double(nn.Sequential):
    """Two 3×3 convolutions with batch normalisation; x_NCHW in, the same height and width out."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(
            nn.Conv2d(inner, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(),
            nn.Conv2d(outer, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(),
        )  # fmt: skip


class UNet(nn.Module):
    """Pictures x_N1HW to class scores y_NCHW; height and width are multiples of 4.

    Args:
        classes: of pixels.
        width: channels at full size; they double with each of the two halvings.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.down1, self.down2 = Double(1, width), Double(width, 2 * width)
        self.bottom = Double(2 * width, 4 * width)
        self.up2, self.up1 = Double(6 * width, 2 * width), Double(3 * width, width)
        self.pool, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Each way up takes what it grew and what the same level had on the way down."""
        at_full = self.down1(x)
        at_half = self.down2(self.pool(at_full))
        deep = self.grow(self.bottom(self.pool(at_half)))
        deep = self.grow(self.up2(torch.cat([deep, at_half], dim=1)))
        scores: Tensor = self.head(self.up1(torch.cat([deep, at_full], dim=1)))
        return scores
