"""Networks over lines (audio, sensors) are lowered to operators on images one high, with no reshape between them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from lowered import difference, reference
from pairs import pair, weights
from written import agreeing, lowered, model, node, numbers, runtime

MOVES = frozenset({"RESHAPE", "TRANSPOSE"})


class Net:
    """A network being written; every step makes the value ``name``, rounded behind it where the network is quantised."""

    def __init__(self, quantised: bool, x: np.ndarray) -> None:
        self.quantised, self.feeds = quantised, {"x": x}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Any] = {}
        self.last = "x"
        if quantised:
            self.rounded("x")

    def add(self, op: str, name: str, *others: str, of: str = "", rounded: bool = True, **attributes: Any) -> None:
        inputs = " ".join([of or self.last, *others])
        self.nodes.append(node(op, inputs, name, **attributes))
        self.last = name
        if self.quantised and rounded:
            self.rounded(name)

    def rounded(self, name: str) -> None:
        self.nodes += pair(name, f"{name}/real", 8 / 256, "int8", self.constants)
        self.last = f"{name}/real"

    def conv(self, name: str, *shape: int, op: str = "Conv", relu: bool = True, of: str = "", **attributes: Any) -> None:
        w = numbers(*shape) / float(np.sqrt(np.prod(shape[1:])))
        axis = 1 if op == "ConvTranspose" else 0
        if self.quantised:
            held: dict[str, Any] = {}
            made = weights(w, axis, held)
            made = onnx.NodeProto.FromString(made.SerializeToString())
            made.input[:], made.output[:] = [f"{name}/{part}" for part in made.input], [f"{name}/w"]
            self.nodes.append(made)
            self.constants |= {f"{name}/{part}": value for part, value in held.items()}
        else:
            self.constants[f"{name}/w"] = w
        self.constants[f"{name}/b"] = numbers(shape[axis] * attributes.get("group", 1) ** axis) / 4
        self.add(op, f"{name}/sum" if relu else name, f"{name}/w", f"{name}/b", of=of, rounded=not relu, **attributes)
        if relu:
            self.add("Relu", name, of=f"{name}/sum")

    def check(self, outputs: str, folder: Path) -> tuple[str, ...]:
        """Operators, once the lowered network agrees with ONNX Runtime; reals behind integers may be two steps apart."""
        proto = model(self.nodes, self.feeds, outputs, self.constants)
        if not self.quantised:
            return agreeing(proto, self.feeds, folder)[1].operators
        data, report = lowered(proto, folder)
        want = reference(proto, self.feeds)
        for delegate in (True, False):
            got = runtime().run(data, self.feeds, delegate)
            for name, value in want.items():
                assert np.abs(got[name] - value).max() <= 2.1 * 8 / 256, name
        return report.operators


def keywords(quantised: bool) -> Net:
    """Five convolutions, two of them depthwise, over 40 features of 49 frames; twelve words."""
    net = Net(quantised, numbers(1, 40, 49))
    net.conv("c1", 32, 40, 5, strides=(2,), pads=(2, 2))
    net.conv("c2", 32, 1, 3, group=32, pads=(1, 1))
    net.conv("c3", 32, 32, 1)
    net.conv("c4", 32, 1, 3, group=32, dilations=(2,), pads=(2, 2))
    net.conv("c5", 48, 32, 1)
    net.add("GlobalAveragePool", "mean")
    net.add("Flatten", "flat", rounded=False)
    net.constants |= {"head": numbers(48, 12) / 7, "bias": numbers(12)}
    net.nodes.append(node("Gemm", f"{net.last} head bias", "y"))
    return net


@pytest.mark.parametrize("quantised", [False, True])
def test_a_keyword_network_is_its_convolutions(quantised: bool, tmp_path: Path) -> None:
    operators = keywords(quantised).check("y", tmp_path)
    front = ("QUANTIZE",) if quantised else ()
    back = ("DEQUANTIZE", "FULLY_CONNECTED") if quantised else ("FULLY_CONNECTED",)
    middle = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "MEAN")
    assert [code for code in operators if code not in MOVES] == [*front, *middle, *back]
    assert not MOVES & set(operators[operators.index("CONV_2D") : operators.index("MEAN")])
    assert Counter(operators)["RESHAPE"] == 2 and Counter(operators)["TRANSPOSE"] == 1


@pytest.mark.parametrize("quantised", [False, True])
def test_shortcuts_gates_and_pools_stay_on_images(quantised: bool, tmp_path: Path) -> None:
    net = Net(quantised, numbers(2, 8, 40))
    net.conv("c1", 16, 8, 3, pads=(1, 1))
    net.conv("c2", 16, 16, 3, pads=(1, 1), relu=False)
    first = "c1/real" if quantised else "c1"
    net.add("Add", "sum", first)
    net.add("MaxPool", "pool", kernel_shape=(3,), strides=(2,), pads=(1, 1))
    pool = net.last
    net.add("GlobalAveragePool", "mean")
    net.add("Sigmoid", "gate")
    net.add("Mul", "gated", pool)
    net.add("LeakyRelu", "leaky", alpha=0.1)
    net.add("AveragePool", "means", kernel_shape=(2,), strides=(2,))
    net.conv("up", 16, 12, 4, op="ConvTranspose", strides=(2,), relu=False)
    net.conv("c3", 4, 12, 3)
    operators = net.check("c3/real" if quantised else "c3", tmp_path)
    inside = operators[operators.index("CONV_2D") : len(operators) - operators[::-1].index("CONV_2D")]
    print(operators)
    assert not MOVES & set(inside)
    assert {"ADD", "MAX_POOL_2D", "MEAN", "LOGISTIC", "MUL", "LEAKY_RELU", "AVERAGE_POOL_2D", "TRANSPOSE_CONV"} <= set(inside)


def test_floats_that_lines_are_enlarged_normalised_and_activated_in(tmp_path: Path) -> None:
    """Also what no convolution reads keeps its shape, and what is read as lines is made of images once."""
    net = Net(False, numbers(1, 6, 12))
    net.conv("c1", 8, 6, 3, pads=(1, 1), relu=False)
    net.add("HardSwish", "swish")
    net.constants |= {"none": np.float32([1, 1, 2]), "gain": numbers(8, 1), "slope": numbers(8, 1), "axis": np.array([1])}
    net.add("Resize", "wide", "-", "none", mode="linear", coordinate_transformation_mode="half_pixel")
    net.add("Mul", "gained", "gain")
    net.add("PRelu", "sloped", "slope")
    net.add("ReduceMean", "average", "axis")
    net.add("Sub", "centred", "average", of="sloped")
    net.conv("c2", 4, 8, 3)
    operators = net.check("c2 centred", tmp_path)
    assert Counter(operators)["RESHAPE"] == 3 and "RESHAPE" not in operators[2 : operators.index("SUB")]


def test_reshapes_in_a_row_are_one_or_none(tmp_path: Path) -> None:
    constants = {"a": np.array([4, 6]), "b": np.array([2, 2, 6]), "c": np.array([24]), "d": np.array([2, 12])}
    nodes = [
        node("Tanh", "x", "t"), node("Reshape", "t a", "u"), node("Reshape", "u b", "v"), node("Reshape", "v c", "w"),
        node("Softmax", "w", "y", axis=0), node("Reshape", "v d", "z"), node("Exp", "z", "e"),
    ]  # fmt: skip
    feeds = {"x": numbers(2, 12)}
    kinds, _ = agreeing(model(nodes, feeds, "y e", constants), feeds, tmp_path)
    assert kinds == {"TANH": 1, "RESHAPE": 1, "SOFTMAX": 1, "EXP": 1}


def test_raw_integers_whose_scale_shows_behind_a_reshape(tmp_path: Path) -> None:
    """The same bytes are read as integers under one shape, and as reals under another."""
    constants: dict[str, Any] = {"s": np.float32(0.1), "z": np.uint8(9), "a": np.array([1, 3, 8]), "b": np.array([1, 8, 3])}
    constants["w"] = numbers(2, 3, 3)
    nodes = [
        node("Reshape", "x a", "u"), node("DequantizeLinear", "u s z", "v"), node("Conv", "v w", "y"),
        node("Reshape", "x b", "i"),
    ]  # fmt: skip
    feeds = {"x": np.arange(24, dtype=np.uint8).reshape(1, 24) * 10}
    proto = model(nodes, feeds, "y i", constants)
    data, _ = lowered(proto, tmp_path)
    for name, want in reference(proto, feeds).items():
        assert difference(want, runtime().run(data, feeds)[name]) is None
