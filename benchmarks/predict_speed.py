"""How many predictions a second: ``python benchmarks/predict_speed.py``.

Analysed models of the shared data against every device of the catalogue, without calibration: as arrays, as arrays in 16 bits
and large batches, where fitted models tell the GPUs, and with a full :class:`~dovetail.core.prediction.Prediction` of each
pair. Promised: at least 10,000 pairs a second as arrays. Appends a row to ``benchmarks/results/predict_speed.jsonl``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import rows

from dovetail.core import units
from dovetail.devices.catalogue import catalogue
from dovetail.predict.op_table import OpTable, op_table
from dovetail.predict.predict import predict_many
from dovetail.predict.setting import Setting
from dovetail.workloads.analyze import analyze

SHARED = Path(os.environ.get("DOVETAIL_SHARED", Path(__file__).resolve().parents[2] / "shared"))
MODELS = (
    "data/mlperf_tiny/resnet8_cifar10.onnx",
    "data/mlperf_tiny/ad_toycar_autoencoder.onnx",
    "data/cifar10_resnets/resnet56_cifar10.onnx",
    "data/onnx_models/super_resolution_x3_espcn.onnx",
)
PROMISED_PER_S = 10_000
ROUNDS = 15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="times that all pairs are predicted (default: %(default)s)")
    options = parser.parse_args()
    devices = list(catalogue().values())
    tables = {Path(name).stem: op_table(analyze(SHARED / name)) for name in MODELS}

    def arrays(table: OpTable) -> None:
        predict_many(table, devices)

    def fitted(table: OpTable) -> None:
        predict_many(table, devices, Setting(precision="fp16", batch=256))

    def whole(table: OpTable) -> None:
        found = predict_many(table, devices)
        for i in range(len(devices)):
            found.at(i)

    figures = {
        "devices": len(devices),
        "operators": {name: len(table.names) for name, table in tables.items()},
        "arrays_per_s": _per_second(arrays, list(tables.values()), len(devices), options.rounds),
        "fitted_arrays_per_s": _per_second(fitted, list(tables.values()), len(devices), options.rounds),
        "predictions_per_s": _per_second(whole, list(tables.values()), len(devices), options.rounds),
    }
    rows.append("predict_speed", {"model": "all", "models": list(tables), "rounds": options.rounds}, figures)
    for name in ("arrays_per_s", "fitted_arrays_per_s", "predictions_per_s"):
        print(f"{name}: {units.count(figures[name])} pairs")
    return 0 if min(figures["arrays_per_s"], figures["fitted_arrays_per_s"]) >= PROMISED_PER_S else 1


def _per_second(step: Callable[[OpTable], None], tables: list[OpTable], n_devices: int, rounds: int) -> float:
    """Pairs a second in the median round, after one that loads what is loaded once."""
    taken = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        for table in tables:
            step(table)
        taken.append(time.perf_counter() - started)
    return len(tables) * n_devices / statistics.median(taken[1:])


if __name__ == "__main__":
    sys.exit(main())
