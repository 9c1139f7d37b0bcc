"""LiteRT: the suite that every runtime passes, on graphs written here by hand, and the published networks."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper

from dovetail.core.errors import DataError, InputError, ModelError
from dovetail.core.measurement import Environment
from dovetail.core.protocols import Array, Model, Runtime, Session
from dovetail.core.recipe import Scalar
from dovetail.runtimes.litert import LiteRt
from dovetail.runtimes.onnxruntime import OnnxRuntime
from dovetail.testing.models import CASES, Case
from dovetail.testing.runtime_suite import RuntimeConformance

OPS, OPTIONS, TYPES = schema.BuiltinOperator, schema.BuiltinOptions, schema.TensorType
RELU = schema.ActivationFunctionType.RELU
FLOAT, INT8 = "mlperf_tiny/pretrainedResnet.tflite", "mlperf_tiny/pretrainedResnet_quant.tflite"


class Graph:
    """Writes a LiteRT file operator by operator. Tensors bear other names than the signature gives to inputs and outputs."""

    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]
        self.operators: list[Any] = []
        self.codes: list[Any] = []
        self.branches: list[Graph] = []
        self.ports: tuple[list[int], list[int]] = ([], [])

    def branch(self) -> "Graph":
        """Another graph of the same file."""
        other = Graph()
        other.buffers, other.codes = self.buffers, self.codes
        self.branches.append(other)
        return other

    def tensor(self, *shape: int, dtype: int = TYPES.FLOAT32, data: Array | None = None, batch: bool = False) -> int:
        signature = [-1, *shape[1:]] if batch else None
        if data is not None:
            self.buffers.append(schema.BufferT(data=np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)))
        buffer, name = (0 if data is None else len(self.buffers) - 1), f"tensor_{len(self.tensors)}"
        made = schema.TensorT(shape=list(shape), type=dtype, buffer=buffer, name=name, shapeSignature=signature)
        self.tensors.append(made)
        return len(self.tensors) - 1

    def constant(self, value: Array) -> int:
        kinds = {"float32": TYPES.FLOAT32, "float16": TYPES.FLOAT16, "int32": TYPES.INT32}
        return self.tensor(*value.shape, dtype=kinds[value.dtype.name], data=value)

    def add(
        self, code: int, inputs: Sequence[int], *shape: int, table: str = "", version: int = 1, custom: str = "", **options: Any
    ) -> int:
        """Appends an operator with one output of this shape and returns that."""
        batch = any(i >= 0 and self.tensors[i].shapeSignature is not None for i in inputs)
        output = self.tensor(*shape, batch=batch)
        code_table = schema.OperatorCodeT(
            deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version, customCode=custom or None
        )
        self.codes.append(code_table)
        made = schema.OperatorT(opcodeIndex=len(self.codes) - 1, inputs=list(inputs), outputs=[output])
        if table:
            made.builtinOptionsType, made.builtinOptions = getattr(OPTIONS, table), getattr(schema, f"{table}T")(**options)
        self.operators.append(made)
        return output

    def dense(self, x: int, weights: Array, bias: Array | None = None, relu: bool = False) -> int:
        """``weights`` are ``[out, in]``."""
        inputs = [x, self.constant(weights), -1 if bias is None else self.constant(bias)]
        shape = (*self.tensors[x].shape[:-1], weights.shape[0])
        activation = RELU if relu else 0
        return self.add(OPS.FULLY_CONNECTED, inputs, *shape, table="FullyConnectedOptions", fusedActivationFunction=activation)

    def save(self, path: Path, inputs: dict[str, int], outputs: dict[str, int], signature: bool = True) -> Path:
        self.ports = list(inputs.values()), list(outputs.values())
        graphs = [
            schema.SubGraphT(tensors=g.tensors, inputs=g.ports[0], outputs=g.ports[1], operators=g.operators, name="graph")
            for g in (self, *self.branches)
        ]
        maps = [[schema.TensorMapT(name=name, tensorIndex=index) for name, index in side.items()] for side in (inputs, outputs)]
        named = schema.SignatureDefT(inputs=maps[0], outputs=maps[1], signatureKey="serving_default", subgraphIndex=0)
        model = schema.ModelT(
            version=3,
            operatorCodes=self.codes,
            subgraphs=graphs,
            buffers=self.buffers,
            signatureDefs=[named] if signature else None,
        )
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), b"TFL3")
        path.write_bytes(builder.Output())
        return path


Constants = dict[str, Array]
Ports = tuple[dict[str, int], dict[str, int]]


def write_conv_net(g: Graph, c: Constants) -> Ports:
    scale = c["s"] / np.sqrt(c["v"] + np.float32(1e-5))
    x = g.tensor(1, 3, 16, 16)
    nhwc = g.add(OPS.TRANSPOSE, [x, g.constant(np.array([0, 2, 3, 1], np.int32))], 1, 16, 16, 3, table="TransposeOptions")
    kernel, bias = c["w0"].transpose(0, 2, 3, 1) * scale.reshape(8, 1, 1, 1), c["b"] - c["m"] * scale
    window = {"padding": schema.Padding.SAME, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    filters = [nhwc, g.constant(kernel), g.constant(bias)]
    r = g.add(OPS.CONV_2D, filters, 1, 16, 16, 8, table="Conv2DOptions", fusedActivationFunction=RELU, **window)
    depthwise = [r, g.constant(c["w1"].transpose(1, 2, 3, 0)), g.constant(np.zeros(8, np.float32))]
    d = g.add(OPS.DEPTHWISE_CONV_2D, depthwise, 1, 16, 16, 8, table="DepthwiseConv2DOptions", depthMultiplier=1, **window)
    a = g.add(OPS.ADD, [d, r], 1, 16, 16, 8, table="AddOptions")
    pool = {"padding": schema.Padding.VALID, "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
    p = g.add(OPS.MAX_POOL_2D, [a], 1, 8, 8, 8, table="Pool2DOptions", **pool)
    f = g.add(OPS.MEAN, [p, g.constant(np.array([1, 2], np.int32))], 1, 8, table="ReducerOptions")
    y = g.add(OPS.SOFTMAX, [g.dense(f, c["w2"], c["b2"])], 1, 10, table="SoftmaxOptions", beta=1.0)
    return {"x": x}, {"y": y}


def write_mlp(g: Graph, c: Constants) -> Ports:
    x = g.tensor(1, 32, batch=True)
    return {"x": x}, {"y": g.dense(g.dense(x, c["w0"], c["b0"], relu=True), c["w1"].T)}


def write_two_inputs(g: Graph, c: Constants) -> Ports:
    b, a = g.tensor(2, 3), g.tensor(3, 4)
    z = g.add(OPS.BATCH_MATMUL, [b, a], 2, 4, table="BatchMatMulOptions")
    y = g.add(OPS.MEAN, [z, g.constant(np.array([1], np.int32))], 2, table="ReducerOptions")
    return {"b": b, "a": a}, {"z": z, "y": y}


def write_token_input(g: Graph, c: Constants) -> Ports:
    ids, last = g.tensor(1, 6, dtype=TYPES.INT64), g.constant(np.array([2], np.int32))
    e = g.add(OPS.GATHER, [g.constant(c["table"]), ids], 1, 6, 12, table="GatherOptions", axis=0)
    centred = g.add(OPS.SUB, [e, g.add(OPS.MEAN, [e, last], 1, 6, 1, table="ReducerOptions", keepDims=True)], 1, 6, 12)
    squares = g.add(OPS.MUL, [centred, centred], 1, 6, 12)
    variance = g.add(OPS.MEAN, [squares, last], 1, 6, 1, table="ReducerOptions", keepDims=True)
    steady = g.add(OPS.ADD, [variance, g.constant(np.array([1e-5], np.float32))], 1, 6, 1)
    n = g.add(OPS.MUL, [centred, g.add(OPS.RSQRT, [steady], 1, 6, 1)], 1, 6, 12)
    scaled = g.add(OPS.ADD, [g.add(OPS.MUL, [n, g.constant(c["scale"])], 1, 6, 12), g.constant(c["bias"])], 1, 6, 12)
    y = g.add(OPS.MEAN, [scaled, g.constant(np.array([1], np.int32))], 1, 12, table="ReducerOptions")
    return {"ids": ids}, {"y": y}


def write_scalar_input(g: Graph, c: Constants) -> Ports:
    x, gain = g.tensor(3, 4), g.tensor()
    return {"x": x, "gain": gain}, {"y": g.add(OPS.MUL, [x, gain], 3, 4)}


def write_with_state(g: Graph, c: Constants) -> Ports:
    x, state = g.tensor(1, 8), g.tensor(1, 16)
    total = g.add(OPS.ADD, [g.dense(x, c["w"].T), g.dense(state, c["u"].T)], 1, 16)
    out = g.add(OPS.TANH, [total], 1, 16)
    return {"x": x, "state": state}, {"y": g.dense(out, c["v"].T), "state_out": out}


WRITERS: dict[str, Callable[[Graph, Constants], Ports]] = {
    "conv_net": write_conv_net,
    "mlp": write_mlp,
    "two_inputs": write_two_inputs,
    "token_input": write_token_input,
    "scalar_input": write_scalar_input,
    "with_state": write_with_state,
}
NAMES = {make().proto.SerializeToString(): name for name, make in CASES.items()}


def save(case: Case, folder: Path) -> Model:
    """A case of the suite as a LiteRT file with the same names and weights."""
    graph = Graph()
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in case.proto.graph.initializer}
    ports = WRITERS[NAMES[case.proto.SerializeToString()]](graph, constants)
    return Model(path=graph.save(folder / "model.tflite", *ports), format="litert")


def single(code: int, path: Path, **kind: Any) -> Model:
    """A file with one operator from four numbers to four."""
    graph = Graph()
    x = graph.tensor(1, 4)
    return Model(path=graph.save(path, {"x": x}, {"y": graph.add(code, [x], 1, 4, **kind)}), format="litert")


class LiteRtConformance(RuntimeConformance):
    """The suite on LiteRT files: where it saves an ONNX model, the same graph is saved for LiteRT."""

    runtime: ClassVar[Runtime] = LiteRt()

    def save(self, case: Case, folder: Path) -> Model:
        return save(case, folder)

    def save_unknown(self, folder: Path) -> Model:
        return single(OPS.CUSTOM, folder / "model.tflite", custom="Frobnicate")


class TestLiteRt(LiteRtConformance):
    options = {"threads": 1}


class TestLiteRtThreads(LiteRtConformance):
    options = {"threads": 2}


class TestLiteRtPlainKernels(LiteRtConformance):
    options = {"xnnpack": False}


def load(path: Path, **options: Scalar) -> Session:
    return LiteRt().build(Model(path=path, format="litert"), options)


def test_the_search_tries_all_cores_because_litert_itself_takes_one() -> None:
    def threads(cores: int) -> tuple[Scalar, ...]:
        here = Environment(fingerprint="", cpu="", cores=cores, isa=(), memory_bytes=1e9, os="", python="")
        (knob,) = (knob for knob in LiteRt().knobs(here) if knob.name == "threads")
        return knob.choices

    assert threads(1) == (None,)
    assert threads(2) == (None, 2)
    assert threads(8) == (None, 8, 4, 2)


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"threads": True}, {"xnnpack": 1}, {"spinning": True}])
def test_options_are_checked(wrong: dict[str, Scalar], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        LiteRt().build(single(OPS.ABS, tmp_path / "model.tflite"), wrong)


def test_without_a_signature_tensors_have_their_own_names(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.tensor(1, 4)
    session = load(graph.save(tmp_path / "m.tflite", {"x": x}, {"y": graph.add(OPS.ABS, [x], 1, 4)}, signature=False))
    assert [spec.name for spec in (*session.inputs, *session.outputs)] == ["tensor_0", "tensor_1"]
    np.testing.assert_array_equal(session.run({"tensor_0": -np.ones((1, 4), np.float32)})[0], np.ones((1, 4)))


def test_one_tensor_may_be_several_outputs_and_an_input_may_pass_through(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.tensor(1, 4)
    y = graph.add(OPS.ABS, [x], 1, 4)
    session = load(graph.save(tmp_path / "m.tflite", {"x": x}, {"a": y, "b": y, "same": x}))
    assert [spec.name for spec in session.outputs] == ["a", "b", "same"]
    feed = np.array([[-1, 2, -3, 4]], np.float32)
    first, second, same = session.run({"x": feed})
    first[...] = 0
    np.testing.assert_array_equal(second, np.abs(feed))
    np.testing.assert_array_equal(same, feed)


def test_a_feed_is_never_broadcast(tmp_path: Path) -> None:
    session = load(save(CASES["scalar_input"](), tmp_path).path)
    x, gain = np.ones((3, 4), np.float32), np.array(2, np.float32)
    for bad in ({"x": x[:1], "gain": gain}, {"x": x, "gain": gain.reshape(1)}, {"x": gain, "gain": gain}):
        with pytest.raises(DataError, match="shape"):
            session.run(bad)
    np.testing.assert_array_equal(session.run({"x": x, "gain": gain})[0], 2 * x)


def test_a_size_that_cannot_be_leaves_the_session_usable(shared_data: Path) -> None:
    session = load(shared_data / FLOAT)
    name, images = session.inputs[0].name, np.random.default_rng(0).random((3, 32, 32, 3), dtype=np.float32)
    before = session.run({name: images[:1]})[0]
    with pytest.raises(ModelError):
        session.run({name: images[:0]})
    np.testing.assert_array_equal(session.run({name: images[:1]})[0], before)
    np.testing.assert_allclose(session.run({name: images})[0][:1], before, atol=1e-6)


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load(path)
    return str(caught.value)


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    assert "no such file" in refusal(path)
    path.write_bytes(b"")
    assert "TFL3" in refusal(path)
    single(OPS.CUSTOM, path, custom="FlexErf")
    assert "no operator FlexErf" in refusal(path)
    single(OPS.ABS, path, version=99)
    assert "no operator ABS in version 99" in refusal(path)
    single(OPS.CONV_2D, path)
    assert "CONV_2D" in refusal(path)
    graph = Graph()
    x = graph.tensor(1, 4)
    y = graph.add(OPS.ABS, [x], 1, 4)
    graph.operators[0].inputs = [77]
    assert "77" in refusal(graph.save(path, {"x": x}, {"y": y}))


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_refused(share: float, shared_data: Path, tmp_path: Path) -> None:
    whole = (shared_data / INT8).read_bytes()
    path = tmp_path / "model.tflite"
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "damaged or cut short" in refusal(path)


def images(shared_data: Path, count: int) -> Array:
    stored = np.load(shared_data / "cifar10/cifar10_test_mini1000.npz", allow_pickle=False)
    return np.asarray(stored["x"][:count])


@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"xnnpack": False}], ids=str)
def test_the_published_int8_network_answers_as_its_onnx_form(options: dict[str, Scalar], shared_data: Path) -> None:
    """Kernels round in different places, and softmax makes much of it where two classes are close: the class agrees."""
    session = load(shared_data / INT8, **options)
    other = OnnxRuntime().build(Model(path=shared_data / "mlperf_tiny/resnet8_cifar10_int8_qdq.onnx"), {"threads": 1})
    assert [(spec.name, spec.dtype, spec.shape) for spec in session.inputs] == [("input_1_int8", "int8", (None, 32, 32, 3))]
    assert [(spec.name, spec.dtype, spec.shape) for spec in session.outputs] == [("Identity_int8", "int8", (None, 10))]
    feeds = [{"input_1_int8": (image[None].astype(np.int16) - 128).astype(np.int8)} for image in images(shared_data, 300)]
    classes, expected = ([run(feed)[0].argmax() for feed in feeds] for run in (session.run, other.run))
    assert np.mean(np.equal(classes, expected)) >= 0.97


def test_the_published_float_network_computes_what_its_onnx_form_does(shared_data: Path) -> None:
    session = load(shared_data / FLOAT)
    other = OnnxRuntime().build(Model(path=shared_data / "mlperf_tiny/resnet8_cifar10.onnx"), {"threads": 1})
    for image in images(shared_data, 50).astype(np.float32):
        (expected,) = other.run({"input": image[None].transpose(0, 3, 1, 2)})
        np.testing.assert_allclose(session.run({"input_1": image[None]})[0], expected, atol=1e-5)


def test_a_batch_gives_what_its_images_give_alone(shared_data: Path) -> None:
    session = load(shared_data / FLOAT)
    batch = images(shared_data, 8).astype(np.float32)
    alone = np.concatenate([session.run({"input_1": image[None]})[0] for image in batch])
    np.testing.assert_allclose(session.run({"input_1": batch})[0], alone, atol=1e-5)
    np.testing.assert_array_equal(session.run({"input_1": batch[:1]})[0], alone[:1])


@pytest.mark.parametrize(("name", "dtype"), [(FLOAT, "float32"), (INT8, "int8")])
def test_profile_names_every_operator(name: str, dtype: str, shared_data: Path) -> None:
    session = load(shared_data / name)
    feed = np.zeros((1, 32, 32, 3), dtype)
    profile = session.profile({session.inputs[0].name: feed}, repeats=20)
    assert profile is not None and profile.threads == 1
    counts = {kind: count for kind, (count, _) in profile.by_kind().items()}
    kinds = {"CONV_2D": 9, "ADD": 3, "AVERAGE_POOL_2D": 1, "RESHAPE": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1}
    assert counts == kinds
    assert all(kernel.dtype == dtype and kernel.sources == (kernel.name,) for kernel in profile.kernels)
    assert all(kernel.implementation == "XNNPACK" for kernel in profile.kernels if kernel.kind == "CONV_2D")
    assert profile.kernels[-1].name == session.outputs[0].name
    slowest = max(profile.kernels, key=lambda kernel: kernel.time_s)
    assert slowest.kind == "CONV_2D" and profile.kernel_s > 0


def test_profile_times_two_of_many_operators_that_are_alike(tmp_path: Path) -> None:
    graph, rng = Graph(), np.random.default_rng(0)
    x = graph.tensor(1, 64)
    y = x
    for _ in range(4):
        weights = graph.constant(rng.normal(size=(64, 64)).astype(np.float32))
        y = graph.add(OPS.FULLY_CONNECTED, [y, weights, -1], 1, 64, table="FullyConnectedOptions")
    session = load(graph.save(tmp_path / "m.tflite", {"x": x}, {"y": y}))
    profile = session.profile({"x": np.ones((1, 64), np.float32)}, repeats=5)
    assert profile is not None
    times = [kernel.time_s for kernel in profile.kernels]
    assert len(times) == 4 and times[2] == times[3] == pytest.approx((times[0] + times[1]) / 2)
    assert len({kernel.name for kernel in profile.kernels}) == 4


def test_profile_takes_other_sizes_tokens_and_plain_kernels(tmp_path: Path) -> None:
    case = CASES["mlp"]()
    session = load(save(case, tmp_path).path, xnnpack=False)
    session.run({"x": np.zeros((5, 32), np.float32)})
    profile = session.profile(case.feeds, repeats=5)
    assert profile is not None
    assert [(k.kind, k.implementation) for k in profile.kernels] == [("FULLY_CONNECTED", "builtin")] * 2
    case = CASES["token_input"]()
    tokens = load(save(case, tmp_path).path).profile(case.feeds, repeats=5)
    assert tokens is not None
    assert [kernel.kind for kernel in tokens.kernels][:3] == ["GATHER", "MEAN", "SUB"]
    assert not any(kernel.constant for kernel in tokens.kernels)


def test_profile_counts_weights_in_half_precision_with_the_operator_that_reads_them(tmp_path: Path) -> None:
    graph, rng = Graph(), np.random.default_rng(0)
    x, half = graph.tensor(1, 8), rng.normal(size=(4, 8)).astype(np.float16)
    weights = graph.add(OPS.DEQUANTIZE, [graph.constant(half)], 4, 8)
    y = graph.add(OPS.FULLY_CONNECTED, [x, weights, -1], 1, 4, table="FullyConnectedOptions")
    twice = graph.add(OPS.ADD, [graph.constant(np.ones(4, np.float32)), graph.constant(np.ones(4, np.float32))], 4)
    out = graph.add(OPS.ADD, [y, twice], 1, 4)
    session = load(graph.save(tmp_path / "m.tflite", {"x": x}, {"y": out}))
    feed = rng.normal(size=(1, 8)).astype(np.float32)
    np.testing.assert_allclose(session.run({"x": feed})[0], feed @ half.T.astype(np.float32) + 2, atol=1e-3)
    profile = session.profile({"x": feed}, repeats=5)
    assert profile is not None
    assert [(k.kind, k.constant) for k in profile.kernels] == [("FULLY_CONNECTED", False), ("ADD", True), ("ADD", False)]


def test_profile_runs_operators_that_keep_state_or_hold_graphs(tmp_path: Path) -> None:
    graph, rng = Graph(), np.random.default_rng(0)
    x, state = graph.tensor(1, 8), graph.tensor(1, 12)
    graph.tensors[state].isVariable = True
    feature, time = (graph.constant(rng.normal(size=shape).astype(np.float32)) for shape in ((4, 8), (4, 3)))
    y = graph.add(OPS.SVDF, [x, feature, time, -1, state], 1, 4, table="SVDFOptions", rank=1)
    condition = graph.tensor(dtype=TYPES.BOOL)
    for code in (OPS.ABS, OPS.NEG):
        branch = graph.branch()
        inner = branch.tensor(1, 4)
        branch.ports = [inner], [branch.add(code, [inner], 1, 4)]
    z = graph.add(OPS.IF, [condition, y], 1, 4, table="IfOptions", thenSubgraphIndex=1, elseSubgraphIndex=2)
    path = graph.save(tmp_path / "m.tflite", {"x": x, "condition": condition}, {"z": z})
    feeds = {"x": rng.normal(size=(1, 8)).astype(np.float32), "condition": np.array(True)}
    assert (load(path).run(feeds)[0] >= 0).all()
    profile = load(path).profile(feeds, repeats=5)
    assert profile is not None
    assert [kernel.kind for kernel in profile.kernels] == ["SVDF", "IF"]


DEPLOYED = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("a socket was opened")
socket.socket = socket.create_connection = refuse
sys.path.insert(0, {folder!r})
{before}
import numpy as np, run
session = run.Session({model!r})
(name, dtype, shape), = session.inputs
print(name, dtype, shape[1], session.run({{name: np.zeros((1, 32, 32, 3), dtype)}})[0].shape)
assert not [m for m in sys.modules if m.startswith(("dovetail", "torch", "onnx", "tensorflow"))]
"""
BOARD = """
import ai_edge_litert.interpreter, types
sys.modules["tflite_runtime"] = types.ModuleType("tflite_runtime")
sys.modules["tflite_runtime.interpreter"] = sys.modules["ai_edge_litert.interpreter"]
sys.modules["ai_edge_litert.interpreter"] = None
"""


@pytest.mark.parametrize("before", ["", BOARD], ids=["litert", "tflite_runtime"])
def test_a_deployed_session_loads_nothing_of_ours_and_opens_no_socket(before: str, shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(LiteRt().run_source({"threads": 1}))
    shutil.copy(shared_data / FLOAT, tmp_path / "model.tflite")
    code = DEPLOYED.format(folder=str(tmp_path), model=str(tmp_path / "model.tflite"), before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["input_1", "float32", "32", "(1,", "10)"], done.stderr
