"""Transposed convolutions crop and bound their result by themselves where the runtime does it as the model says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lowered import reference
from pairs import pair, weights
from written import agreeing, lowered, model, node, numbers, runtime

BOUNDS: dict[str, tuple[float, float] | None] = {"NONE": None, "RELU": (0, np.inf), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1)}
CROPS: dict[str, tuple[tuple[int, int], tuple[int, int], dict[str, Any], bool]] = {
    "k4 s2 p1": ((4, 4), (2, 2), {"pads": (1, 1, 1, 1)}, True), "k4 s4": ((4, 4), (4, 4), {}, True),
    "k2 s2": ((2, 2), (2, 2), {}, True), "k3 s2 end": ((3, 3), (2, 2), {"pads": (0, 0, 1, 1)}, True),
    "k5 s2 odd": ((5, 5), (2, 2), {"pads": (1, 1, 2, 2)}, True), "k8 s4 mixed": ((8, 2), (4, 2), {"pads": (2, 0, 2, 0)}, True),
    "auto": ((4, 4), (2, 2), {"auto_pad": "SAME_UPPER"}, True), "k3 s1": ((3, 3), (1, 1), {"pads": (1, 1, 1, 1)}, True),
    "k3 s2 p1 extra": ((3, 3), (2, 2), {"pads": (1, 1, 1, 1), "output_padding": (1, 1)}, False),
    "k5 s2 p1": ((5, 5), (2, 2), {"pads": (1, 1, 1, 1)}, False), "k4 s2 p1 0": ((4, 4), (2, 2), {"pads": (2, 1, 0, 1)}, False),
    "k2 s3 extra": ((2, 2), (3, 3), {"output_padding": (1, 1)}, True),
}  # fmt: skip
"""Case → kernel, strides, padding, and whether no SLICE is left."""


def bounded(nodes: list[Any], kind: str, constants: dict[str, Any]) -> list[Any]:
    """The nodes, which make ``c``, with a bound behind them, which makes ``r``."""
    limits = BOUNDS[kind]
    if limits is None:
        return [*nodes, node("Identity", "c", "r")]
    if limits[1] == np.inf:
        return [*nodes, node("Relu", "c", "r")]
    constants.update(low=np.float32(limits[0]), high=np.float32(limits[1]))
    return [*nodes, node("Clip", "c low high", "r")]


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("crop", CROPS)
def test_floats(crop: str, bound: str, tmp_path: Path) -> None:
    kernel, strides, attributes, whole = CROPS[crop]
    constants: dict[str, Any] = {"w": numbers(5, 6, *kernel), "b": numbers(6)}
    nodes = bounded([node("ConvTranspose", "x w b", "c", strides=strides, **attributes)], bound, constants)
    feeds = {"x": numbers(2, 5, 7, 6)}
    kinds, _ = agreeing(model(nodes, feeds, "r", constants), feeds, tmp_path)
    assert kinds == {"TRANSPOSE": 2, "TRANSPOSE_CONV": 1} | ({} if whole else {"SLICE": 1})


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("crop", ["k4 s2 p1", "k5 s2 odd", "k3 s2 p1 extra"])
def test_integers(crop: str, bound: str, dtype: str, tmp_path: Path) -> None:
    kernel, strides, attributes, whole = CROPS[crop]
    constants: dict[str, Any] = {"b": numbers(6)}
    step = 1 / 32 if dtype == "int8" else 1 / 8192
    made = weights(numbers(5, 6, *kernel) / 8, 1, constants)
    nodes = [*pair("x", "v", step, dtype, constants), made, node("ConvTranspose", "v w b", "c", strides=strides, **attributes)]
    nodes = [*bounded(nodes, bound, constants), *pair("r", "y", step, dtype, constants)]
    feeds = {"x": numbers(2, 5, 7, 6)}
    proto = model(nodes, feeds, "y", constants)
    data, report = lowered(proto, tmp_path)
    want = reference(proto, feeds)["y"]
    for delegate in (True, False):
        assert np.abs(runtime().run(data, feeds, delegate)["y"] - want).max() <= 1.01 * step
    inside = Counter(report.operators[1:-1])
    assert set(inside) - {"TRANSPOSE"} == {"TRANSPOSE_CONV"} | (set() if whole else {"SLICE"})


@pytest.mark.parametrize("attributes", [{"group": 5}, {"dilations": (2, 1)}, {"group": 5, "strides": (2, 2), "pads": (1,) * 4}])
def test_groups_and_dilations_are_bounded_too(attributes: dict[str, Any], tmp_path: Path) -> None:
    constants = {"w": numbers(5, 2, 4, 4)}
    feeds = {"x": numbers(1, 5, 7, 6)}
    nodes = bounded([node("ConvTranspose", "x w", "c", **attributes)], "RELU", constants)
    kinds, _ = agreeing(model(nodes, feeds, "r", constants), feeds, tmp_path)
    assert "RELU" not in kinds


def test_lines(tmp_path: Path) -> None:
    constants = {"w": numbers(5, 6, 8)}
    nodes = bounded([node("ConvTranspose", "x w", "c", strides=(4,), pads=(2, 2))], "RELU", constants)
    feeds = {"x": numbers(1, 5, 20)}
    kinds, _ = agreeing(model(nodes, feeds, "r", constants), feeds, tmp_path)
    assert kinds["TRANSPOSE_CONV"] == 1 and not {"SLICE", "RELU"} & set(kinds)
