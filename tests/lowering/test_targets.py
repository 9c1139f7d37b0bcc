"""In which quantisation values are computed that quantised operators read, and when they stay reals."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from lowered import reference
from pairs import pair, weights
from written import agreeing, lowered, model, node, numbers, runtime

from dovetail.lowering.lower import Report

SCALE = 1 / 32
SHAPE = (1, 6, 8, 10)


def near(proto: onnx.ModelProto, feeds: Any, folder: Path, step: float, steps: float = 1.01) -> tuple[Counter[str], Report]:
    """Operators of the lowered model, once all outputs are within some steps of ONNX Runtime's."""
    data, report = lowered(proto, folder)
    want = reference(proto, feeds)
    for delegate in (True, False):
        got = runtime().run(data, feeds, delegate)
        for name, value in want.items():
            assert np.abs(got[name].astype(float) - value).max() <= steps * step, (name, delegate)
    return Counter(report.operators), report


def convolution(constants: dict[str, Any], rounded: bool = True) -> list[onnx.NodeProto]:
    """An input rounded to integers, and a convolution of it with weights of 8 bits, which makes ``c``."""
    constants["b"] = numbers(6)
    made = weights(numbers(6, 6, 3, 3) / 8, 0, constants)
    return [*pair("x", "v", SCALE, "int8", constants), made, node("Conv", "v w b", "c", pads=(1, 1, 1, 1))]


# -- several readers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "relu", "integers"),
    [
        ((SCALE, 0), (SCALE, 0), False, True), ((SCALE, 0), (SCALE * 1.001, 0), False, True),
        ((SCALE / 8, 0), (SCALE, 0), False, False), ((SCALE, -128), (SCALE, 0), False, False),
        ((SCALE / 8, -128), (SCALE / 4, 0), True, True), ((SCALE / 8, -128), (SCALE / 2, 0), True, False),
    ],
)  # fmt: skip
def test_the_finest_of_several_scales_is_taken_if_it_cuts_nothing_off(
    first: tuple[float, int], second: tuple[float, int], relu: bool, integers: bool, tmp_path: Path
) -> None:
    constants: dict[str, Any] = {}
    nodes = convolution(constants)
    value = "c"
    if relu:
        nodes.append(node("Relu", "c", "r"))
        value = "r"
    for name, (scale, zero) in (("y", first), ("z", second)):
        nodes += pair(value, name, scale, "int8", constants, zero)
    feeds = {"x": numbers(*SHAPE) * 2}
    proto = model(nodes, feeds, "y z", constants)
    wide = max(np.abs(value).max() for value in reference(proto, feeds).values())
    assert wide > 127 * min(first[0], second[0])  # there is something to cut off
    kinds, _ = near(proto, feeds, tmp_path, max(first[0], second[0]))
    assert (kinds["DEQUANTIZE"] <= 2 and kinds["QUANTIZE"] <= 2) == integers


# -- concatenation and enlargement ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("alike", [True, False])
def test_a_concatenation_for_readers_of_reals_cuts_nothing_off(alike: bool, tmp_path: Path) -> None:
    constants: dict[str, Any] = {}
    second = SCALE if alike else 4 * SCALE
    nodes = [
        *pair("x", "v", SCALE, "int8", constants), *pair("z", "w", second, "int8", constants),
        node("Concat", "v w", "y", axis=1),
    ]  # fmt: skip
    feeds = {"x": numbers(*SHAPE), "z": numbers(*SHAPE, seed=3) * 4}
    proto = model(nodes, feeds, "y", constants)
    assert reference(proto, feeds)["y"].max() > 127 * SCALE or alike
    kinds, _ = agreeing(proto, feeds, tmp_path)
    assert kinds == {"QUANTIZE": 2, "CONCATENATION": 1, "DEQUANTIZE": 1 if alike else 2}


@pytest.mark.parametrize("rounded", [True, False])
def test_an_enlargement_is_rounded_where_the_model_rounds_it(rounded: bool, tmp_path: Path) -> None:
    constants: dict[str, Any] = {"s": np.array([1, 6, 24, 20])}
    nodes = [*pair("x", "v", SCALE, "int8", constants), node("Resize", "v - - s", "m", mode="linear")]
    nodes += pair("m", "y", SCALE, "int8", constants) if rounded else [node("Identity", "m", "y")]
    feeds = {"x": numbers(*SHAPE)}
    proto = model(nodes, feeds, "y", constants)
    kinds, _ = near(proto, feeds, tmp_path, SCALE) if rounded else agreeing(proto, feeds, tmp_path)
    assert kinds["QUANTIZE"] == kinds["DEQUANTIZE"] == kinds["RESIZE_BILINEAR"] == 1


# -- biases --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "depthwise", "transposed", "product"])
@pytest.mark.parametrize("storage", ["asymmetric", "channels", "tensor"])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_a_bias_beside_weights_of_next_to_nothing_is_kept(dtype: str, storage: str, kind: str, tmp_path: Path) -> None:
    """Pruned outputs have weights of zero, and a bias all the same."""
    constants: dict[str, Any] = {}
    shape, axis = {"depthwise": ((6, 1, 3, 3), 0), "product": ((6, 6), 1)}.get(kind, ((6, 6, 3, 3), int(kind == "transposed")))
    w = numbers(*shape) * (1e-6 if storage == "tensor" else 0.1)
    gone = (slice(None), 2) if axis else (2,)
    large = 200 if storage == "tensor" else 1
    constants["b"] = np.float32([3, -2, 2.5, 3, -3, 1]) * large
    w[gone] = 0 if storage == "asymmetric" else w[gone] * 1e-9
    made = weights(w, axis, constants, storage)
    op = {"transposed": "ConvTranspose", "product": "Gemm"}.get(kind, "Conv")
    fine = SCALE if dtype == "int8" else SCALE / 256
    nodes = [
        *pair("x", "v", fine, dtype, constants), made, node(op, "v w b", "c", **({"group": 6} if kind == "depthwise" else {})),
        *pair("c", "y", fine * large, dtype, constants),
    ]  # fmt: skip
    feeds = {"x": numbers(5, 6) if kind == "product" else numbers(*SHAPE)}
    proto = model(nodes, feeds, "y", constants)
    assert np.abs(reference(proto, feeds)["y"]).max() > 80 * fine * large
    # Asymmetric weights are rounded anew, which shows beside steps of 16 bits.
    kinds, report = near(proto, feeds, tmp_path, SCALE if storage == "asymmetric" else fine * large)
    assert kinds["QUANTIZE"] == kinds["DEQUANTIZE"] == 1 and report.quantised
    assert any("so that their biases fit" in note for note in report.notes) == (storage != "asymmetric")
