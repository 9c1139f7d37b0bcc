"""Activations of 16 bits beside weights of 8: LiteRT's own kernels compute what the model says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from lowered import litert, reference
from lowered import lower as lowered_bytes
from onnx import helper
from pairs import pair, weights
from steps_quantised import quantised_graph
from test_lowering_networks import HERE, images, prepared
from written import agreeing, found, lowered, model, node, numbers

from dovetail.compress.quantize_static import QuantizeStatic
from dovetail.core.errors import ModelError
from dovetail.core.protocols import Model, PassContext
from dovetail.lowering import litert_file
from dovetail.lowering.check import compare
from dovetail.lowering.lower import Report
from dovetail.lowering.lower_litert import LowerLitert
from dovetail.testing.samples import MemoryDataset

STEP = 4 / 32768
"""Of values up to 4."""
RANDOM_GRAPHS = 300


def steps_off(proto: onnx.ModelProto, feeds: Any, folder: Path, step: float = STEP) -> np.ndarray:
    """How many steps each number of ``y`` is away from ONNX Runtime's, with XNNPACK and without it."""
    want = reference(proto, feeds)["y"]
    got = [found(proto, feeds, folder, delegate)["y"] for delegate in (True, False)]
    assert all(value.shape == want.shape and value.dtype == want.dtype for value in got)
    return np.abs(np.stack(got).astype(np.float64) - want) / step


def inside(report: Report) -> Counter[str]:
    """Operators between the first QUANTIZE and the last DEQUANTIZE."""
    assert report.operators[0] == "QUANTIZE" and report.operators[-1] == "DEQUANTIZE"
    return Counter(report.operators[1:-1])


# -- operators with weights ----------------------------------------------------------------------------------------------


def convolution(kind: str, storage: str, dtype: str = "int16") -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    constants: dict[str, Any] = {"b": numbers(6)}
    shape, group = {"depthwise": ((6, 1, 3, 3), 6), "grouped": ((6, 2, 3, 3), 3), "transposed": ((6, 6, 3, 3), 1)}.get(
        kind, ((6, 6, 3, 3), 1)
    )
    w = numbers(*shape) / 8
    op = "ConvTranspose" if kind == "transposed" else "Conv"
    nodes = [
        *pair("x", "v", STEP, dtype, constants),
        weights(w, 1 if kind == "transposed" else 0, constants, storage),
        node(op, "v w b", "c", group=group, pads=(1, 1, 1, 1)),
        *([] if kind == "transposed" else [node("Relu", "c", "r")]),
        *pair("c" if kind == "transposed" else "r", "y", STEP, dtype, constants),
    ]
    feeds = {"x": numbers(2, 6, 7, 5)}
    return model(nodes, feeds, "y", constants), feeds


@pytest.mark.parametrize("dtype", ["int16", "uint16"])
@pytest.mark.parametrize("storage", ["channels", "tensor"])
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("plain", "CONV_2D"), ("grouped", "CONV_2D"), ("depthwise", "DEPTHWISE_CONV_2D"), ("transposed", "TRANSPOSE_CONV"),
    ],
)  # fmt: skip
def test_convolutions_stay_integers_with_wide_biases(kind: str, code: str, storage: str, dtype: str, tmp_path: Path) -> None:
    proto, feeds = convolution(kind, storage, dtype)
    assert steps_off(proto, feeds, tmp_path).max() < 1.01
    _, report = lowered(proto, tmp_path)
    assert code in inside(report) and not {"QUANTIZE", "DEQUANTIZE", "RELU"} & set(inside(report)) and report.quantised
    (op,) = (op for op in litert_file.read(tmp_path / "model.tflite").operators if op.code == code)
    kept = [value for value in op.inputs if value is not None and value.quant is not None]
    assert sorted(value.dtype for value in kept) == ["int16", "int64", "int8"] and op.output.dtype == "int16"
    assert not any(value.quant.zero_point.any() for value in (*kept, op.output) if value.quant is not None)


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_products_stay_integers_with_wide_biases(op: str, tmp_path: Path) -> None:
    constants: dict[str, Any] = {"b": numbers(64)}
    layer = [node("Gemm", "v w b", "c")] if op == "Gemm" else [node("MatMul", "v w", "m"), node("Add", "m b", "c")]
    nodes = [
        *pair("x", "v", STEP, "int16", constants), weights(numbers(96, 64) / 16, 1, constants), *layer,
        *pair("c", "y", 2 * STEP, "int16", constants),
    ]  # fmt: skip
    feeds = {"x": numbers(9, 96)}
    proto = model(nodes, feeds, "y", constants)
    assert steps_off(proto, feeds, tmp_path, 2 * STEP).max() < 1.01
    assert inside(lowered(proto, tmp_path)[1]) == {"FULLY_CONNECTED": 1}
    (op_,) = (op for op in litert_file.read(tmp_path / "model.tflite").operators if op.code == "FULLY_CONNECTED")
    assert [value.dtype for value in op_.inputs if value is not None] == ["int16", "int8", "int64"]


def test_weights_of_16_bits_make_a_product_of_floats(tmp_path: Path) -> None:
    constants: dict[str, Any] = {"w/q": (numbers(8, 8) * 3000).astype(np.int16), "w/s": np.float32(1e-4)}
    nodes = [
        *pair("x", "v", STEP, "int16", constants), node("DequantizeLinear", "w/q w/s", "w"), node("MatMul", "v w", "m"),
        *pair("m", "y", STEP, "int16", constants),
    ]  # fmt: skip
    feeds = {"x": numbers(4, 8)}
    assert steps_off(model(nodes, feeds, "y", constants), feeds, tmp_path).max() < 1.01


# -- operators without weights -------------------------------------------------------------------------------------------

POOL = {"kernel_shape": (2, 3), "strides": (2, 1)}
ONE: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "Add": ("v u", {}, {}), "Sub": ("v u", {}, {}), "Mul": ("v u", {}, {}), "Max": ("v u", {}, {}), "Min": ("v u", {}, {}),
    "Relu": ("v", {}, {}), "LeakyRelu": ("v", {"alpha": 0.1}, {}),
    "MaxPool": ("v", {**POOL, "pads": (1, 1, 0, 1)}, {}), "AveragePool": ("v", POOL, {}), "GlobalAveragePool": ("v", {}, {}),
    "GlobalMaxPool": ("v", {}, {}), "ReduceMean": ("v a", {"keepdims": 0}, {"a": np.array([2, 3])}),
    "ReduceMax": ("v a", {}, {"a": np.array([1])}), "Softmax": ("v", {"axis": -1}, {}), "Sigmoid": ("v", {}, {}),
    "Tanh": ("v", {}, {}), "Transpose": ("v", {"perm": (3, 0, 2, 1)}, {}), "Reshape": ("v s", {}, {"s": np.array([2, -1])}),
    "Pad": ("v p", {}, {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1])}), "Concat": ("v u", {"axis": 1}, {}),
    "Slice": ("v a b c", {}, {"a": np.array([1]), "b": np.array([4]), "c": np.array([2])}),
    "Gather": ("v i", {"axis": 2}, {"i": np.array([0, 2, 3, 0])}),
    "Resize": ("v - - s", {"mode": "linear"}, {"s": np.array([2, 4, 8, 16])}),
}  # fmt: skip
"""Operator → operands, attributes and constants; LiteRT has kernels of 16 bits for all of them."""
TABLES = {"Softmax": 40, "Sigmoid": 8, "Tanh": 16, "LeakyRelu": 2, "Mul": 2}
"""Operator → how many steps its kernel may be off; those that look values up in a table are coarser than the integers."""
WITHOUT: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "HardSwish": ("v", {}, {}), "Div": ("v e", {}, {"e": np.float32([2.5])}), "DepthToSpace": ("d", {"blocksize": 2}, {}),
    "Tile": ("v t", {}, {"t": np.array([1, 2, 1, 1])}), "Exp": ("v", {}, {}), "MatMul": ("v u", {}, {}),
    "Resize": ("v - - s", {"mode": "linear"}, {"s": np.array([2, 4, 10, 12])}),  # its kernel has weights of 10 bits
    "Clip": ("v l h", {}, {"l": np.float32(-1), "h": np.float32(1)}), "PRelu": ("v l", {}, {"l": np.float32([0.3])}),
}  # fmt: skip
"""The same of operators that have none, or not in this form."""


def single(op: str, inputs: str, attributes: Any, constants: Any, step: float = STEP) -> tuple[onnx.ModelProto, Any]:
    shape = (2, 4, 4, 4)
    held: dict[str, Any] = dict(constants)
    nodes, feeds = pair("x", "v", STEP, "int16", held), {"x": np.clip(numbers(*shape), -4, 4)}
    if "u" in inputs.split():
        nodes += pair("z", "u", STEP / 2, "int16", held)
        feeds["z"] = np.clip(numbers(*shape, seed=3), -2, 2)
    nodes += [node("Identity", "v", "d"), node(op, inputs, "m", **attributes), *pair("m", "y", step, "int16", held)]
    return model(nodes, feeds, "y", held), feeds


@pytest.mark.parametrize("op", ONE)
def test_operators_with_a_kernel_stay_integers(op: str, tmp_path: Path) -> None:
    proto, feeds = single(op, *ONE[op], step=2 * STEP if op in ("Add", "Sub", "Mul") else STEP)
    off = steps_off(proto, feeds, tmp_path, 2 * STEP if op in ("Add", "Sub", "Mul") else STEP)
    print(op, off.max(), off.mean())
    assert off.max() < TABLES.get(op, 1) + 0.01
    assert "DEQUANTIZE" not in lowered(proto, tmp_path)[1].operators[:-1]


@pytest.mark.parametrize("op", WITHOUT)
def test_operators_without_a_kernel_compute_on_floats(op: str, tmp_path: Path) -> None:
    proto, feeds = single(op, *WITHOUT[op], step=8 * STEP)
    assert steps_off(proto, feeds, tmp_path, 8 * STEP).max() < 1.01


@pytest.mark.parametrize(
    ("first", "second", "third"), [("int8", "int16", "int16"), ("int16", "int8", "int8"), ("int8", "int8", "int16")]
)
def test_8_and_16_bits_meet(first: str, second: str, third: str, tmp_path: Path) -> None:
    constants: dict[str, Any] = {}
    steps = {"int8": 1 / 32, "int16": STEP}
    nodes = [
        *pair("x", "v", steps[first], first, constants), *pair("z", "u", steps[second], second, constants),
        node("Add", "v u", "m"), *pair("m", "n", 2 * steps[third], third, constants),
        *pair("n", "y", steps[first], first, constants),
    ]  # fmt: skip
    feeds = {"x": numbers(3, 8), "z": numbers(3, 8, seed=3)}
    assert steps_off(model(nodes, feeds, "y", constants), feeds, tmp_path, steps[first]).max() < 1.01


# -- zeros off the middle ------------------------------------------------------------------------------------------------


def test_a_range_from_zero_on_cuts_negative_numbers_off(tmp_path: Path) -> None:
    """Quantisers leave a Relu out where the integers start at zero."""
    constants: dict[str, Any] = {"b": numbers(6)}
    nodes = [
        *pair("x", "v", STEP, "int16", constants), weights(numbers(6, 6, 3, 3) / 8, 0, constants), node("Conv", "v w b", "c"),
        *pair("c", "y", STEP / 2, "uint16", constants, zero=0),
    ]  # fmt: skip
    feeds = {"x": numbers(2, 6, 7, 5)}
    proto = model(nodes, feeds, "y", constants)
    assert reference(proto, feeds)["y"].min() == 0
    assert steps_off(proto, feeds, tmp_path).max() < 1.01
    _, report = lowered(proto, tmp_path)
    assert inside(report)["CONV_2D"] == 1 and "RELU" not in report.operators
    assert [note for note in report.notes if "symmetric" in note]


@pytest.mark.parametrize(
    ("dtype", "zero", "code"), [("uint16", 5000, "MAXIMUM"), ("int16", 20000, "MINIMUM"), ("int16", -32768, "RELU")]
)
def test_what_a_range_cuts_off_stays_cut_off(dtype: str, zero: int, code: str, tmp_path: Path) -> None:
    constants: dict[str, Any] = {}
    nodes = [
        *pair("x", "v", STEP, dtype, constants, zero),
        node("Transpose", "v", "t", perm=(1, 0)),
        *pair("t", "u", STEP, dtype, constants, zero),  # cuts nothing off that was not cut off before
        node("Add", "u k", "a"),
        *pair("a", "y", STEP, "int16", constants),
    ]
    constants |= {"k/q": np.arange(5, dtype=dtype) * 900, "k/s": np.float32(STEP), "k/z": np.array(700, dtype)}
    nodes.insert(0, node("DequantizeLinear", "k/q k/s k/z", "k"))
    feeds = {"x": numbers(5, 30) * 4}
    proto = model(nodes, feeds, "y", constants)
    assert steps_off(proto, feeds, tmp_path, 2 * STEP).max() < 1.01
    assert inside(lowered(proto, tmp_path)[1])[code] == 1 and inside(lowered(proto, tmp_path)[1])["ADD"] == 1


@pytest.mark.parametrize("op", ["MatMul", "Add", "Gather"])
def test_constants_off_the_middle_that_no_integers_meet_are_exact(op: str, tmp_path: Path) -> None:
    constants: dict[str, Any] = {"k/s": np.float32(STEP), "k/z": np.int16(-9000)}
    constants["k/q"] = (numbers(6, 6) * 9000).astype(np.int16)
    nodes = [node("DequantizeLinear", "k/q k/s k/z", "k"), node(op, "k x" if op == "Gather" else "x k", "y")]
    feeds: dict[str, Any] = {"x": np.array([5, 0, 2]) if op == "Gather" else numbers(6, 6)}
    _, report = agreeing(model(nodes, feeds, "y", constants), feeds, tmp_path)
    assert not report.quantised and not report.notes


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("in", "border with the zero point 7"), ("uint16", "uint16 at the border"), ("out", "at the border"),
        ("read", "plain integers"), ("other", "under another scale"),
    ],
)  # fmt: skip
def test_integers_that_others_see_keep_their_zero_or_are_refused(case: str, message: str, tmp_path: Path) -> None:
    dtype = "uint16" if case == "uint16" else "int16"
    constants: dict[str, Any] = {"s": np.float32(STEP), "z": np.array(7, dtype), "t": np.float32(2 * STEP)}
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", f"q {'t' if case == 'other' else 's'} z", "y")]
    feeds: dict[str, Any] = {"x": numbers(2, 6)}
    outputs = "y"
    if case in ("in", "uint16"):
        nodes, feeds = nodes[1:], {"q": np.ones((2, 6), dtype)}
    elif case == "out":
        outputs = "q"
    elif case == "read":
        nodes.append(node("Cast", "q", "i", to=onnx.TensorProto.INT32))
        outputs = "y i"
    with pytest.raises(ModelError, match=message):
        lowered(model(nodes, feeds, outputs, constants), tmp_path)


def test_centred_integers_at_the_border_stay_as_they_are(tmp_path: Path) -> None:
    constants: dict[str, Any] = {"s": np.float32(STEP), "z": np.int16(0)}
    nodes = [node("DequantizeLinear", "x s z", "v"), node("Relu", "v", "r"), node("QuantizeLinear", "r s z", "y")]
    feeds = {"x": (numbers(2, 6) * 8000).astype(np.int16)}
    proto = model(nodes, feeds, "y", constants)
    assert steps_off(proto, feeds, tmp_path, 1.0).max() == 0
    assert lowered(proto, tmp_path)[1].operators == ("RELU",)


# -- whole networks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [True, False])
def test_our_own_quantisation_to_16_bits_lowers(symmetric: bool, shared_data: Path, tmp_path: Path) -> None:
    """The model is of an opset that lacks these types, so that its pairs are ONNX Runtime's own operators."""
    folder = prepared(shared_data / "mlperf_tiny" / "resnet8_cifar10.onnx", tmp_path)
    x, _ = images(shared_data, 64)
    feeds = [{"input": image[None]} for image in x]
    (tmp_path / "wide").mkdir()
    (tmp_path / "made").mkdir()
    config = {"activation": "int16", "symmetric_activation": symmetric}
    data = MemoryDataset(feeds)
    context = PassContext(workdir=tmp_path / "wide", environment=HERE, calibration=data, config=config)
    quantised = QuantizeStatic().apply(Model(path=folder), context).path
    notes: list[str] = []
    context = PassContext(workdir=tmp_path / "made", environment=HERE, calibration=data, note=notes.append)
    made = LowerLitert().apply(Model(path=quantised), context)
    assert {node.domain for node in onnx.load(quantised).graph.node if node.op_type == "QuantizeLinear"} == {"com.microsoft"}
    assert any("symmetric" in note for note in notes) != symmetric
    assert max(compare(quantised, made.path, feed).relative for feed in feeds[:8]) < 5e-3
    made_of = [(op.code, op.output.dtype) for op in litert_file.read(made.path).operators]
    assert {dtype for code, dtype in made_of if code in ("CONV_2D", "ADD", "MEAN")} == {"int16"}
    assert made_of[-2:] == [("FULLY_CONNECTED", "float32"), ("SOFTMAX", "float32")]  # the pass does not quantise the result


def test_random_graphs_of_16_bits_agree(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    with litert() as runtime:
        for seed in range(RANDOM_GRAPHS):
            proto, feeds = quantised_graph(seed, 1, ("int16", "uint16"))
            try:
                data = lowered_bytes(proto, tmp_path)
            except ModelError as exc:
                seen[str(exc)[:60]] += 1
                continue
            seen["compared"] += 1
            for name, want in reference(proto, feeds).items():
                for delegate in (True, False):
                    got = runtime.run(data, feeds, delegate)[name]
                    limit = 2e-3 * max(float(np.abs(want).max()), 1e-2)
                    assert np.abs(got - want).max() <= limit, f"{seed}: {helper.printable_graph(proto.graph)}"
    print(dict(seen))
    assert seen["compared"] >= 0.95 * RANDOM_GRAPHS
