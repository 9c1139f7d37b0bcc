"""Makes one job for each of three CIFAR-10 networks: ``python examples/cifar10/prepare.py``.

Reads the folder ``data`` of ``$DOVETAIL_SHARED``, or of ``../shared`` beside the repository: the images (Krizhevsky 2009),
ResNet-20 and ResNet-56 (akamaster/pytorch_resnet_cifar10, BSD-2) and MLPerf Tiny's ResNet-8 (Apache-2.0).

The two larger networks were trained on the training images and answer almost all of those right, so they can be trained on
but judge nothing. The test images judge: some select, the others certify.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

SELECT, CALIBRATE = 2_000, 512
"""Test images that select; training images that calibrate."""
_CHANNELS = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_SCALED = {"from": "x", "layout": "NHWC->NCHW", "scale": 1 / 255, **_CHANNELS}
_RAW = {"from": "x", "layout": "NHWC->NCHW", "dtype": "float32"}
NETWORKS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "resnet8": ("mlperf_tiny/resnet8_cifar10.onnx", _RAW),
    "resnet20": ("cifar10_resnets/resnet20_cifar10.onnx", _SCALED),
    "resnet56": ("cifar10_resnets/resnet56_cifar10.onnx", _SCALED),
}
"""Job → file, and how the bytes of an image become its input."""


def data_folder() -> Path:
    """Where images and networks lie.

    Raises:
        FileNotFoundError: nowhere.
    """
    root = Path(os.environ.get("DOVETAIL_SHARED", Path(__file__).resolve().parent / "../../../shared"))
    if not (root / "data").is_dir():
        raise FileNotFoundError(f"no data at {root / 'data'}; set DOVETAIL_SHARED")
    return (root / "data").resolve()


def write_parts(data: Path, out: Path, select: int = SELECT) -> None:
    """The images, uint8 ``[N, 32, 32, 3]``, as ``x`` and their classes as ``y``; one file for each use."""
    with np.load(data / "cifar10" / "cifar10_test.npz", allow_pickle=False) as test:
        _save(out / "select.npz", test, slice(select))
        _save(out / "certify.npz", test, slice(select, None))
    with np.load(data / "cifar10" / "cifar10_train_10k.npz", allow_pickle=False) as train:
        _save(out / "train.npz", train, slice(None))
        _save(out / "calibrate.npz", train, slice(CALIBRATE))


def _save(path: Path, images: Mapping[str, Any], rows: slice) -> None:
    np.savez(path, x=images["x"][rows], y=images["y"][rows])


def job(model: Path, steps: Mapping[str, Any]) -> str:
    """A job file's text; its data lie beside it."""
    keys = {
        "model": str(model),
        "data": {part: f"{part}.npz" for part in ("calibrate", "select", "certify")},
        "train": "train.npz",
        "metric": "accuracy",
        "max_drop": "1pp",
        "inputs": {"input": dict(steps)},
    }
    return yaml.safe_dump(keys, sort_keys=False)


def prepare(out: Path, select: int = SELECT) -> list[Path]:
    """Writes images and jobs; returns the jobs."""
    data = data_folder()
    out.mkdir(parents=True, exist_ok=True)
    write_parts(data, out, select)
    jobs = []
    for name, (file, steps) in NETWORKS.items():
        jobs.append(out / f"{name}.yaml")
        jobs[-1].write_text(job(data / file, steps), encoding="utf-8")
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "made", help="folder, 64 MB")
    for path in prepare(parser.parse_args().out):
        print(f"dovetail optimize --job {path} --train-budget 20m --budget 5m --out {path.with_suffix('.fit')}")


if __name__ == "__main__":
    main()
