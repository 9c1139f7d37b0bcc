"""How many samples a call has: as the model, its shapes or ``--batch`` say, and never two of them differently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from dovetail.core.calibration import Calibration, Trace
from dovetail.core.constraint import Answer
from dovetail.core.errors import InputError
from dovetail.core.profile import KernelTime
from dovetail.devices.probe import environment
from dovetail.pipeline.at_batch import analyzed_at
from dovetail.pipeline.predicting import _needs, calibrated_device, predict_on
from dovetail.predict.machine_model import learn
from dovetail.predict.op_table import op_table


def relu(path: Path, *leading: int | str) -> Path:
    """Sums as many inputs of 64 elements as there are leading sizes, the first of which goes on."""
    inputs = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, [size, 64]) for i, size in enumerate(leading)]
    nodes = [helper.make_node("Relu", ["x0"], ["y"])]
    nodes += [helper.make_node("Relu", [f"x{i}"], [f"z{i}"]) for i in range(1, len(leading))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [leading[0], 64])]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, path)
    return path


def test_the_model_or_its_shapes_say_how_many_samples_a_call_has(tmp_path: Path) -> None:
    fixed, free = relu(tmp_path / "fixed.onnx", 8), relu(tmp_path / "free.onnx", "n")
    assert analyzed_at(fixed, {}).batch == 8 and analyzed_at(free, {}).batch == 1
    assert analyzed_at(free, {"x0": [4, 64]}).batch == analyzed_at(free, {"x0": [4, 64]}, 4).batch == 4
    assert analyzed_at(free, {}, 4).input_shapes == {"x0": (4, 64)} and analyzed_at(fixed, {}, 8).batch == 8


def test_inputs_whose_leading_size_is_fixed_stay_as_they_are(tmp_path: Path) -> None:
    found = analyzed_at(relu(tmp_path / "two.onnx", "n", 3), {}, 4)
    assert found.input_shapes == {"x0": (4, 64), "x1": (3, 64)}


def test_two_different_numbers_of_samples_are_refused(tmp_path: Path) -> None:
    fixed, free = relu(tmp_path / "fixed.onnx", 8), relu(tmp_path / "free.onnx", "n")
    with pytest.raises(InputError, match="--batch 4 and --shape x0=1,64 contradict"):
        analyzed_at(free, {"x0": [1, 64]}, 4)
    with pytest.raises(InputError, match="takes 8 samples a call, not 4"):
        analyzed_at(fixed, {}, 4)
    with pytest.raises(InputError, match="one sample at least"):
        analyzed_at(free, {}, 0)


def test_the_rate_counts_the_samples_of_a_call(tmp_path: Path) -> None:
    found = predict_on(relu(tmp_path / "fixed.onnx", 8), "A100 SXM 80GB", None, {})
    assert found.batch == 8 and found.throughput_per_s is not None and found.latency_s is not None
    assert found.throughput_per_s.value == pytest.approx(8 / found.latency_s.value)


def test_what_a_model_takes_of_a_calibrated_machine_is_told_wherever_that_stands(tmp_path: Path) -> None:
    shape = (1, 64, 56, 56)
    kernel = KernelTime(name="c", kind="Conv", dtype="float32", inputs=(shape, (64, 64, 3, 3)), outputs=(shape,), time_s=1e-3)
    trace = Trace(
        network="a", kind="a", form="float", runtime="litert", options={"threads": 1}, threads=1, call_s=1e-3, kernels=(kernel,)
    )
    board = replace(environment(), cpu="a board", memory_bytes=4e9, fingerprint="elsewhere")
    made = Calibration(environment=board, date="2026-01-01", traces=(trace,), rates={"memory_bytes_per_s": 1e10})
    device = calibrated_device(learn(made))
    assert device.peak_flop_per_s["fp32"].value == pytest.approx(2 * 64 * 56 * 56 * 64 * 9 / 1e-3)
    table = op_table(analyzed_at(relu(tmp_path / "model.onnx", "n"), {}, 4))
    found = _needs(table, device, "float", 4)
    assert found.device == "a board" and found.fits is Answer.YES and "4 GB" in found.fits_reason
    assert found.memory_bytes is not None and found.binds is not None and found.latency_s is found.energy_j is None
    assert any("power is not known" in note for note in found.notes)
