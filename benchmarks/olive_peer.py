"""Olive's static quantisation of one model, in Olive's own environment: ``OLIVE_PYTHON olive_peer.py MODEL CALIBRATION OUT``.

CALIBRATION is a folder of ``.npz`` files, one sample each. Imports nothing of Dovetail, and is its own user script for Olive.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["OLIVE_DISABLE_TELEMETRY"] = "1"

import numpy as np
from olive.data.registry import Registry


class Samples:
    """Feeds of one call each, as Olive's calibration wants them: with a label that nobody reads."""

    def __init__(self, folder: str) -> None:
        self.paths = sorted(Path(folder).glob("*.npz"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[dict[str, Any], int]:
        with np.load(self.paths[index], allow_pickle=False) as file:
            return {name: file[name] for name in file.files}, 0


@Registry.register_dataset()
def stored_samples(folder: str, **_: Any) -> Samples:
    return Samples(folder)


def main() -> None:
    import olive

    model, calibration, out = sys.argv[1:]
    data = {
        "name": "calibration",
        "type": "DataContainer",
        "user_script": str(Path(__file__).resolve()),
        "load_dataset_config": {"type": "stored_samples", "params": {"folder": calibration}},
        "dataloader_config": {"type": "no_auto_batch_dataloader"},
    }
    olive.run(
        {
            "input_model": {"type": "OnnxModel", "model_path": model},
            "systems": {
                "here": {
                    "type": "LocalSystem",
                    "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}],
                }
            },
            "data_configs": [data],
            "passes": {"quantise": {"type": "OnnxStaticQuantization", "data_config": "calibration"}},
            "target": "here",
            "host": "here",
            "output_dir": out,
            "cache_dir": str(Path(out) / "cache"),
            "evaluate_input_model": False,
        }
    )


if __name__ == "__main__":
    main()
