"""Operators bear the version in which the runtime came to know their form.

That no lowered file bears a lower one is checked wherever these tests lower a model (``lowered.too_low``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lowered import too_low, versions
from pairs import pair, weights
from test_import_litert import Given, case, i, litert
from written import lowered, model, node, numbers

from dovetail.lowering.flatbuffer import Lowered, write
from dovetail.lowering.tensors import Operator, Tensor, per_tensor

# As GetBuiltinOperatorVersion numbers them (google-ai-edge/LiteRT, tflite/tools/versioning/op_version.cc).
WEIGHTED = {
    ("int8", "plain"): ("CONV_2D", 3), ("int8", "depthwise"): ("DEPTHWISE_CONV_2D", 3), ("int8", "grouped"): ("CONV_2D", 6),
    ("int16", "plain"): ("CONV_2D", 4), ("int16", "depthwise"): ("DEPTHWISE_CONV_2D", 5),
    ("float", "plain"): ("CONV_2D", 1), ("float", "grouped"): ("CONV_2D", 6), ("float", "dilated"): ("DEPTHWISE_CONV_2D", 2),
}  # fmt: skip


@pytest.mark.parametrize(("dtype", "kind"), WEIGHTED)
def test_convolutions(dtype: str, kind: str, tmp_path: Path) -> None:
    constants: dict[str, Any] = {}
    shape, group = {"plain": ((6, 6, 3, 3), 1), "grouped": ((6, 3, 3, 3), 2)}.get(kind, ((6, 1, 3, 3), 6))
    conv = {"group": group, "dilations": (2, 2) if kind == "dilated" else (1, 1)}
    if dtype == "float":
        nodes, constants["w"] = [node("Conv", "x w", "y", **conv)], numbers(*shape)
    else:
        nodes = [*pair("x", "v", 0.01, dtype, constants), weights(numbers(*shape), 0, constants)]
        nodes += [node("Conv", "v w", "c", **conv), *pair("c", "y", 0.05, dtype, constants)]
    lowered(model(nodes, {"x": numbers(1, 6, 9, 9)}, "y", constants), tmp_path)
    assert WEIGHTED[dtype, kind] in versions(tmp_path / "model.tflite")


PLAIN: list[tuple[str, dict[str, Any], dict[str, Any], tuple[int, ...], tuple[str, int]]] = [
    ("Transpose", {"perm": (4, 3, 2, 1, 0)}, {}, (2, 3, 2, 3, 2), ("TRANSPOSE", 4)),
    ("Pad", {}, {"p": np.array([0, 1, 0, 1])}, (3, 4), ("PAD", 1)),
    ("Pad", {}, {"p": np.array([0, 1, 0, 1, 0, 0, 1, 0, 1, 0])}, (2, 3, 2, 3, 2), ("PAD", 4)),
    ("Slice", {}, {"a": np.array([0]), "b": np.array([1])}, (2, 3, 2, 3, 2), ("SLICE", 5)),
    ("Add", {}, {"k": numbers(4)}, (3, 4), ("ADD", 1)),
    ("Div", {}, {"k": numbers(4)}, (3, 2, 2, 2, 4), ("DIV", 2)),
    ("Abs", {}, {}, (3, 4), ("ABS", 1)),
    ("MatMul", {}, {"k": numbers(4, 5)}, (3, 4), ("FULLY_CONNECTED", 6)),
    ("Gemm", {}, {"k": numbers(4, 5), "r": numbers(5)}, (3, 4), ("FULLY_CONNECTED", 5)),
]


@pytest.mark.parametrize(("op", "attributes", "constants", "shape", "expected"), PLAIN)
def test_floats(op: str, attributes: Any, constants: Any, shape: Any, expected: tuple[str, int], tmp_path: Path) -> None:
    proto = model([node(op, " ".join(["x", *constants]), "y", **attributes)], {"x": numbers(*shape)}, "y", constants)
    lowered(proto, tmp_path)
    assert versions(tmp_path / "model.tflite") == [expected]


def test_pairs_of_quantisation_and_what_lies_between(tmp_path: Path) -> None:
    constants: dict[str, Any] = {"s": np.array([1, 2, 8, 6])}
    nodes = [
        *pair("x", "v", 0.02, "int16", constants), node("Resize", "v - - s", "m", mode="linear"),
        *pair("m", "n", 0.02, "int16", constants), node("Mul", "n n", "o"), *pair("o", "y", 0.02, "int16", constants),
    ]  # fmt: skip
    lowered(model(nodes, {"x": numbers(1, 2, 4, 3)}, "y", constants), tmp_path)
    assert set(versions(tmp_path / "model.tflite")) >= {("QUANTIZE", 2), ("RESIZE_BILINEAR", 4), ("MUL", 4), ("DEQUANTIZE", 3)}


def test_one_operator_in_two_forms_has_two_entries(tmp_path: Path) -> None:
    nodes = [node("Transpose", "x", "s", perm=(1, 0)), node("Transpose", "z", "t", perm=(4, 3, 2, 1, 0))]
    lowered(model(nodes, {"x": numbers(2, 3), "z": numbers(2, 3, 2, 3, 2)}, "s t"), tmp_path)
    assert versions(tmp_path / "model.tflite") == [("TRANSPOSE", 1), ("TRANSPOSE", 4)]


def test_an_operator_whose_first_version_was_withdrawn_runs(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    case("BROADCAST_TO", [Given((1, 4)), i(3, 4)]).write(path, [(3, 4)])
    assert versions(path) == [("BROADCAST_TO", 2)]
    x = numbers(1, 4)
    (y,) = litert(path, [x], delegate=False)
    assert np.array_equal(y, np.broadcast_to(x, (3, 4)))


def test_a_version_that_is_too_low_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quant = per_tensor(0.1, 3)
    x, y = (Tensor(name=name, shape=(2, 3), dtype="int8", quant=quant) for name in "xy")
    graph = Lowered(inputs={"x": x}, outputs={"y": y}, operators=[Operator(code="RELU", inputs=(x,), outputs=(y,))])
    write(graph, tmp_path / "right.tflite", "")
    monkeypatch.setattr("dovetail.lowering.flatbuffer.version", lambda op: 1)
    write(graph, tmp_path / "wrong.tflite", "")
    assert not too_low(tmp_path / "right.tflite") and too_low(tmp_path / "wrong.tflite") == ["RELU 1"]
