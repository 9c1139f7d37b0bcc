"""Pixels as bytes, channels last, in front of a network that has them as floats, channels first."""

from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper
from written import agreeing

PIXELS = np.random.default_rng(0).integers(0, 256, (1, 6, 5, 3), dtype=np.uint8)


def network(body: str, **constants: np.ndarray) -> onnx.ModelProto:
    text = f'<ir_version: 8, opset_import: ["": 17]> g (uint8[1,6,5,3] x) => (float[1,4,6,5] y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    weights = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)
    tensors = {"w": weights, **constants}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in tensors.items())
    return model


FLOAT = "t = Transpose<perm=[0,3,1,2]>(x) f = Cast<to=1>(t) a = Add(f, o) y = Conv<pads=[1,1,1,1]>(a, w)"
QUANTISED = """
t = Transpose<perm=[0,3,1,2]>(x) f = Cast<to=1>(t)
q = QuantizeLinear(f, one, low) d = DequantizeLinear(q, one, low)
v = DequantizeLinear<axis=0>(w8, ws, wz) c = Conv<pads=[1,1,1,1]>(d, v)
r = QuantizeLinear(c, rs, rz) y = DequantizeLinear(r, rs, rz)
"""
ALSO_AS_INTEGERS = """
t = Transpose<perm=[0,3,1,2]>(x) f = Cast<to=1>(t) a = Add(f, o) c = Conv<pads=[1,1,1,1]>(a, w)
i = Cast<to=6>(t) z = ReduceMax<keepdims=0>(i) r = Cast<to=1>(z) y = Add(c, r)
"""


def test_bytes_become_reals_in_the_delegate(tmp_path: Path) -> None:
    model = network(FLOAT, o=np.array([-120.0, -115, -104], np.float32).reshape(3, 1, 1))
    operators, report = agreeing(model, {"x": PIXELS}, tmp_path)
    assert not report.quantised
    assert operators == {"DEQUANTIZE": 1, "ADD": 1, "CONV_2D": 1, "TRANSPOSE": 1}  # the output is channels first


def test_bytes_that_move_before_they_become_reals_are_no_arithmetic(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> g (uint8[5,3] x) => (float[15] y)'
    model = onnx.parser.parse_model(text + " <int64[1] s = {15}> { t = Reshape(x, s) f = Cast<to=1>(t) y = Sqrt(f) }")
    _, report = agreeing(model, {"x": PIXELS[0, 0]}, tmp_path)
    assert report.operators == ("RESHAPE", "DEQUANTIZE", "SQRT") and not report.quantised


@pytest.mark.parametrize("low", [np.array(0, np.uint8), np.array(-128, np.int8)])
def test_bytes_that_are_quantised_stay_integers(low: np.ndarray, tmp_path: Path) -> None:
    weights = np.random.default_rng(2).integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    parts = {"w8": weights, "ws": np.full(4, 0.01, np.float32), "wz": np.zeros(4, np.int8)}
    parts |= {"rs": np.array(7.31, np.float32), "rz": np.array(-9, np.int8)}
    model = network(QUANTISED, one=np.array(1, np.float32), low=low, **parts)
    _, report = agreeing(model, {"x": PIXELS}, tmp_path)
    assert report.operators == ("QUANTIZE", "CONV_2D", "TRANSPOSE", "DEQUANTIZE") and report.quantised


def test_bytes_that_are_read_as_integers_too_stay_plain(tmp_path: Path) -> None:
    model = network(ALSO_AS_INTEGERS, o=np.zeros((3, 1, 1), np.float32))
    assert agreeing(model, {"x": PIXELS}, tmp_path)[0]["CAST"]
