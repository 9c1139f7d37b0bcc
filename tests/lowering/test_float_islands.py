"""Networks of 8 bits with layers that stay in float: what is left of them, and that they compute the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pairs import pair
from test_lowering_networks import HERE, prepared
from written import agreeing, lowered, model, node, numbers

from dovetail.compress.float_islands import FloatIslands
from dovetail.core.errors import ModelError
from dovetail.core.protocols import Model, PassContext
from dovetail.lowering import litert_file
from dovetail.lowering.check import compare
from dovetail.lowering.lower import lower
from dovetail.testing.samples import MemoryDataset


@pytest.mark.parametrize(
    ("kept", "floats", "rounded"),
    [("node_Conv_81", 1, 2), ("node_linear", 0, 1), ("node_Conv_77", 1, 1)],
)
@pytest.mark.parametrize("activation", ["uint8", "int16"])
def test_islands_lower_with_one_way_in_and_one_way_out(
    activation: str, kept: str, floats: int, rounded: int, digits: Path, tmp_path: Path
) -> None:
    """``kept`` reads a value whose scale the quantiser repeats for each channel."""
    source = prepared(digits / "digits.onnx", tmp_path)
    with np.load(digits / "digits.npz") as file:
        feeds = [{"image": image[None]} for image in file["image"][:80]]
    (tmp_path / "islands").mkdir()
    config = {"keep": [kept], "activation": activation}
    data = MemoryDataset(feeds[:64])
    context = PassContext(workdir=tmp_path / "islands", environment=HERE, calibration=data, config=config)
    made = FloatIslands().apply(Model(path=source), context).path
    repeated = {t.name for t in onnx.load(made).graph.initializer if t.name.startswith(f"{kept}_float_input")}
    assert len(repeated) == (0 if kept == "node_Conv_77" else 2)
    report = lower(made, tmp_path / "model.tflite")
    inside = litert_file.read(tmp_path / "model.tflite").operators
    assert Counter(op.output.dtype for op in inside if op.code == "CONV_2D")["float32"] == floats
    assert Counter(report.operators)["QUANTIZE"] == rounded
    assert max(compare(made, tmp_path / "model.tflite", feed).relative for feed in feeds[64:]) < 0.05


@pytest.mark.parametrize("axis", [1, -3])
def test_equal_scales_of_channels_are_one_scale(axis: int, tmp_path: Path) -> None:
    constants: dict[str, Any] = {"many/s": np.full(4, 0.05, np.float32), "many/z": np.full(4, 7, np.int8)}
    constants["w"] = numbers(6, 4, 3, 3)
    quantise, dequantise = pair("x", "v", 0.05, "int8", constants, 7)
    dequantise.input[1:] = ["many/s", "many/z"]
    dequantise.attribute.append(onnx.helper.make_attribute("axis", axis))
    feeds = {"x": numbers(2, 4, 6, 5)}
    kinds, _ = agreeing(model([quantise, dequantise, node("Conv", "v w", "y")], feeds, "y", constants), feeds, tmp_path)
    assert kinds == {"QUANTIZE": 1, "DEQUANTIZE": 1, "CONV_2D": 1, "TRANSPOSE": 2}


def test_different_scales_of_channels_are_refused(tmp_path: Path) -> None:
    constants: dict[str, Any] = {"many/s": np.array([0.05, 0.05, 0.05, 0.06], np.float32), "w": numbers(6, 4, 3, 3)}
    quantise, dequantise = pair("x", "v", 0.05, "int8", constants)
    dequantise.input[1:] = ["many/s"]
    feeds = {"x": numbers(2, 4, 6, 5)}
    with pytest.raises(ModelError, match="is dequantised with"):
        lowered(model([quantise, dequantise, node("Conv", "v w", "y")], feeds, "y", constants), tmp_path)
