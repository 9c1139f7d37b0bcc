"""Depth to space behind a convolution is one operator, in whichever order the model counts its channels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lowered import reference
from pairs import pair, weights
from written import agreeing, lowered, model, node, numbers, runtime

CRD = {"blocksize": 2, "mode": "CRD"}
"""As PyTorch shuffles pixels."""
BETWEEN: dict[str, list[Any]] = {
    "nothing": [node("Identity", "c", "m")], "relu": [node("Relu", "c", "m")],
    "functions": [node("LeakyRelu", "c", "l", alpha=0.1), node("Tanh", "l", "m")],
}  # fmt: skip


@pytest.mark.parametrize("storage", ["float", "channels", "tensor"])
@pytest.mark.parametrize("between", BETWEEN)
def test_floats(between: str, storage: str, tmp_path: Path) -> None:
    constants: dict[str, Any] = {"b": numbers(12)}
    w = numbers(12, 48, 3, 3) / 9
    made = [] if storage == "float" else [weights(w, 0, constants, storage)]
    constants |= {"w": w} if storage == "float" else {}
    nodes = [*made, node("Conv", "x w b", "c", pads=(1, 1, 1, 1)), *BETWEEN[between], node("DepthToSpace", "m", "y", **CRD)]
    feeds = {"x": numbers(2, 48, 5, 4)}
    kinds, _ = agreeing(model(nodes, feeds, "y", constants), feeds, tmp_path)
    assert kinds["DEPTH_TO_SPACE"] == 1 and "GATHER" not in kinds


@pytest.mark.parametrize("storage", ["channels", "tensor", "asymmetric"])
def test_integers(storage: str, tmp_path: Path) -> None:
    """The bias is stored in integers of its own scales too."""
    constants: dict[str, Any] = {}
    made = weights(numbers(12, 6, 3, 3) / 8, 0, constants, storage)
    bias = np.float32(1 / 32) * np.broadcast_to(constants["w/s"], (12,))
    constants |= {"b/q": np.rint(numbers(12) / bias).astype(np.int32), "b/s": bias.astype(np.float32)}
    nodes = [
        *pair("x", "v", 1 / 32, "int8", constants), made, node("DequantizeLinear", "b/q b/s", "b", axis=0),
        node("Conv", "v w b", "c"), *pair("c", "m", 1 / 16, "int8", constants), node("DepthToSpace", "m", "d", **CRD),
        *pair("d", "y", 1 / 16, "int8", constants),
    ]  # fmt: skip
    feeds = {"x": numbers(1, 6, 7, 6)}
    proto = model(nodes, feeds, "y", constants)
    data, report = lowered(proto, tmp_path)
    want = reference(proto, feeds)["y"]
    for delegate in (True, False):
        assert np.abs(runtime().run(data, feeds, delegate)["y"] - want).max() <= 1.01 / 16
    assert Counter(report.operators) == {"QUANTIZE": 1, "TRANSPOSE": 2, "CONV_2D": 1, "DEPTH_TO_SPACE": 1, "DEQUANTIZE": 1}


@pytest.mark.parametrize("case", ["reader", "groups", "output", "input"])
def test_channels_that_others_read_stay_where_they_are(case: str, tmp_path: Path) -> None:
    constants = {"w": numbers(12, 3 if case == "groups" else 6, 1, 1), "k": numbers(1, 12, 1, 1)}
    group = {"group": 2} if case == "groups" else {}
    nodes = [node("Conv", "x w", "c", **group), node("DepthToSpace", "c", "y", **CRD)]
    outputs = "y"
    if case == "reader":
        nodes.append(node("Mul", "c k", "z"))
        outputs = "y z"
    elif case == "output":
        outputs = "y c"
    elif case == "input":
        nodes, constants = [node("DepthToSpace", "x", "y", **CRD)], {}
    feeds = {"x": numbers(1, 12 if case == "input" else 6, 4, 5)}
    kinds, _ = agreeing(model(nodes, feeds, outputs, constants), feeds, tmp_path)
    assert kinds["GATHER"] == 1
