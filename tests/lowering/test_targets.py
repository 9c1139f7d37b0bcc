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


BEHIND: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "MaxPool": ("c", {"kernel_shape": (3, 2), "strides": (2, 2), "pads": (1, 0, 1, 0)}, {}, "m"),
    "Flatten": ("c", {}, {}, "m"),
    "Reshape": ("c s", {}, {"s": np.array([6, -1])}, "m"),
    "Transpose": ("c", {"perm": (0, 3, 1, 2)}, {}, "m"),
    "Unsqueeze": ("c a", {}, {"a": np.array([0])}, "m"),
    "Squeeze": ("c a", {}, {"a": np.array([0])}, "m"),
    "Slice": ("c a e d s", {}, {"a": np.array([7]), "e": np.array([0]), "d": np.array([2]), "s": np.array([-2])}, "m"),
    "Split": ("c", {"axis": 1, "num_outputs": 2}, {}, "m n"),
    "DepthToSpace": ("d", {"blocksize": 2}, {}, "m"),
}  # fmt: skip
"""Operator → operands, attributes, constants and results."""


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("op", BEHIND)
def test_what_is_rounded_behind_a_move_is_computed_in_integers(op: str, bound: bool, tmp_path: Path) -> None:
    """Quantisation-aware training and TensorRT round in front of the operators that compute alone."""
    inputs, attributes, constants, results = BEHIND[op]
    held: dict[str, Any] = dict(constants)
    nodes = convolution(held)
    zero = -128 if bound else 0
    if bound:
        nodes[-1].output[0] = "raw"
        nodes.append(node("Relu", "raw", "c"))
    if inputs == "d":
        held["four"] = np.array([1, 12, 8, 5])
        nodes.append(node("Reshape", "c four", "d"))
    nodes.append(node(op, inputs, results, **attributes))
    outputs = ["y", "z"][: len(results.split())]
    for name, made in zip(results.split(), outputs, strict=True):
        nodes += pair(name, made, SCALE, "int8", held, zero)
    feeds = {"x": numbers(*SHAPE)}
    kinds, report = near(model(nodes, feeds, " ".join(outputs), held), feeds, tmp_path, SCALE)
    assert kinds["QUANTIZE"] == 1 and report.operators[-1] in ("DEQUANTIZE", "TRANSPOSE", "RESHAPE")
    assert report.operators.index("CONV_2D") < report.operators.index("DEQUANTIZE")
    assert kinds["DEQUANTIZE"] == len(outputs) and "RELU" not in kinds


@pytest.mark.parametrize("other", ["output", "real", "scale"])
def test_a_reader_of_reals_behind_a_move_keeps_them(other: str, tmp_path: Path) -> None:
    constants: dict[str, Any] = {}
    nodes = [*convolution(constants), node("MaxPool", "c", "m", kernel_shape=(2, 2)), *pair("m", "y", SCALE, "int8", constants)]
    if other == "scale":
        nodes += [node("Transpose", "c", "t", perm=(0, 2, 3, 1)), *pair("t", "z", SCALE / 4, "int8", constants)]
    elif other == "real":
        nodes.append(node("Softmax", "m", "z", axis=1))
    else:
        nodes.append(node("Flatten", "c", "z"))
    feeds = {"x": numbers(*SHAPE)}
    proto = model(nodes, feeds, "y z", constants)
    data, _ = lowered(proto, tmp_path)
    want, got = reference(proto, feeds), runtime().run(data, feeds)
    assert np.abs(got["y"] - want["y"]).max() <= 1.01 * SCALE
    assert np.abs(got["z"] - want["z"]).max() <= (1.01 * SCALE / 4 if other == "scale" else 1e-5 * np.abs(want["z"]).max())


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
