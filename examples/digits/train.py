"""Trains the demo's network on the handwritten digits that scikit-learn carries, and writes `digits.onnx` and `digits.npz`.

    pip install torch onnxscript scikit-learn
    python examples/digits/train.py

The digits (Alpaydin & Kaynak 1998, UCI repository, CC BY 4.0) are 1,797 grey images of 8x8 pixels with values 0..16. They are
enlarged to 16x16. The network learns from 797 of them; the other 1,000 go into `digits.npz` and are never trained on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
WIDTH, EPOCHS, BATCH, HELD_OUT = 64, 40, 64, 1000


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut; x_NCHW in, the same shape out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(x + self.bn2(self.conv2(y)))


class DigitNet(nn.Module):
    """x_N1HW (16x16, values 0..1) to ten logits; about 76 MFLOP an image."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean(dim=(2, 3)))


def images() -> tuple[torch.Tensor, np.ndarray]:
    """All digits as x_N1HW float32 of 16x16 in 0..1, with their labels."""
    digits = load_digits()
    x = torch.from_numpy(digits.images.astype(np.float32) / 16.0)[:, None]
    return functional.interpolate(x, size=(16, 16), mode="bilinear", align_corners=False), digits.target.astype(np.int64)


def train(x: torch.Tensor, y: torch.Tensor) -> DigitNet:
    """One-cycle training with shifts of up to two pixels as augmentation."""
    net = DigitNet()
    steps = EPOCHS * -(-len(x) // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=5e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        net.train()
        for rows in torch.randperm(len(x)).split(BATCH):
            dy, dx = (int(v) for v in torch.randint(-2, 3, (2,)))
            batch = torch.roll(x[rows], (dy, dx), (2, 3))
            loss = functional.cross_entropy(net(batch), y[rows], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {loss.item():.3f}")
    return net.eval()


def main() -> None:
    """Trains, scores the held-out images, and writes both files."""
    torch.manual_seed(0)
    x, y = images()
    rows = np.arange(len(y))
    learn, held = train_test_split(rows, test_size=HELD_OUT, random_state=0, stratify=y)
    net = train(x[learn], torch.from_numpy(y[learn]))
    with torch.no_grad():
        accuracy = float((net(x[held]).argmax(1).numpy() == y[held]).mean())
    print(f"held-out accuracy {accuracy:.2%} on {len(held)} images")
    shapes = {"image": {0: torch.export.Dim("N", min=1, max=4096)}}
    program = torch.onnx.export(
        net, (x[:2],), input_names=["image"], output_names=["logits"], dynamic_shapes={"x": shapes["image"]}, dynamo=True
    )
    program.save(str(HERE / "digits.onnx"), external_data=False)
    np.savez_compressed(HERE / "digits.npz", image=x[held].numpy(), label=y[held])


if __name__ == "__main__":
    main()
