"""Data and models for the tests of training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dovetail.core.measurement import Environment
from dovetail.core.protocols import Array, Feeds, Model, Sample

ENVIRONMENT = Environment(fingerprint="", cpu="", cores=1, isa=(), memory_bytes=1e9, os="", python="")


class Arrays:
    """A data set in memory; arrays have an axis over samples, lists hold a feed per sample."""

    name = "training"
    content_hash = "0"

    def __init__(
        self, feeds: dict[str, Array | list[Array]], labels: Array | None = None, groups: Array | None = None
    ) -> None:
        self.feeds, self.labels = feeds, labels
        self.count = len(next(iter(feeds.values())))
        self.groups = np.arange(self.count) if groups is None else groups

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int) -> Sample:
        label = None if self.labels is None else self.labels[index]
        return Sample(feeds={name: np.array(feed[index])[None] for name, feed in self.feeds.items()}, label=label)

    def batch(self, indices: Sequence[int]) -> Feeds | None:
        rows = {name: [np.array(feed[i]) for i in indices] for name, feed in self.feeds.items()}
        if any(len({row.shape for row in column}) > 1 for column in rows.values()):
            return None
        return {name: np.stack(column) for name, column in rows.items()}


def digits(labels: bool = True, flat: bool = True) -> tuple[Arrays, Array, Array]:
    """Training samples of scikit-learn's digits, 0 to 1, and test images with labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x = (data.images[order] / 16).astype(np.float32)
    x = x.reshape(len(x), 64) if flat else x[:, None]
    y = data.target[order].astype(np.int64)
    return Arrays({"x": x[:1400]}, y[:1400] if labels else None), x[1400:], y[1400:]


def _tensors(seed: int, **shapes: tuple[int, ...]) -> list[onnx.TensorProto]:
    rng = np.random.default_rng(seed)
    return [
        numpy_helper.from_array((rng.normal(0, (2 / max(1, np.prod(s[1:]))) ** 0.5, s)).astype(np.float32), n)
        for n, s in shapes.items()
    ]


def _saved(path: Path, nodes: list[onnx.NodeProto], shape: list[int | str], weights: list[onnx.TensorProto]) -> Model:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return Model(path=path)


def mlp(path: Path, seed: int = 0, softmax: bool = False, width: int = 48) -> Model:
    """64 → width → 10 with random weights."""
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["h"], transB=1, name="first"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w1", "b1"], ["logits" if softmax else "y"], transB=1, name="second"),
    ]
    nodes += [helper.make_node("Softmax", ["logits"], ["y"], axis=-1)] if softmax else []
    zeros = [numpy_helper.from_array(np.zeros(size, np.float32), name) for name, size in (("b0", width), ("b1", 10))]
    return _saved(path, nodes, ["n", 64], [*_tensors(seed, w0=(width, 64), w1=(10, width)), *zeros])


def cnn(path: Path, seed: int = 0) -> Model:
    """Two convolutions with batch normalisation on 8 × 8 images, random weights."""
    nodes, weights = [], _tensors(seed, c0=(8, 1, 3, 3), c1=(16, 8, 3, 3), w=(10, 256))
    below = "x"
    for i, width in ((0, 8), (1, 16)):
        nodes += [
            helper.make_node("Conv", [below, f"c{i}"], [f"a{i}"], pads=[1, 1, 1, 1], strides=[1 + i, 1 + i]),
            helper.make_node("BatchNormalization", [f"a{i}", f"s{i}", f"t{i}", f"m{i}", f"v{i}"], [f"n{i}"]),
            helper.make_node("Relu", [f"n{i}"], [f"r{i}"]),
        ]
        below = f"r{i}"
        for name, value in (("s", 1), ("t", 0), ("m", 0), ("v", 1)):
            weights.append(numpy_helper.from_array(np.full(width, value, np.float32), f"{name}{i}"))
    nodes += [
        helper.make_node("Flatten", [below], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1),
    ]
    weights.append(numpy_helper.from_array(np.zeros(10, np.float32), "b"))
    return _saved(path, nodes, ["n", 1, 8, 8], weights)


def answers(model: Model, x: Array) -> Array:
    """First output of a model file."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return ort.InferenceSession(str(model.path), options).run(None, {"x": x})[0]
