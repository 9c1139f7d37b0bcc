"""What was learned from a calibration is kept, and tells the same when it is read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dovetail.core.calibration import Calibration, Trace
from dovetail.core.errors import InputError
from dovetail.core.profile import KernelTime
from dovetail.devices.probe import environment
from dovetail.pipeline import calibrate
from dovetail.pipeline import learned as learned_module
from dovetail.pipeline.learned import learned
from dovetail.predict.machine_model import MachineModel


def network(rng: np.random.Generator) -> tuple[KernelTime, ...]:
    """Convolutions whose time is a sum of what they compute and move."""
    found = []
    for index in range(6):
        channels, size = int(rng.choice([8, 16, 32, 64])), int(rng.choice([7, 14, 28, 56]))
        shape = (1, channels, size, size)
        flop = 2.0 * channels * channels * 9 * size * size
        kernel = KernelTime(
            name=f"c{index}", kind="Conv", dtype="float32", inputs=(shape, (channels, channels, 3, 3)), outputs=(shape,),
            time_s=float(1e-6 + flop / 5e10) * float(np.exp(0.03 * rng.standard_normal())),
        )  # fmt: skip
        found.append(kernel)
    return tuple(found)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    rng = np.random.default_rng(3)
    traces = []
    for index in range(30):
        kernels = network(rng)
        traces.append(
            Trace(
                network=f"n{index}", kind="k", form="float", runtime="onnxruntime", options={"threads": 1}, threads=1,
                call_s=2e-6 + sum(kernel.time_s for kernel in kernels), kernels=kernels,
            )
        )  # fmt: skip
    return Calibration(environment=environment(), date="2026-01-01", traces=tuple(traces))


def test_what_is_read_again_tells_the_same(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    calibrate.save(calibration, path)
    first, second = learned(path, tmp_path / "cache"), learned(path, tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("learned-*.json"))) == 1
    kernels = network(np.random.default_rng(8))
    told = [MachineModel(found).built("onnxruntime", 1, kernels) for found in (first, second)]
    assert told[0] == told[1]
    assert first.best_rates == second.best_rates and second.calibration == first.calibration


def test_another_calibration_under_the_same_name_is_learned_anew(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    calibrate.save(calibration, path)
    assert learned(path, tmp_path).calls
    calibrate.save(Calibration(environment=environment(), date="2026-02-02", traces=()), path)
    found = learned(path, tmp_path)
    assert not found.calls and found.calibration.date == "2026-02-02"


@pytest.mark.parametrize("content", ["", "{}", '{"schema": 1}', "[]"])
def test_what_was_kept_and_is_broken_is_learned_again(calibration: Calibration, tmp_path: Path, content: str) -> None:
    path = tmp_path / "board.json"
    calibrate.save(calibration, path)
    learned(path, tmp_path)
    (kept,) = tmp_path.glob("learned-*.json")
    kept.write_text(content)
    assert learned(path, tmp_path).calls
    assert json.loads(kept.read_text())["calls"]


def test_only_the_latest_are_kept(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    for day in range(1, learned_module.KEPT + 3):
        calibrate.save(Calibration(environment=environment(), date=f"2026-01-0{day}", traces=()), path)
        learned(path, tmp_path)
    assert len(list(tmp_path.glob("learned-*.json"))) == learned_module.KEPT


def test_a_folder_that_cannot_be_written_only_costs_time(calibration: Calibration, tmp_path: Path) -> None:
    path, blocked = tmp_path / "board.json", tmp_path / "file"
    calibrate.save(calibration, path)
    blocked.write_text("")
    assert learned(path, blocked / "cache").calls


def test_no_calibration_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no calibration"):
        learned(tmp_path / "absent.json", tmp_path)
