"""Training throughput against a loop written by hand in torch: ``python benchmarks/training.py``.

Both train the CIFAR-10 ResNet-20 on the same 32 × 32 images with the same work per step: crop and mirror, forward, backward,
SGD with Nesterov momentum and weight decay. The hand-written side is a plain ``nn.Module`` with its loop; ours starts from the
ONNX file and adds what a training needs: held-out samples, averages of weights, checkpoints. Blocks of either alternate in
one process. Appends one row to ``benchmarks/results/training.jsonl``.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rows
import torch
from samples import data_folder
from torch import Tensor, nn
from torch.nn import functional

from dovetail.core.protocols import Array, Model, TensorSpec
from dovetail.core.training import Objective, Schedule
from dovetail.data.dataset import StoredDataset, write_split
from dovetail.devices.probe import environment
from dovetail.measure.lock import measuring
from dovetail.train.trainer import GraphTrainer

DATA = data_folder()
PROMISED = 0.9
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
NETWORK = "cifar10_resnets/resnet20_cifar10"


class Block(nn.Module):
    """Two convolutions with a shortcut: option A of He et al. (2015), strided and filled up with zero channels."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer)
        self.conv2, self.bn2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer)
        self.stride, self.more = stride, (outer - inner) // 2

    def forward(self, x: Tensor) -> Tensor:
        """x_NCHW to y_NCHW."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.more:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.more, self.more))
        return torch.relu(x + y)


class ResNet20(nn.Module):
    """The network of the ONNX file, with the names of its state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean(dim=(2, 3)))


def by_hand(images: Array, labels: Array, batch: int, low: bool) -> float:
    """Seconds of one epoch of a plain loop."""
    torch.manual_seed(0)
    net = ResNet20().to(memory_format=torch.channels_last).train()
    state = torch.load(DATA / f"{NETWORK}_state_dict.pt", weights_only=True)
    net.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    x_all, y_all = torch.from_numpy(images), torch.from_numpy(labels)
    order = torch.randperm(len(images))
    started = time.perf_counter()
    for at in range(0, len(order) - batch + 1, batch):
        chosen = order[at : at + batch]
        x = _cropped(x_all[chosen]).contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            y = net(x)
        functional.cross_entropy(y.float(), y_all[chosen]).backward()
        optimizer.step()
    return time.perf_counter() - started


def _cropped(x: Tensor) -> Tensor:
    """Shift by up to 4 pixels and mirror, image by image, as data loaders do."""
    padded = functional.pad(x, (4, 4, 4, 4))
    places = torch.randint(0, 9, (len(x), 2)).tolist()
    mirrored = torch.rand(len(x)).tolist()
    pieces = []
    for image, (top, left), chance in zip(padded, places, mirrored, strict=True):
        piece = image[:, top : top + 32, left : left + 32]
        pieces.append(piece.flip(2) if chance < 0.5 else piece)
    return torch.stack(pieces)


def ours(data: StoredDataset, folder: Path, batch: int, threads: int, precision: str) -> Callable[[], float]:
    """A function that trains one epoch and returns its seconds."""
    schedule = Schedule(
        epochs=1, batch=batch, learning_rate=0.01, weight_decay=5e-4, augment="images", ema=0.999, hold_out=0.0,
        precision=precision,
    )  # fmt: skip
    runs = iter(range(1_000_000))

    def epoch() -> float:
        number = next(runs)
        trainer = GraphTrainer(data, state=folder / f"state{number}", threads=threads, environment=environment())
        trained = trainer.fit(
            Model(path=DATA / f"{NETWORK}.onnx"),
            out=folder / "model.onnx",
            objective=Objective(task="classification"),
            schedule=schedule,
        )
        return len(data) // batch * batch / trained.samples_per_s

    return epoch


def stored(folder: Path, count: int) -> tuple[StoredDataset, Array, Array]:
    """The first training images, as a split on disk and in memory."""
    file = np.load(DATA / "cifar10/cifar10_train_10k.npz")
    images = ((file["x"][:count].astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    images, labels = np.ascontiguousarray(images, np.float32), file["y"][:count].astype(np.int64)
    spec = TensorSpec(name="input", dtype="float32", shape=("n", 3, 32, 32))
    samples = (({"input": image[None]}, i, label) for i, (image, label) in enumerate(zip(images, labels, strict=True)))
    return write_split(folder / "train", samples, [spec]), images, labels


def main() -> None:
    """Times both in turns and files the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="print, but file nothing and wait for nobody")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    count = options.images // options.batch * options.batch
    lock = contextlib.nullcontext() if options.dry else measuring(print)
    with lock, tempfile.TemporaryDirectory() as folder:
        data, images, labels = stored(Path(folder), count)
        figures: dict[str, Any] = {}
        for precision in ("float32", "bfloat16"):
            epoch = ours(data, Path(folder), options.batch, options.threads, precision)
            theirs_s, ours_s = [], []
            for _ in range(options.rounds + 1):
                theirs_s.append(by_hand(images, labels, options.batch, precision == "bfloat16"))
                ours_s.append(epoch())
            ratios = [a / b for a, b in zip(theirs_s[1:], ours_s[1:], strict=True)]
            figures[precision] = {
                "by_hand_samples_per_s": count / statistics.median(theirs_s[1:]),
                "ours_samples_per_s": count / statistics.median(ours_s[1:]),
                "throughput_ratio": statistics.median(ratios),
                "ratios": ratios,
            }
            print(precision, figures[precision])
    if not options.dry:
        rows.append("training", {"model": "resnet20", "promised": PROMISED, **vars(options)}, figures)


if __name__ == "__main__":
    main()
