"""Trains a small network with checkpoints, slowly, until it is done or killed: `python loop_in_process.py FOLDER PAUSE_S`."""

import sys
import time
from pathlib import Path

import loop_samples
import torch

from dovetail.train.checkpoint import Checkpoints

folder, pause = Path(sys.argv[1]), float(sys.argv[2])
torch.set_num_threads(1)


def tell(fraction: float, text: str) -> None:
    print(fraction, text, flush=True)
    time.sleep(pause)


network, _ = loop_samples.trained(checkpoints=Checkpoints(folder, "same", every_s=0.05), progress=tell, ema=0.9)
torch.save(loop_samples.weights(network), folder / "weights.pt")
