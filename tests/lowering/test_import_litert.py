"""LiteRT files come in as ONNX models that compute the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from lowered import Rejected, difference, reference
from random_models import integer_graph, random_graph
from steps_quantised import quantised_graph

from dovetail.core.errors import ModelError
from dovetail.lowering import flatbuffer
from dovetail.lowering.lower import lower
from dovetail.lowering.raising import raise_to_onnx
from dovetail.lowering.tensors import Operator, Quant, Tensor, per_tensor

FLOAT, INT8 = "pretrainedResnet", "pretrainedResnet_quant"
ACCURACY = {FLOAT: 0.8719, INT8: 0.8697}
"""Of LiteRT, over 10,000 images."""
RANDOM = np.random.default_rng(0)


# -- running -------------------------------------------------------------------------------------------------------------


def litert(path: Path, feeds: Sequence[np.ndarray], delegate: bool = True) -> list[np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), num_threads=1, experimental_op_resolver_type=kind)
    for detail, feed in zip(interpreter.get_input_details(), feeds, strict=True):
        if tuple(detail["shape"]) != feed.shape:
            interpreter.resize_tensor_input(detail["index"], feed.shape)
    interpreter.allocate_tensors()
    for detail, feed in zip(interpreter.get_input_details(), feeds, strict=True):
        interpreter.set_tensor(detail["index"], feed)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def ort(path: Path, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {i.name: f for i, f in zip(session.get_inputs(), feeds, strict=True)}))


# -- the published files -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Images:
    x: np.ndarray
    y: np.ndarray

    def inputs(self, name: str) -> np.ndarray:
        return self.x.astype(np.float32) if name == FLOAT else (self.x.astype(np.int16) - 128).astype(np.int8)

    def accuracy(self, outputs: np.ndarray) -> float:
        return float((outputs.argmax(axis=1) == self.y).mean())


def images(shared_data: Path, count: int) -> Images:
    with np.load(shared_data / "cifar10" / "cifar10_test.npz") as data:
        return Images(data["x"][:count], data["y"].reshape(-1)[:count])


def in_batches(run: Callable[[Path, Sequence[np.ndarray]], list[np.ndarray]], path: Path, x: np.ndarray) -> np.ndarray:
    return np.concatenate([run(path, [x[i : i + 250]])[0] for i in range(0, len(x), 250)])


def three_ways(shared_data: Path, folder: Path, name: str, data: Images) -> list[np.ndarray]:
    """Outputs of the file, of the imported model, and of the file that the imported model is lowered to."""
    source, model, back = shared_data / "mlperf_tiny" / f"{name}.tflite", folder / "model.onnx", folder / "back.tflite"
    raise_to_onnx(source, model)
    lower(model, back)
    x = data.inputs(name)
    return [
        in_batches(litert, source, x),
        in_batches(ort, model, x),
        np.concatenate([litert(back, [x[i : i + 1]])[0] for i in range(100)]),
    ]


def test_the_published_float_network(shared_data: Path, tmp_path: Path) -> None:
    data = images(shared_data, 500)
    want, imported, back = three_ways(shared_data, tmp_path, FLOAT, data)
    assert np.abs(want - imported).max() <= 1e-5 * np.abs(want).max()
    assert data.accuracy(want) == data.accuracy(imported)
    assert np.abs(want[:100] - back).max() <= 1e-5


def test_the_published_int8_network(shared_data: Path, tmp_path: Path) -> None:
    """Ties in the mean over the image fall otherwise, and softmax magnifies that; LiteRT's own kernels differ by more."""
    data = images(shared_data, 500)
    want, imported, back = three_ways(shared_data, tmp_path, INT8, data)
    steps = np.abs(want.astype(int) - imported.astype(int))
    print("within one step", (steps <= 1).mean(), "greatest", steps.max())
    source = shared_data / "mlperf_tiny" / f"{INT8}.tflite"
    plain = np.concatenate([litert(source, [data.inputs(INT8)[i : i + 1]], delegate=False)[0] for i in range(100)])
    assert (steps[:100] <= 1).mean() >= (np.abs(want[:100].astype(int) - plain) <= 1).mean()
    assert abs(data.accuracy(want) - data.accuracy(imported)) <= 0.01
    assert np.array_equal(want[:100], back)


@pytest.mark.slow
@pytest.mark.parametrize("name", [FLOAT, INT8])
def test_accuracy_over_all_images(shared_data: Path, tmp_path: Path, name: str) -> None:
    data = images(shared_data, 10_000)
    source, model, back = shared_data / "mlperf_tiny" / f"{name}.tflite", tmp_path / "model.onnx", tmp_path / "back.tflite"
    raise_to_onnx(source, model)
    lower(model, back)
    x = data.inputs(name)
    assert data.accuracy(in_batches(litert, source, x)) == ACCURACY[name]
    imported = data.accuracy(in_batches(ort, model, x))
    assert imported == ACCURACY[name] if name == FLOAT else abs(imported - ACCURACY[name]) <= 0.002
    assert data.accuracy(np.concatenate([litert(back, [x[i : i + 1]])[0] for i in range(len(x))])) == ACCURACY[name]


@pytest.mark.parametrize("name", [FLOAT, INT8])
def test_interface_and_transposes(shared_data: Path, tmp_path: Path, name: str) -> None:
    report = raise_to_onnx(shared_data / "mlperf_tiny" / f"{name}.tflite", tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    counts = Counter(node.op_type for node in model.graph.node)
    assert (counts["Conv"], counts["Transpose"]) == (9, 1)
    assert Counter(report.operators)["CONV_2D"] == 9 and not report.notes
    (x,), (y,) = model.graph.input, model.graph.output
    kind = onnx.TensorProto.FLOAT if name == FLOAT else onnx.TensorProto.INT8
    assert x.type.tensor_type.elem_type == y.type.tensor_type.elem_type == kind
    assert [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim] == ["batch", 32, 32, 3]
    assert [d.dim_param or d.dim_value for d in y.type.tensor_type.shape.dim] == ["batch", 10]


# -- single operators ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """An input; ``low`` and ``high`` bound its plain numbers."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: float = -2.0
    high: float = 2.0
    quant: Quant | None = None

    def sample(self) -> np.ndarray:
        random = np.random.default_rng(1)
        if self.quant is not None:
            limits = np.iinfo(self.dtype)
            return random.integers(limits.min, limits.max, self.shape, dtype=self.dtype, endpoint=True)
        if self.dtype == "float32":
            return random.uniform(self.low, self.high, self.shape).astype(np.float32)
        return random.integers(int(self.low), int(self.high) + 1, self.shape).astype(self.dtype)


@dataclass(frozen=True)
class Stored:
    """A quantised constant."""

    data: np.ndarray
    quant: Quant


@dataclass(frozen=True)
class Case:
    code: str
    operands: Sequence[Any]
    table: str
    outs: Sequence[tuple[str, Quant | None]]
    options: Mapping[str, object]

    def write(self, path: Path, shapes: Sequence[tuple[int, ...]]) -> None:
        tensors = [_tensor(f"t{i}", operand) for i, operand in enumerate(self.operands)]
        inputs = {t.name: t for t in tensors if t is not None and t.data is None}
        kinds = enumerate(zip(self.outs, shapes, strict=True))
        made = [Tensor(name=f"y{n}", shape=shape, dtype=dtype, quant=quant) for n, ((dtype, quant), shape) in kinds]
        operator = Operator(code=self.code, inputs=tuple(tensors), outputs=tuple(made), table=self.table, options=self.options)
        outputs = {t.name: t for t in made}
        flatbuffer.write(flatbuffer.Lowered(inputs=inputs, outputs=outputs, operators=[operator]), path, "one operator")


def _tensor(name: str, operand: Any) -> Tensor | None:
    if operand is None:
        return None
    if isinstance(operand, Given):
        return Tensor(name=name, shape=operand.shape, dtype=operand.dtype, quant=operand.quant)
    data, quant = (operand.data, operand.quant) if isinstance(operand, Stored) else (operand, None)
    return Tensor(name=name, shape=data.shape, dtype=data.dtype.name, data=data, quant=quant)


def case(
    code: str, operands: Sequence[Any], table: str = "", outs: Sequence[Any] = (("float32", None),), **options: object
) -> Case:
    return Case(code, operands, table, outs, options)


def w(*shape: int) -> np.ndarray:
    return RANDOM.uniform(-1, 1, shape).astype(np.float32)


def i(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


IMAGE, BOOL, INT32 = Given((2, 9, 8, 3)), (("bool", None),), (("int32", None),)
ONE = np.array(1, np.int32)
MARGINS = np.array([[0, 0], [2, 1]], np.int32)
NONE = {"fusedActivationFunction": "NONE"}
MASKS = {"beginMask": 0, "endMask": 0, "ellipsisMask": 0, "newAxisMask": 0, "shrinkAxisMask": 0}


def windows() -> list[Case]:
    found = []
    for padding, stride, dilation in (("SAME", 1, 1), ("SAME", 2, 1), ("SAME", 3, 1), ("SAME", 1, 2), ("VALID", 2, 1)):
        steps = {"padding": padding, "strideH": stride, "strideW": stride}
        wide = {**steps, "dilationHFactor": dilation, "dilationWFactor": dilation}
        deep = {**wide, **NONE, "depthMultiplier": 2}
        found += [
            case("CONV_2D", [IMAGE, w(4, 3, 3, 3), w(4)], "Conv2DOptions", **wide, fusedActivationFunction="RELU6"),
            case("DEPTHWISE_CONV_2D", [IMAGE, w(1, 3, 2, 6), w(6)], "DepthwiseConv2DOptions", **deep),
        ]
        if dilation == 1:
            size = {"filterHeight": 3, "filterWidth": 2, **NONE}
            pools = ("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D")
            found += [case(code, [IMAGE], "Pool2DOptions", **steps, **size) for code in pools]
    groups = {"padding": "SAME", "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, **NONE}
    found.append(case("CONV_2D", [Given((1, 5, 5, 6)), w(4, 3, 3, 3), w(4)], "Conv2DOptions", **groups))
    for padding, size in (("SAME", (10, 8)), ("SAME", (9, 7)), ("VALID", (11, 9)), ("VALID", (12, 10))):
        operands = [i(1, *size, 4), w(4, 3, 3, 3), Given((1, 5, 4, 3)), w(4)]
        found.append(case("TRANSPOSE_CONV", operands, "TransposeConvOptions", padding=padding, strideH=2, strideW=2, **NONE))
    return found


def products() -> list[Case]:
    found = [
        case("FULLY_CONNECTED", [Given(shape), w(4, 6), w(4)], "FullyConnectedOptions", keepNumDims=keep, **NONE)
        for shape, keep in (((2, 6), False), ((2, 3, 6), True), ((2, 3, 6), False))
    ]
    for x, y in ((False, False), (True, False), (False, True), (True, True)):
        operands = [Given((2, 4, 3) if x else (2, 3, 4)), Given((2, 5, 4) if y else (2, 4, 5))]
        found.append(case("BATCH_MATMUL", operands, "BatchMatMulOptions", adjX=x, adjY=y))
    return found


def elementwise() -> list[Case]:
    found, x, positive = [], Given((2, 3, 4, 5), low=-8, high=8), Given((2, 3, 4, 5), low=0.1, high=3)
    for code in ("ADD", "SUB", "MUL", "DIV"):
        table = f"{code.title()}Options"
        for other in (positive, Given((5,), low=0.5), Given((2, 1, 4, 1), low=0.5), w(5) + 2):
            found.append(case(code, [x, other], table, fusedActivationFunction="RELU_N1_TO_1"))
    plain = "ABS NEG EXP SIN COS FLOOR CEIL ROUND SIGN RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1 ELU HARD_SWISH LOGISTIC TANH SQUARE"
    found += [case(code, [x]) for code in plain.split()]
    found += [case(code, [positive]) for code in ("LOG", "SQRT", "RSQRT")]
    found += [case(code, [x, Given((5,))]) for code in ("MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE")]
    found += [case("POW", [positive, Given((5,))]), case("PRELU", [x, w(1, 1, 5)]), case("ADD_N", [x, x, x])]
    found += [case("GELU", [x], "GeluOptions", approximate=a) for a in (False, True)]
    found += [case("LEAKY_RELU", [x], "LeakyReluOptions", alpha=0.2)]
    a, b = Given((2, 30), "int32", -9, 9), Given((2, 30), "int32", -4, -1)
    found += [case(code, [a, b], outs=INT32) for code in ("FLOOR_DIV", "FLOOR_MOD")]
    comparisons = "EQUAL NOT_EQUAL LESS LESS_EQUAL GREATER GREATER_EQUAL"
    found += [case(code, [Given((2, 30), "int32", 0, 3)] * 2, outs=BOOL) for code in comparisons.split()]
    truth = Given((2, 3), "bool", 0, 1)
    found += [case(code, [truth, truth], outs=BOOL) for code in ("LOGICAL_AND", "LOGICAL_OR")]
    found += [case("LOGICAL_NOT", [truth], outs=BOOL), case("SELECT_V2", [truth, Given((2, 3)), w(1)])]
    found += [case("SELECT", [Given((2,), "bool", 0, 1), Given((2, 3)), Given((2, 3))])]
    return found


def along_axes() -> list[Case]:
    x, row = Given((2, 3, 4, 5)), Given((2, 7))
    found = []
    for code in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"):
        found += [case(code, [x, i(*axes)], "ReducerOptions", keepDims=k) for axes in ((1, 2), (-1,)) for k in (False, True)]
    for code, table in (("ARG_MAX", "ArgMaxOptions"), ("ARG_MIN", "ArgMinOptions")):
        found += [case(code, [x, i(-1)], table, ((kind, None),), outputType=kind) for kind in ("int32", "int64")]
    found += [case("CUMSUM", [row, ONE], "CumsumOptions", exclusive=e, reverse=r) for e in (False, True) for r in (False, True)]
    return [
        *found,
        case("TOPK_V2", [row, np.array(3, np.int32)], outs=(("float32", None), ("int32", None))),
        case("SOFTMAX", [x], "SoftmaxOptions", beta=1.0),
        case("SOFTMAX", [row], "SoftmaxOptions", beta=2.0),
        case("LOG_SOFTMAX", [row]),
        case("L2_NORMALIZATION", [x], "L2NormOptions", **NONE),
        case("LOCAL_RESPONSE_NORMALIZATION", [x], "LocalResponseNormalizationOptions", radius=2, bias=1.0, alpha=0.3, beta=0.5),
    ]


def moving() -> list[Case]:
    x, three, parts = Given((2, 5, 6)), Given((2, 3, 4)), (("float32", None),) * 3
    found = []
    tables = {"RESIZE_BILINEAR": "ResizeBilinearOptions", "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions"}
    for code, table in tables.items():
        for corners, centres in ((False, False), (True, False), (False, True)):
            options = {"alignCorners": corners, "halfPixelCenters": centres}
            found += [case(code, [Given((2, 5, 4, 3)), i(*size)], table, **options) for size in ((9, 7), (2, 3), (10, 8))]
    slices = (
        ([0, 1, 1], [2, 4, -1], [1, 1, 2], {}),
        ([0, 1, 1], [0, 0, 0], [1, 1, 2], {"endMask": 7, "beginMask": 2}),
        ([0, -1, 5], [0, 0, 0], [1, 1, -2], {"endMask": 5, "beginMask": 1, "shrinkAxisMask": 2}),
        ([0, 0, 1], [0, 0, 3], [1, 1, 1], {"ellipsisMask": 1, "newAxisMask": 2}),
    )
    for begin, end, step, masks in slices:
        found.append(case("STRIDED_SLICE", [x, i(*begin), i(*end), i(*step)], "StridedSliceOptions", **{**MASKS, **masks}))
    each = {"axis": 1, "batchDims": 1}
    return [
        *found,
        case("RESHAPE", [three, i(2, -1)], "ReshapeOptions", newShape=[2, -1]),
        case("SQUEEZE", [Given((2, 1, 4, 1))], "SqueezeOptions", squeezeDims=[1]),
        case("EXPAND_DIMS", [Given((2, 4)), ONE]),
        case("TRANSPOSE", [three, i(2, 0, 1)]),
        case("CONCATENATION", [three, Given((2, 3, 1)), w(2, 3, 2)], "ConcatenationOptions", axis=-1, **NONE),
        case("SPLIT", [ONE, Given((2, 6, 4))], "SplitOptions", parts, numSplits=3),
        case("SPLIT_V", [Given((2, 6, 4)), i(1, -1, 2), ONE], "SplitVOptions", parts, numSplits=3),
        case("PACK", [three, three], "PackOptions", axis=1, valuesCount=2),
        case("UNPACK", [three], "UnpackOptions", parts, axis=1, num=3),
        case("PAD", [Given((2, 4)), MARGINS]),
        case("PADV2", [Given((2, 4)), MARGINS, np.array(3, np.float32)]),
        *(case("MIRROR_PAD", [Given((2, 4)), MARGINS], "MirrorPadOptions", mode=mode) for mode in (0, 1)),
        case("SLICE", [x, i(0, 1, 2), i(-1, 3, 1)]),
        case("GATHER", [x, i(1, 0, 0)], "GatherOptions", axis=1, batchDims=0),
        case("GATHER", [Given((3, 5, 2)), Given((3, 4), "int32", 0, 4)], "GatherOptions", **each),
        case("GATHER_ND", [Given((3, 5, 2)), Given((4, 2), "int32", 0, 2)]),
        case("EMBEDDING_LOOKUP", [Given((4,), "int32", 0, 4), w(5, 3)]),
        case("TILE", [Given((2, 3)), i(2, 3)]),
        case("REVERSE_V2", [three, i(1)]),
        case("DEPTH_TO_SPACE", [Given((2, 3, 4, 8))], "DepthToSpaceOptions", blockSize=2),
        case("SPACE_TO_DEPTH", [Given((2, 4, 6, 3))], "SpaceToDepthOptions", blockSize=2),
        case("SPACE_TO_BATCH_ND", [Given((2, 4, 6, 3)), i(2, 3), np.array([[1, 1], [2, 1]], np.int32)]),
        case("BATCH_TO_SPACE_ND", [Given((12, 3, 3, 3)), i(2, 3), np.array([[1, 1], [2, 1]], np.int32)]),
        case("CAST", [Given((2, 3), low=-5, high=5)], "CastOptions", INT32),
        case("SHAPE", [Given((2, 5))], "ShapeOptions", INT32, outType=2),
        case("FILL", [i(2, 3), Given(())]),
        case("FAKE_QUANT", [Given((2, 30))], "FakeQuantOptions", min=-1.0, max=2.0, numBits=8, narrowRange=False),
    ]


I8, O8, U8, I16 = per_tensor(0.05, -10), per_tensor(0.1, 5), per_tensor(0.05, 118, "uint8"), per_tensor(0.001, 0, "int16")


def weights(x: Quant, shape: tuple[int, ...], axis: int, bias: str = "int32") -> list[Stored]:
    """Weights of 8 bits with a scale for each output, and their bias."""
    n = shape[axis]
    scale = RANDOM.uniform(0.005, 0.015, n).astype(np.float32)
    zero = np.zeros(n, np.int64)
    quant = Quant(scale=scale, zero_point=zero, dtype="int8", axis=axis)
    kernel = Stored(RANDOM.integers(-127, 128, shape, dtype=np.int8), quant)
    added = RANDOM.integers(-2000, 2000, n).astype(bias)
    return [kernel, Stored(added, Quant(scale=scale * x.scale, zero_point=zero, dtype=bias))]


def quantised() -> list[Case]:
    def held(quant: Quant, *shape: int) -> Given:
        return Given(shape, quant.dtype, quant=quant)

    conv = {"padding": "SAME", "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    pool = {"padding": "SAME", "strideH": 2, "strideW": 2, "filterHeight": 3, "filterWidth": 2, **NONE}
    found = []
    for function in ("NONE", "RELU", "RELU6"):
        fused, outs = {"fusedActivationFunction": function}, (("int8", O8),)
        image, row = held(I8, 2, 6, 5, 3), held(I8, 2, 6)
        long = weights(I16, (4, 3, 3, 3), 0, "int64")
        found += [
            case("CONV_2D", [image, *weights(I8, (4, 3, 3, 3), 0)], "Conv2DOptions", outs, **conv, **fused),
            case("CONV_2D", [held(I16, 2, 6, 5, 3), *long], "Conv2DOptions", (("int16", I16),), **conv, **fused),
            case("DEPTHWISE_CONV_2D", [image, *weights(I8, (1, 3, 3, 6), 3)], "DepthwiseConv2DOptions", outs, **conv, **fused,
                 depthMultiplier=2),
            case("FULLY_CONNECTED", [row, *weights(I8, (4, 6), 0)], "FullyConnectedOptions", outs, keepNumDims=False, **fused),
            case("ADD", [image, held(O8, 2, 6, 5, 3)], "AddOptions", outs, **fused),
            case("MUL", [image, held(O8, 2, 6, 5, 3)], "MulOptions", outs, **fused),
            case("SUB", [held(U8, 2, 6), held(U8, 6)], "SubOptions", (("uint8", U8),), **fused),
        ]  # fmt: skip
    row, same = held(I8, 2, 9), (("int8", I8),)
    found += [case(code, [held(I8, 2, 9, 8, 3)], "Pool2DOptions", same, **pool) for code in ("AVERAGE_POOL_2D", "MAX_POOL_2D")]
    return [
        *found,
        case("MEAN", [held(I8, 2, 4, 4, 5), i(1, 2)], "ReducerOptions", (("int8", O8),), keepDims=False),
        case("SOFTMAX", [row], "SoftmaxOptions", (("int8", per_tensor(1 / 256, -128)),), beta=1.0),
        case("LOGISTIC", [row], outs=(("int8", per_tensor(1 / 256, -128)),)),
        case("TANH", [row], outs=(("int8", per_tensor(1 / 128, 0)),)),
        case("HARD_SWISH", [row], outs=(("int8", O8),)),
        case("RESHAPE", [row, i(9, 2)], "ReshapeOptions", same, newShape=[9, 2]),
        case("TRANSPOSE", [row, i(1, 0)], outs=same),
        case("CONCATENATION", [row, row], "ConcatenationOptions", same, axis=1, **NONE),
        case("PAD", [held(I8, 2, 4), MARGINS], outs=same),
        case("RESIZE_BILINEAR", [held(I8, 2, 5, 4, 3), i(9, 7)], "ResizeBilinearOptions", same, halfPixelCenters=True),
        case("QUANTIZE", [Given((2, 9), low=-8, high=8)], outs=same),
        case("QUANTIZE", [held(U8, 2, 9)], outs=(("int8", O8),)),
        case("DEQUANTIZE", [row]),
        case("ARG_MAX", [row, i(1)], "ArgMaxOptions", INT32, outputType="int32"),
    ]


CASES = [*windows(), *products(), *elementwise(), *along_axes(), *moving(), *quantised()]


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.code)
def test_single_operators(tmp_path: Path, one: Case) -> None:
    source, model = tmp_path / "model.tflite", tmp_path / "model.onnx"
    feeds = [operand.sample() for operand in one.operands if isinstance(operand, Given)]
    one.write(source, [()] * len(one.outs))
    one.write(source, [found.shape for found in litert(source, feeds, delegate=False)])  # LiteRT finds the shapes
    raise_to_onnx(source, model)
    onnx.checker.check_model(onnx.load(model), full_check=True)
    for want, got in zip(litert(source, feeds, delegate=False), ort(model, feeds), strict=True):
        assert (want.shape, want.dtype) == (got.shape, got.dtype)
        real = want.dtype == np.float32
        permitted = 1e-5 * max(np.abs(want).max(), 1e-3) if real else float(one.outs[0][1] is not None)
        assert np.abs(want.astype(float) - got.astype(float)).max() <= permitted


def test_weights_beside_float_activations_are_noted(tmp_path: Path) -> None:
    kernel = Stored(RANDOM.integers(-127, 128, (4, 6), dtype=np.int8), per_tensor(0.01, 0))
    one = case("FULLY_CONNECTED", [Given((2, 6)), kernel, w(4)], "FullyConnectedOptions", keepNumDims=False, **NONE)
    one.write(tmp_path / "model.tflite", [(2, 4)])
    report = raise_to_onnx(tmp_path / "model.tflite", tmp_path / "model.onnx")
    assert any("8 bits on the fly" in note for note in report.notes)


# -- there and back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["real", "integer", "quantised"])
def test_lowered_graphs_come_back(tmp_path: Path, kind: str) -> None:
    """Networks of several operators; those that either direction does not cover are counted."""
    draw, nodes = {"real": (random_graph, 4), "integer": (integer_graph, 4), "quantised": (quantised_graph, 1)}[kind]
    seen: Counter[str] = Counter()
    for seed in range(100):
        model, feeds = draw(seed, nodes)
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        try:
            want = reference(model, feeds)
            lower(tmp_path / "model.onnx", tmp_path / "model.tflite")
            raise_to_onnx(tmp_path / "model.tflite", tmp_path / "back.onnx")
        except (Rejected, ModelError) as exc:
            seen[type(exc).__name__] += 1
            continue
        got = reference(onnx.load(tmp_path / "back.onnx"), feeds)
        seen["compared"] += 1
        for name in want:
            steps = 1 if kind == "quantised" else 0
            assert difference(want[name], got[name], steps=steps, smallest=0.01) is None, f"{seed}: {name}"
            if kind == "real" and want[name].dtype == np.float32:
                assert np.nanmax(np.abs(want[name] - got[name])) <= 1e-5 * max(np.nanmax(np.abs(want[name])), 1.0), seed
    print(dict(seen))
    assert seen["compared"] >= 80


# -- bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "truncated"), (b"TFL3", "truncated"), (b"\x08\x00\x00\x00ONNX" * 9, "not a LiteRT file")]
)
def test_foreign_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "model.tflite").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        raise_to_onnx(tmp_path / "model.tflite", tmp_path / "model.onnx")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read"):
        raise_to_onnx(tmp_path / "none.tflite", tmp_path / "model.onnx")


def test_operators_that_are_not_covered_are_named(tmp_path: Path) -> None:
    case("ATAN2", [Given((2, 3)), Given((2, 3))]).write(tmp_path / "model.tflite", [(2, 3)])
    with pytest.raises(ModelError, match="no ONNX form for ATAN2"):
        raise_to_onnx(tmp_path / "model.tflite", tmp_path / "model.onnx")


def test_damaged_files_import_or_are_refused(shared_data: Path, tmp_path: Path) -> None:
    whole = (shared_data / "mlperf_tiny" / f"{INT8}.tflite").read_bytes()
    random, source = np.random.default_rng(0), tmp_path / "model.tflite"
    refused = 0
    for number in range(400):
        data = bytearray(whole)
        if number % 8 == 0:
            data = data[: int(random.integers(0, len(data)))]
        else:
            data[int(random.integers(0, len(data)))] ^= 1 << int(random.integers(0, 8))
        source.write_bytes(data)
        try:
            raise_to_onnx(source, tmp_path / "model.onnx")
        except ModelError:
            refused += 1
    assert refused >= 50
