"""Padding of pools that take the greatest: XNNPACK pads integers with their zero, which serves where nothing is negative."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lowered import reference
from pairs import pair
from written import agreeing, lowered, model, node, numbers, runtime

STEM = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
SCALE = 1 / 32
CHANNELS = 24
BEFORE: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "relu": ([node("Relu", "x", "v")], {}, "PAD"),
    "relu6": ([node("Clip", "x low high", "v")], {"low": 0.0, "high": 6.0}, "PAD"),
    "between": ([node("Clip", "x low high", "v")], {"low": 0.5, "high": 2.0}, "PAD"),
    "sigmoid": ([node("Sigmoid", "x", "v")], {}, "PAD"),
    "moved": ([node("Relu", "x", "r"), node("Transpose", "r", "v", perm=(0, 1, 3, 2))], {}, "PAD"),
    "pooled": ([node("Relu", "x", "r"), node("AveragePool", "r", "v", kernel_shape=(2, 2))], {}, "PAD"),
    "below": ([node("Clip", "x low high", "v")], {"low": -0.5, "high": 6.0}, "PADV2"),
    "plain": ([node("Identity", "x", "v")], {}, "PADV2"),
    "negative": ([node("Relu", "x", "r"), node("Neg", "r", "v")], {}, "PADV2"),
}  # fmt: skip
"""What makes the operand ``v``, with constants, and the operator that pads it."""


def negative(channels: int = CHANNELS) -> dict[str, np.ndarray]:
    """Mostly negative numbers, whose windows at the border hold no positive one."""
    return {"x": numbers(1, channels, 9, 8) - 1.5}


def equal(proto: Any, feeds: dict[str, np.ndarray], folder: Path) -> Counter[str]:
    """Operators, once outputs are those of ONNX Runtime to the bit."""
    data, report = lowered(proto, folder)
    want = reference(proto, feeds)["y"]
    for delegate in (True, False):
        assert np.array_equal(runtime().run(data, feeds, delegate)["y"], want)
    kinds = Counter(report.operators)
    assert kinds["QUANTIZE"] == kinds["DEQUANTIZE"] == kinds["MAX_POOL_2D"] == kinds["PAD"] + kinds["PADV2"] == 1
    return kinds


@pytest.mark.parametrize("kind", BEFORE)
def test_integers_that_nothing_makes_negative_are_padded_with_their_zero(kind: str, tmp_path: Path) -> None:
    nodes, limits, expected = BEFORE[kind]
    constants: dict[str, Any] = {name: np.float32(value) for name, value in limits.items()}
    nodes = [*nodes, *pair("v", "q", SCALE, "int8", constants), node("MaxPool", "q", "m", **STEM)]
    nodes += pair("m", "y", SCALE, "int8", constants)
    assert equal(model(nodes, negative(), "y", constants), negative(), tmp_path)[expected] == 1


@pytest.mark.parametrize(
    ("dtype", "zero", "behind", "channels", "expected"),
    [
        ("int8", -128, False, CHANNELS, "PAD"), ("uint8", 0, False, CHANNELS, "PAD"), ("int8", 0, True, CHANNELS, "PAD"),
        ("int8", -127, False, CHANNELS, "PADV2"), ("int8", -128, False, CHANNELS - 1, "PADV2"),
        ("int16", 0, True, CHANNELS, "PADV2"),
    ],
)  # fmt: skip
def test_integers_from_zero_on(dtype: str, zero: int, behind: bool, channels: int, expected: str, tmp_path: Path) -> None:
    constants: dict[str, Any] = {}
    nodes = [*pair("x", "v", SCALE, dtype, constants, zero), node("MaxPool", "v", "m", **STEM)]
    nodes += [node("Relu", "m", "n")] if behind else []
    nodes += pair("n" if behind else "m", "y", SCALE, dtype, constants, zero)
    feeds = negative(channels)
    assert equal(model(nodes, feeds, "y", constants), feeds, tmp_path)[expected] == 1


def test_floats_are_padded_by_the_runtime_itself(tmp_path: Path) -> None:
    proto = model([node("Relu", "x", "v"), node("MaxPool", "v", "y", **STEM)], negative(), "y")
    kinds, _ = agreeing(proto, negative(), tmp_path)
    assert kinds["PADV2"] == 1 and "PAD" not in kinds


def test_volumes(tmp_path: Path) -> None:
    constants: dict[str, Any] = {}
    wide = {"kernel_shape": (3, 3, 3), "strides": (2, 2, 2), "pads": (1,) * 6}
    nodes = [*pair("x", "v", SCALE, "int8", constants, -128), node("MaxPool", "v", "m", **wide)]
    nodes += pair("m", "y", SCALE, "int8", constants, -128)
    feeds = {"x": numbers(1, CHANNELS, 6, 7, 5) - 1.5}
    proto = model(nodes, feeds, "y", constants)
    data, report = lowered(proto, tmp_path)
    assert np.array_equal(runtime().run(data, feeds)["y"], reference(proto, feeds)["y"])
    assert "PAD" in report.operators and "PADV2" not in report.operators
