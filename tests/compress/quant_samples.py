"""Data and models for the tests of quantisation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from dovetail.core.measurement import Environment
from dovetail.core.protocols import Array, Feeds, Model, Pass, PassContext, Sample

ENVIRONMENT = Environment(fingerprint="", cpu="", cores=1, isa=(), memory_bytes=1e9, os="", python="")
CIFAR_MEAN, CIFAR_STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


class Samples:
    """A dataset in memory."""

    name = "calibration"
    content_hash = ""

    def __init__(self, feeds: Sequence[Feeds], labels: Array | None = None) -> None:
        self.feeds, self.labels, self.groups = list(feeds), labels, np.arange(len(feeds))

    def __len__(self) -> int:
        return len(self.feeds)

    def sample(self, index: int) -> Sample:
        return Sample(feeds=self.feeds[index])

    def batch(self, indices: Sequence[int]) -> Feeds | None:
        return {k: np.concatenate([self.feeds[i][k] for i in indices]) for k in self.feeds[0]}


def cifar(data: Path, network: str, start: int, count: int) -> Samples:
    file = np.load(data / "cifar10/cifar10_test.npz")
    images, labels = file["x"][start : start + count].astype(np.float32), file["y"][start : start + count]
    if network != "resnet8":
        images = (images / 255 - CIFAR_MEAN) / CIFAR_STD
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    return Samples([{"input": image[None]} for image in images], labels)


def folded(source: Path, folder: Path) -> Model:
    """The model with batch norms and constants folded, as passes find it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / source.name)
    options.log_severity_level = 3
    ort.InferenceSession(str(source), options)
    return Model(path=folder / source.name)


def resnet(data: Path, network: str, folder: Path) -> Model:
    sources = {"resnet8": "mlperf_tiny/resnet8_cifar10.onnx", "resnet20": "cifar10_resnets/resnet20_cifar10.onnx"}
    return folded(data / sources[network], folder)


def apply(step: Pass, model: Model, folder: Path, data: Samples | None = None, **config: object) -> Model:
    workdir = folder / step.name
    workdir.mkdir(exist_ok=True)
    return step.apply(model, PassContext(workdir=workdir, environment=ENVIRONMENT, calibration=data, config=config))


def run(model: Model, samples: Samples, optimised: Path | None = None) -> list[Array]:
    """First output of every sample; writes the graph that ONNX Runtime really runs to ``optimised``."""
    if model.format == "openvino":
        import openvino

        compiled = openvino.Core().compile_model(model.path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return [compiled(dict(f))[0] for f in samples.feeds]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    session = ort.InferenceSession(str(model.path), options)
    return [session.run(None, dict(f))[0] for f in samples.feeds]


def accuracy(outputs: list[Array], samples: Samples) -> float:
    return float(np.mean(np.concatenate(outputs).argmax(axis=1) == samples.labels))


def sqnr_db(reference: list[Array], other: list[Array]) -> float:
    noise = sum(float(((a - b) ** 2).sum()) for a, b in zip(reference, other, strict=True))
    return 10 * float(np.log10(sum(float((a**2).sum()) for a in reference) / noise))


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def transformer(path: Path, width: int = 32) -> Model:
    """One attention block with two inputs of dynamic length, a mask of -3.4e38, and outlier channels."""
    rng = np.random.default_rng(0)
    shapes = {"q": (1, 1), "k": (1, 1), "v": (1, 1), "o": (1, 1), "f1": (1, 4), "f2": (4, 1)}
    arrays = {k: rng.normal(0, (a * width) ** -0.5, (a * width, b * width)).astype(np.float32) for k, (a, b) in shapes.items()}
    gain = np.ones(width, np.float32)
    gain[3], gain[17] = 40, 25
    arrays |= {"gain": gain, "shift": np.zeros(width, np.float32), "scale": np.array(width**-0.5, np.float32)}
    arrays |= {"low": np.array(-3.4e38, np.float32), "one": np.array(1, np.float32)}
    node = helper.make_node
    nodes = [
        node("LayerNormalization", ["x", "gain", "shift"], ["n1"], axis=-1),
        *(node("MatMul", ["n1", k], [k.upper()]) for k in "qkv"),
        node("Transpose", ["K"], ["Kt"], perm=[0, 2, 1]),
        node("MatMul", ["Q", "Kt"], ["scores"]),
        node("Mul", ["scores", "scale"], ["scaled"]),
        node("Sub", ["one", "mask"], ["inverse"]),
        node("Mul", ["inverse", "low"], ["penalty"]),
        node("Add", ["scaled", "penalty"], ["masked"]),
        node("Softmax", ["masked"], ["p"], axis=-1),
        node("MatMul", ["p", "V"], ["context"]),
        node("MatMul", ["context", "o"], ["projected"]),
        node("Add", ["projected", "x"], ["residual"]),
        node("LayerNormalization", ["residual", "gain", "shift"], ["n2"], axis=-1),
        node("MatMul", ["n2", "f1"], ["hidden"]),
        node("Relu", ["hidden"], ["active"]),
        node("MatMul", ["active", "f2"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "s", width]),
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n", 1, "s"]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "s", width])]
    graph = helper.make_graph(nodes, "block", inputs, outputs, [numpy_helper.from_array(v, k) for k, v in arrays.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return Model(path=path)


def sequences(count: int = 12, width: int = 32) -> Samples:
    """Sequences of differing length, the last two positions masked."""
    rng = np.random.default_rng(1)
    feeds = []
    for index in range(count):
        mask = np.ones((1, 1, 8 + index % 3), np.float32)
        mask[..., -2:] = 0
        feeds.append({"x": rng.normal(0, 1, (1, mask.shape[2], width)).astype(np.float32), "mask": mask})
    return Samples(feeds)
