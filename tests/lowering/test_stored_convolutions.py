"""Weights of float convolutions stay in the bytes that the model stores them in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pairs import pair, weights
from written import agreeing, lowered, model, node, numbers

CHANNELS = 24
KINDS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((CHANNELS, CHANNELS, 3, 3), (1, CHANNELS, 9, 7), {"pads": (1, 1, 1, 1), "strides": (2, 1)}),
    "pointwise": ((96, 96, 1, 1), (2, 96, 5, 4), {}),
    "line": ((CHANNELS, CHANNELS, 5), (2, CHANNELS, 20), {"dilations": (2,)}),
    "grouped": ((48, 12, 3, 3), (1, CHANNELS, 9, 7), {"group": 2}),
    "depthwise": ((160, 1, 3, 3), (1, 160, 9, 7), {"group": 160}),
    "multiplied": ((160, 1, 3, 3), (1, 80, 9, 7), {"group": 80}),
    "transposed": ((CHANNELS, CHANNELS, 3, 3), (1, CHANNELS, 5, 6), {"strides": (2, 2)}),
    "transposed groups": ((CHANNELS, 12, 3, 3), (1, CHANNELS, 5, 6), {"group": 2}),
    "volume": ((CHANNELS, CHANNELS, 3, 3, 3), (1, CHANNELS, 5, 6, 4), {}),
}
"""Kind → shapes of weights and input, attributes."""
UNPACKED_LATE = {"volume"}
"""Kinds that XNNPACK has no operator for, whose weights become single precision."""


def convolution(kind: str, storage: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray], int]:
    shape, x, attributes = KINDS[kind]
    transposed = kind.startswith("transposed")
    outputs = shape[1] * attributes.get("group", 1) if transposed else shape[0]
    constants: dict[str, Any] = {"b": numbers(outputs)}
    nodes = [
        weights(numbers(*shape) / 8, 1 if transposed else 0, constants, storage),
        node("ConvTranspose" if transposed else "Conv", "x w b", "y", **attributes),
    ]
    feeds = {"x": numbers(*x)}
    return model(nodes, feeds, "y", constants), feeds, int(np.prod(shape))


@pytest.mark.parametrize("storage", ["channels", "tensor", "asymmetric", "half"])
@pytest.mark.parametrize("kind", KINDS)
def test_stored_weights_are_exact_and_stay_small(kind: str, storage: str, tmp_path: Path) -> None:
    proto, feeds, count = convolution(kind, storage)
    kinds, report = agreeing(proto, feeds, tmp_path)
    size = (tmp_path / "model.tflite").stat().st_size
    late = kind in UNPACKED_LATE or (kind == "transposed groups" and storage != "half")
    each = 4 if late else 2 if storage == "half" else 1
    assert each * count <= size < each * count + 0.4 * count + 4096
    assert kinds["DEQUANTIZE"] == (0 if late else 1) and not report.quantised
    assert any("stored as float32" in note for note in report.notes) == (kind in UNPACKED_LATE and storage != "half")


def test_scales_along_another_axis_than_the_outputs(tmp_path: Path) -> None:
    constants: dict[str, Any] = {}
    nodes = [weights(numbers(16, 24, 3, 3), 1, constants), node("Conv", "x w", "y")]
    feeds = {"x": numbers(1, 24, 6, 6)}
    kinds, _ = agreeing(model(nodes, feeds, "y", constants), feeds, tmp_path)
    assert kinds["DEQUANTIZE"] == 0


def test_integers_of_more_bits_are_stored_as_floats_and_noted(tmp_path: Path) -> None:
    constants: dict[str, Any] = {"w/q": (numbers(24, 24, 3, 3) * 3000).astype(np.int16), "w/s": np.float32(1e-4)}
    nodes = [node("DequantizeLinear", "w/q w/s", "w"), node("Conv", "x w", "y")]
    feeds = {"x": numbers(1, 24, 6, 6)}
    kinds, report = agreeing(model(nodes, feeds, "y", constants), feeds, tmp_path)
    assert kinds["DEQUANTIZE"] == 0 and any("int16 are stored as float32" in note for note in report.notes)


def test_small_weights_stay_floats(tmp_path: Path) -> None:
    constants: dict[str, Any] = {}
    nodes = [weights(numbers(4, 4, 3, 3), 0, constants), node("Conv", "x w", "y")]
    feeds = {"x": numbers(1, 4, 6, 6)}
    assert "DEQUANTIZE" not in agreeing(model(nodes, feeds, "y", constants), feeds, tmp_path)[0]


def test_quantised_inputs_of_a_float_convolution(tmp_path: Path) -> None:
    """The integers of the weights serve although nothing asks for an integer result."""
    constants: dict[str, Any] = {}
    nodes = [*pair("x", "v", 0.03, "int8", constants), weights(numbers(24, 24, 3, 3), 0, constants), node("Conv", "v w", "y")]
    feeds = {"x": numbers(1, 24, 6, 6)}
    proto = model(nodes, feeds, "y", constants)
    agreeing(proto, feeds, tmp_path)
    assert lowered(proto, tmp_path)[1].operators.count("DEQUANTIZE") == 2
