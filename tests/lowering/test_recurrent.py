"""Recurrent layers as unrolled steps, and the front-ends of audio models."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from written import agreeing, lowered, model, node, numbers

from dovetail.core.errors import ModelError
from dovetail.lowering.lower import lower

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
SIZE, HIDDEN = 5, 4


def layer(
    op: str, steps: int, batch: int, directions: int, initial: bool, bias: bool
) -> tuple[str, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Names of inputs, feeds and constants of a layer."""
    rows = GATES[op] * HIDDEN
    feeds = {"x": numbers(steps, batch, SIZE)}
    constants = {"w": numbers(directions, rows, SIZE), "r": numbers(directions, rows, HIDDEN, seed=1)}
    names = ["x", "w", "r", "-", "-"]
    if bias:
        constants["b"], names[3] = numbers(directions, 2 * rows, seed=2), "b"
    for name in (["h", "c"] if op == "LSTM" else ["h"]) if initial else ():
        feeds[name] = numbers(directions, batch, HIDDEN, seed=3)
        names.append(name)
    return " ".join(names), feeds, constants


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("op", "extra"), [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("RNN", {})])
@pytest.mark.parametrize(("steps", "batch", "initial", "bias"), [(1, 1, True, True), (7, 2, False, True), (3, 2, True, False)])
def test_recurrent_layers_agree(
    op: str, extra: dict[str, Any], direction: str, steps: int, batch: int, initial: bool, bias: bool, tmp_path: Path
) -> None:
    directions = 2 if direction == "bidirectional" else 1
    inputs, feeds, constants = layer(op, steps, batch, directions, initial, bias)
    outputs = "y yh yc" if op == "LSTM" else "y yh"
    made = node(op, inputs, outputs, hidden_size=HIDDEN, direction=direction, **extra)
    kinds, _ = agreeing(model([made], feeds, outputs, constants), feeds, tmp_path)
    assert kinds["SPLIT"] == (0 if op == "RNN" else steps * directions)


@pytest.mark.parametrize("op", GATES)
def test_batch_first_layers_agree_with_the_standard(op: str, tmp_path: Path) -> None:
    _, feeds, constants = layer(op, 3, 2, 1, False, True)  # three sequences of two steps
    made = node(op, "x w r b", "y yh", hidden_size=HIDDEN, layout=1)
    proto = model([made], feeds, "y yh", constants)
    want = dict(zip(("y", "yh"), ReferenceEvaluator(proto).run(None, feeds), strict=True))
    agreeing(proto, feeds, tmp_path, want)


def test_other_activations_and_full_lengths(tmp_path: Path) -> None:
    inputs, feeds, constants = layer("RNN", 3, 2, 1, False, True)
    made = node("RNN", inputs.replace("b -", "b n"), "y", hidden_size=HIDDEN, activations=["Relu"])
    agreeing(model([made], feeds, "y", {**constants, "n": np.array([3, 3], np.int32)}), feeds, tmp_path)


@pytest.mark.parametrize(
    ("steps", "lengths", "attributes", "message"),
    [
        (3, [3, 2], {}, "other lengths than 3"),
        (3, [3, 3], {"clip": 1.0}, "clips its gates"),
        (3, [3, 3], {"activations": ["Elu"]}, "Elu"),
        (513, [513, 513], {}, "513 steps"),
    ],
)
def test_what_no_unrolling_expresses_is_refused(
    steps: int, lengths: list[int], attributes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    _, feeds, constants = layer("RNN", steps, 2, 1, False, True)
    made = node("RNN", "x w r b n", "y", hidden_size=HIDDEN, **attributes)
    with pytest.raises(ModelError, match=message):
        lowered(model([made], feeds, "y", {**constants, "n": np.array(lengths, np.int32)}), tmp_path)


def test_peepholes_are_refused_unless_they_are_zero(tmp_path: Path) -> None:
    _, feeds, constants = layer("LSTM", 2, 1, 1, False, True)
    made = node("LSTM", "x w r b - - - p", "y", hidden_size=HIDDEN)
    agreeing(model([made], feeds, "y", {**constants, "p": np.zeros((1, 3 * HIDDEN), np.float32)}), feeds, tmp_path)
    with pytest.raises(ModelError, match="peepholes"):
        lowered(model([made], feeds, "y", {**constants, "p": numbers(1, 3 * HIDDEN)}), tmp_path)


@pytest.mark.torch
@pytest.mark.parametrize("kind", GATES)
def test_stacked_layers_of_torch_move_only_at_the_border(kind: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layers = getattr(torch.nn, kind)(10, 12, num_layers=2, bidirectional=True, batch_first=True)
            self.head = torch.nn.Linear(24, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.layers(x)[0])

    feeds = {"x": numbers(2, 9, 10)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        example = (torch.tensor(feeds["x"]),)
        torch.onnx.export(Net().eval(), example, tmp_path / "net.onnx", dynamo=False, opset_version=17, input_names=["x"])
    kinds, _ = agreeing(onnx.load(tmp_path / "net.onnx"), feeds, tmp_path)
    assert kinds["TRANSPOSE"] == 2


def test_voice_activity_network_keeps_its_state(shared_data: Path, tmp_path: Path) -> None:
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    path = shared_data / "onnx_models" / "silero_vad_16k_op15.onnx"
    report = lower(path, tmp_path / "model.tflite", {"batch": 1, "sequence": 576, "input:1": 576})
    assert report.operators.count("CONV_2D") == 6 and "TRANSPOSE" not in report.operators
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    run = Interpreter(model_path=str(tmp_path / "model.tflite"), num_threads=1).get_signature_runner("serving_default")
    feeds = {"state": np.zeros((2, 1, 128), np.float32), "sr": np.array(16000)}
    for number in range(5):
        feeds["input"] = 0.1 * numbers(1, 576, seed=number)
        want, got = session.run(["output", "stateN"], feeds), run(**feeds)
        for name, value in zip(("output", "stateN"), want, strict=True):
            assert np.abs(value - got[name]).max() < 1e-4 * np.abs(value).max()
        feeds["state"] = want[1]


# -- front-ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("onesided", "inverse", "parts"), [(0, 0, 1), (0, 0, 2), (0, 1, 2), (1, 0, 1)])
def test_fourier_transforms_of_fixed_length_are_products(onesided: int, inverse: int, parts: int, tmp_path: Path) -> None:
    feeds = {"x": numbers(2, 10, 3, parts)}
    made = node("DFT", "x - axis", "y", onesided=onesided, inverse=inverse)
    kinds, _ = agreeing(model([made], feeds, "y", {"axis": np.array(1)}), feeds, tmp_path)
    assert kinds["FULLY_CONNECTED"] == 1


def test_log_mel_front_end_is_a_convolution_and_a_layer(tmp_path: Path) -> None:
    feeds = {"x": numbers(1, 4000)}
    constants = {
        "step": np.array(160), "window": np.hanning(400).astype(np.float32), "two": np.float32(2), "last": np.array([-1]),
        "bins": np.array(40), "length": np.array(400), "rate": np.array(16000), "low": np.float32(20), "high": np.float32(8000),
        "floor": np.float32(1e-6),
    }  # fmt: skip
    nodes = [
        node("STFT", "x step window", "s", onesided=1), node("Pow", "s two", "p"), node("ReduceSum", "p last", "e", keepdims=0),
        node("MelWeightMatrix", "bins length rate low high", "mel"), node("MatMul", "e mel", "m"), node("Max", "m floor", "f"),
        node("Log", "f", "y"),
    ]  # fmt: skip
    # In double precision: ONNX Runtime's own transform is off by 3e-5, which the logarithm of small energies magnifies.
    frames = np.lib.stride_tricks.sliding_window_view(feeds["x"].astype(np.float64), 400, axis=1)[:, ::160]
    energy = np.abs(np.fft.rfft(frames * constants["window"].astype(np.float64))) ** 2
    filters = ReferenceEvaluator(nodes[3]).run(None, constants)[0]
    want = np.log(np.maximum(energy @ filters.astype(np.float64), 1e-6)).astype(np.float32)
    kinds, _ = agreeing(model(nodes, feeds, "y", constants), feeds, tmp_path, {"y": want})
    assert kinds["CONV_2D"] == kinds["FULLY_CONNECTED"] == 1 and kinds["TRANSPOSE"] == 0
