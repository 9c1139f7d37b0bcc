"""Draws the pictures, trains the U-Net on them and exports it: ``python examples/segmentation/make.py``.

Writes ``train.npz``, ``select.npz``, ``certify.npz`` and ``unet.onnx`` into the folder ``made`` beside this file. Needs torch.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapes
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

Array = NDArray[Any]
COUNTS = {"train": 2000, "select": 1000, "certify": 2000}
"""Pictures of each part; every part has a seed of its own."""
WIDTH, EPOCHS, BATCH, PEAK_RATE = 16, 5, 32, 6e-3


def write_parts(folder: Path, counts: dict[str, int]) -> None:
    """The pictures as ``picture`` and ``mask``."""
    for seed, (part, count) in enumerate(counts.items()):
        pictures, masks = shapes.draw(count, seed)
        np.savez_compressed(folder / f"{part}.npz", picture=pictures, mask=masks)


def train(pictures: Array, masks: Array, *, epochs: int, width: int) -> nn.Module:
    """One-cycle training on a single thread, mirrored at random."""
    import torch
    from torch.nn import functional
    from unet import UNet

    torch.manual_seed(0)
    torch.set_num_threads(1)
    x, y = torch.from_numpy(pictures), torch.from_numpy(masks)
    net = UNet(len(shapes.CLASSES), width).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    steps = epochs * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=PEAK_RATE, total_steps=steps)
    for epoch in range(epochs):
        started, total = time.perf_counter(), 0.0
        for rows in torch.randperm(len(x)).split(BATCH):
            axes = [axis for axis in (-1, -2) if torch.rand(()) < 0.5]
            loss = functional.cross_entropy(net(x[rows].flip(axes)), y[rows].flip(axes))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * len(rows)
        print(f"epoch {epoch + 1}/{epochs}: loss {total / len(x):.3f}, {time.perf_counter() - started:.0f} s")
    return net.eval()


def export(net: nn.Module, path: Path) -> None:
    """ONNX with an open batch: ``picture`` in, ``scores`` out."""
    import torch

    example = torch.zeros(2, 1, shapes.SIDE, shapes.SIDE)
    batch = {0: torch.export.Dim("N", min=1, max=4096)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            net, (example,), input_names=["picture"], output_names=["scores"], dynamic_shapes={"x": batch}, dynamo=True,
            verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(str(path), external_data=False)


def make(folder: Path, counts: dict[str, int], *, epochs: int = EPOCHS, width: int = WIDTH) -> None:
    """Everything, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_parts(folder, counts)
    with np.load(folder / "train.npz") as file:
        net = train(file["picture"], file["mask"], epochs=epochs, width=width)
    export(net, folder / "unet.onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "made")
    make(parser.parse_args().out, COUNTS)


if __name__ == "__main__":
    main()
