"""Small networks that a machine is calibrated with: between them the operators, shapes and neighbourhoods of common models.

They are random, and the same on every machine. Weights are random too: no kernel's time depends on them.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET = 17
_IR_VERSION = 8
_MOST_FLOP = 1.2e9
"""Of one network, so that none takes longer than some tens of milliseconds."""
_MOST_FLOP_WHOLE = 4.5e9
"""Of one as deep as those in use: what it works on does not stay in the caches from one layer to the next."""
_SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeNetwork:
    """One network; ``kind`` is what it resembles."""

    name: str
    kind: str
    proto: onnx.ModelProto


class Net:
    """A network under construction, value by value, with the shape of each."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.flop = 0.0
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._shapes: dict[str, tuple[int, ...]] = {}

    def pick(self, *choices: int) -> int:
        """One of them."""
        return int(self.rng.choice(choices))

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a value."""
        return self._shapes[name]

    def input(self, *shape: int, dtype: int = TensorProto.FLOAT) -> str:
        """A new input."""
        name = f"input_{len(self._inputs)}"
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        self._shapes[name] = shape
        return name

    def constant(self, value: NDArray[np.float32] | NDArray[np.int64]) -> str:
        """A stored value."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(value, name))
        self._shapes[name] = value.shape
        return name

    def weights(self, *shape: int) -> str:
        """Random ones, scaled by what one output sums over."""
        fan_in = max(1, math.prod(shape[1:]))
        return self.constant((self.rng.standard_normal(shape) / math.sqrt(fan_in)).astype(np.float32))

    def node(self, op: str, inputs: Sequence[str], shape: Sequence[int], **attributes: object) -> str:
        """Adds an operator with one output of a known shape."""
        name = f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [f"{name}_out"], name=name, **attributes))
        self._shapes[f"{name}_out"] = tuple(shape)
        return f"{name}_out"

    def like(self, op: str, *inputs: str, **attributes: object) -> str:
        """An element-wise operator."""
        return self.node(op, inputs, np.broadcast_shapes(*(self.shape(name) for name in inputs)), **attributes)

    def conv(self, x: str, channels: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> str:
        """A convolution with bias over all axes behind the second, padded to keep sizes at stride 1."""
        n, taken, *sizes = self.shape(x)
        axes = len(sizes)
        kernels = [min(kernel, size if size % 2 else size - 1) if size > 1 else 1 for size in sizes]
        pads = [k // 2 for k in kernels]
        weights = self.weights(channels, taken // groups, *kernels)
        shape = (n, channels, *((s + 2 * p - k) // stride + 1 for s, p, k in zip(sizes, pads, kernels, strict=True)))
        self.flop += 2.0 * math.prod(shape) * math.prod(self.shape(weights)[1:])
        return self.node(
            "Conv", [x, weights, self.weights(channels)], shape,
            kernel_shape=kernels, pads=pads * 2, strides=[stride] * axes, group=groups,
        )  # fmt: skip

    def pool(self, x: str, op: str, kernel: int = 2, stride: int = 2, pad: int = 0) -> str:
        """A pooling over all axes behind the second."""
        n, channels, *sizes = self.shape(x)
        axes = len(sizes)
        shape = (n, channels, *((size + 2 * pad - kernel) // stride + 1 for size in sizes))
        return self.node(op, [x], shape, kernel_shape=[kernel] * axes, strides=[stride] * axes, pads=[pad] * 2 * axes)

    def normalise(self, x: str) -> str:
        """A batch normalisation that stands alone."""
        channels = self.shape(x)[1]
        numbers = [self.weights(channels) for _ in range(3)]
        variance = self.constant(np.abs(self.rng.standard_normal(channels)).astype(np.float32) + 0.5)
        return self.node("BatchNormalization", [x, *numbers, variance], self.shape(x))

    def gemm(self, x: str, width: int) -> str:
        """A dense layer on a matrix."""
        rows, taken = self.shape(x)
        self.flop += 2.0 * rows * taken * width
        return self.node("Gemm", [x, self.weights(width, taken), self.weights(width)], (rows, width), transB=1)

    def dense(self, x: str, width: int) -> str:
        """A dense layer on the last axis, as transformers have it: a product and an addition."""
        *leading, taken = self.shape(x)
        self.flop += 2.0 * math.prod(leading) * taken * width
        product = self.node("MatMul", [x, self.weights(taken, width)], (*leading, width))
        return self.like("Add", product, self.weights(width))

    def matmul(self, a: str, b: str) -> str:
        """A product of two values."""
        shape = (*self.shape(a)[:-1], self.shape(b)[-1])
        self.flop += 2.0 * math.prod(shape) * self.shape(a)[-1]
        return self.node("MatMul", [a, b], shape)

    def reshape(self, x: str, *shape: int) -> str:
        """The same elements in another shape."""
        return self.node("Reshape", [x, self.constant(np.array(shape, np.int64))], shape)

    def transpose(self, x: str, *order: int) -> str:
        """Axes in another order."""
        return self.node("Transpose", [x], [self.shape(x)[axis] for axis in order], perm=list(order))

    def concat(self, *parts: str, axis: int = 1) -> str:
        """Values behind each other."""
        shape = list(self.shape(parts[0]))
        shape[axis] = sum(self.shape(part)[axis] for part in parts)
        return self.node("Concat", parts, shape, axis=axis)

    def head(self, x: str, classes: int = 10) -> str:
        """Mean over positions, then a dense layer."""
        n, channels, *sizes = self.shape(x)
        mean = self.node("GlobalAveragePool", [x], (n, channels, *[1] * len(sizes)))
        return self.gemm(self.node("Flatten", [mean], (n, channels)), classes)

    def activate(self, x: str, op: str) -> str:
        """An activation by name; ``Relu6`` and ``Gelu`` as exporters write them."""
        if op == "Relu6":
            low, high = (self.constant(np.array(limit, np.float32)) for limit in (0.0, 6.0))
            return self.node("Clip", [x, low, high], self.shape(x))
        if op == "Gelu":
            scaled = self.like("Div", x, self.constant(np.array(math.sqrt(2), np.float32)))
            grown = self.like("Add", self.like("Erf", scaled), self.constant(np.array(1.0, np.float32)))
            return self.like("Mul", self.like("Mul", x, grown), self.constant(np.array(0.5, np.float32)))
        if op == "Silu":
            return self.like("Mul", x, self.like("Sigmoid", x))
        return self.like(op, x)

    def finish(self, *outputs: str) -> onnx.ModelProto:
        """The model."""
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, self.shape(name)) for name in outputs]
        graph = helper.make_graph(self._nodes, "probe", self._inputs, results, self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


def networks() -> Iterator[ProbeNetwork]:
    """All of them, kinds in turn, so that the first few are as mixed as all. Each is drawn from its name alone."""
    for number in range(max(count for _, count in KINDS.values())):
        for kind, (build, count) in KINDS.items():
            if number < count:
                name = f"{kind}-{number}"
                rng = np.random.default_rng([_SEED, zlib.crc32(name.encode())])
                most = _MOST_FLOP_WHOLE if kind.startswith("whole") else _MOST_FLOP
                yield ProbeNetwork(name=name, kind=kind, proto=_limited(build, rng, most))


def _limited(build: Callable[[Net], Sequence[str]], rng: np.random.Generator, most_flop: float) -> onnx.ModelProto:
    """A network that is not too large: drawn again until it is."""
    while True:
        net = Net(rng)
        outputs = build(net)
        if net.flop <= most_flop:
            return net.finish(*outputs)


def _residual(net: Net) -> Sequence[str]:
    """Like a ResNet: two or three convolutions and a shortcut."""
    size, channels = net.pick(16, 32, 48, 64, 112, 160, 224), net.pick(8, 16, 24, 32, 64)
    stem, stride = (7, 2) if size > 100 else (net.pick(3, 3, 5), net.pick(1, 1, 2))
    x = net.activate(net.conv(net.input(1, 3, size, size), channels, stem, stride), "Relu")
    x = net.pool(x, "MaxPool", 3, 2, 1) if size > 100 else x
    bottleneck = bool(net.pick(0, 1))
    for _ in range(net.pick(3, 4, 5)):
        stride = net.pick(1, 2) if net.shape(x)[2] > 7 else 1
        channels = net.shape(x)[1] * (stride if net.shape(x)[1] < 512 else 1)
        if bottleneck:
            y = net.activate(net.conv(x, max(8, channels // 4), 1), "Relu")
            y = net.activate(net.conv(y, max(8, channels // 4), 3, stride), "Relu")
            y = net.conv(y, channels, 1)
        else:
            y = net.conv(net.activate(net.conv(x, channels, 3, stride), "Relu"), channels, 3)
        if net.shape(x) == net.shape(y):
            shortcut = x
        else:
            shortcut = _strided(net, x, channels) if net.pick(0, 1) else net.conv(x, channels, 1, stride)
        x = net.activate(net.like("Add", y, shortcut), "Relu")
    return [net.head(x)]


def _strided(net: Net, x: str, channels: int) -> str:
    """A shortcut without weights: every second position, channels filled up with zeros."""
    n, taken, height, width = net.shape(x)
    sizes = (n, taken, -(-height // 2), -(-width // 2))
    if channels == taken:
        return net.conv(x, channels, 1)
    bounds = [net.constant(np.array(values, np.int64)) for values in ([0, 0], [1 << 30, 1 << 30], [2, 3], [2, 2])]
    y = net.node("Slice", [x, *bounds], sizes)
    extra = channels - taken
    pads = net.constant(np.array([0, extra // 2, 0, 0, 0, extra - extra // 2, 0, 0], np.int64))
    return net.node("Pad", [y, pads], (n, channels, *sizes[2:]))


def _plain(net: Net) -> Sequence[str]:
    """Like VGG and AlexNet: convolutions, pooling, wide dense layers."""
    size = net.pick(24, 32, 56, 96, 128)
    x = net.input(1, net.pick(1, 3), size, size)
    channels = net.pick(12, 16, 32, 48)
    while net.shape(x)[2] >= 6:
        for _ in range(net.pick(1, 1, 2)):
            x = net.activate(net.conv(x, channels, net.pick(3, 3, 5)), str(net.rng.choice(["Relu", "Relu", "LeakyRelu"])))
        x = net.pool(x, str(net.rng.choice(["MaxPool", "MaxPool", "AveragePool"])), net.pick(2, 3), 2)
        channels = min(384, 2 * channels)
    flat = net.node("Flatten", [x], (1, math.prod(net.shape(x))))
    wide = net.activate(net.gemm(flat, net.pick(64, 256, 1024, 2048)), "Relu")
    return [net.node("Softmax", [net.gemm(wide, 100)], (1, 100))]


def _large(net: Net) -> Sequence[str]:
    """The ends of AlexNet and its like: large windows over large images, normalised across channels, and very wide layers."""
    size, channels = net.pick(112, 160, 224), net.pick(32, 64, 96)
    x = net.activate(net.conv(net.input(1, 3, size, size), channels, net.pick(7, 11), net.pick(2, 4)), "Relu")
    x = net.node("LRN", [x], net.shape(x), size=5)
    x = net.pool(x, "MaxPool", 3, 2, net.pick(0, 1))
    x = net.activate(net.conv(x, net.pick(128, 192), net.pick(3, 5), 1, groups=net.pick(1, 2)), "Relu")
    while net.shape(x)[2] > 8:
        x = net.pool(x, "MaxPool", 3, 2)
    flat = net.node("Flatten", [x], (1, math.prod(net.shape(x))))
    return [net.gemm(net.activate(net.gemm(flat, net.pick(1024, 2048)), "Relu"), 1000)]


def _mobile(net: Net) -> Sequence[str]:
    """Like MobileNet and EfficientNet: depthwise separable blocks."""
    size, act = net.pick(32, 64, 96, 128, 192), str(net.rng.choice(["Relu6", "Relu6", "HardSwish", "Silu", "Relu"]))
    x = net.activate(net.conv(net.input(1, 3, size, size), net.pick(8, 16, 24, 32), 3, 2), act)
    for _ in range(net.pick(3, 4, 5)):
        taken = net.shape(x)[1]
        stride = net.pick(1, 2) if net.shape(x)[2] > 7 else 1
        given = min(320, taken * net.pick(1, 2)) if stride > 1 else net.pick(taken, taken, min(320, 2 * taken))
        inner = taken * net.pick(1, 4, 6)
        y = net.activate(net.conv(x, inner, 1), act) if inner > taken else x
        y = net.activate(net.conv(y, inner, net.pick(3, 3, 5), stride, groups=inner), act)
        if net.pick(0, 0, 1):
            y = _squeeze(net, y)
        y = net.conv(y, given, 1)
        x = net.like("Add", x, y) if net.shape(x) == net.shape(y) else y
    return [net.head(net.activate(net.conv(x, net.pick(128, 512), 1), act))]


def _squeeze(net: Net, x: str) -> str:
    """Scales channels by what their means say."""
    n, channels, *_ = net.shape(x)
    mean = net.node("GlobalAveragePool", [x], (n, channels, 1, 1))
    inner = net.activate(net.conv(mean, max(8, channels // 4), 1), "Relu")
    return net.like("Mul", x, net.activate(net.conv(inner, channels, 1), str(net.rng.choice(["Sigmoid", "HardSigmoid"]))))


def _dense(net: Net) -> Sequence[str]:
    """Like an autoencoder or a recommender's tower."""
    x = net.input(net.pick(1, 1, 1, 16), net.pick(32, 128, 640, 2048))
    widths = (8, 64, 128, 256, 512, 1024) if net.shape(x)[1] < 2000 else (1024, 2048, 4096)
    layer = net.gemm if net.pick(0, 0, 1) == 0 else net.dense
    for _ in range(net.pick(3, 5, 8)):
        x = net.activate(layer(x, net.pick(*widths)), str(net.rng.choice(["Relu", "Relu", "Tanh", "Sigmoid"])))
    return [net.gemm(x, net.pick(1, 10, 640))]


def _transformer(net: Net) -> Sequence[str]:
    """Like BERT and ViT: attention and a wide layer, normalised."""
    tokens, width, heads = net.pick(16, 49, 64, 128, 197), net.pick(64, 128, 192, 384), net.pick(2, 4, 8)
    x = net.input(1, tokens, width)
    for _ in range(net.pick(1, 2)):
        x = _normalised(net, net.like("Add", x, _attention(net, x, heads)))
        x = _normalised(net, net.like("Add", x, net.dense(net.activate(net.dense(x, 4 * width), "Gelu"), width)))
    return [x]


def _normalised(net: Net, x: str) -> str:
    width = net.shape(x)[-1]
    return net.node("LayerNormalization", [x, net.weights(width), net.weights(width)], net.shape(x), axis=-1)


def _attention(net: Net, x: str, heads: int) -> str:
    n, tokens, width = net.shape(x)
    q, k, v = (net.reshape(net.dense(x, width), n, tokens, heads, width // heads) for _ in range(3))
    scores = net.matmul(net.transpose(q, 0, 2, 1, 3), net.transpose(k, 0, 2, 3, 1))
    scores = net.like("Div", scores, net.constant(np.array(math.sqrt(width // heads), np.float32)))
    weights = net.node("Softmax", [scores], net.shape(scores), axis=-1)
    mixed = net.transpose(net.matmul(weights, net.transpose(v, 0, 2, 1, 3)), 0, 2, 1, 3)
    return net.dense(net.reshape(mixed, n, tokens, width), width)


def _branches(net: Net) -> Sequence[str]:
    """Like Inception, SqueezeNet and DenseNet: branches that are joined; grouped convolutions and shuffled channels."""
    size, channels = net.pick(14, 28, 56), net.pick(16, 32, 64, 128)
    x = net.activate(net.conv(net.input(1, 3, 2 * size, 2 * size), channels, net.pick(3, 7), 2), "Relu")
    for _ in range(net.pick(2, 3)):
        parts = [net.activate(net.conv(x, net.pick(16, 32, 64), k), "Relu") for k in (1, 3)]
        parts.append(net.conv(net.activate(net.conv(x, 16, 1), "Relu"), net.pick(16, 32), 5))
        if net.pick(0, 1):
            parts.append(net.conv(net.pool(x, str(net.rng.choice(["MaxPool", "AveragePool"])), 3, 1, 1), 32, 1))
        x = net.concat(*parts, *([x] if net.pick(0, 1) else []))
        if net.pick(0, 1):
            x = net.activate(net.normalise(x), "Relu")
        n, channels, height, width = net.shape(x)
        if net.pick(0, 1) and channels % 4 == 0:
            x = _shuffled(net, net.activate(net.conv(x, channels, 3, 1, groups=4), "Relu"), 4)
        elif height > 7:
            x = net.pool(x, str(net.rng.choice(["MaxPool", "AveragePool"])))
    return [net.head(x)]


def _decoder(net: Net) -> Sequence[str]:
    """Like U-Net, detectors and super-resolution: up again, and joined with what came before."""
    size, channels = net.pick(32, 48, 64, 96), net.pick(8, 16, 32)
    first = net.activate(net.conv(net.input(1, net.pick(1, 3), size, size), channels, 3), "Relu")
    down = net.activate(net.conv(net.pool(first, "MaxPool"), 2 * channels, 3), "Relu")
    n, taken, height, width = net.shape(down)
    up = (n, taken, 2 * height, 2 * width)
    if net.pick(0, 1):
        net.flop += 8.0 * math.prod(net.shape(down)) * channels
        up_again = net.node(
            "ConvTranspose", [down, net.weights(taken, channels, 2, 2)], (n, channels, *up[2:]),
            kernel_shape=[2, 2], strides=[2, 2],
        )  # fmt: skip
    else:
        scales = net.constant(np.array([1, 1, 2, 2], np.float32))
        up_again = net.node("Resize", [down, "", scales], up, mode=str(net.rng.choice(["nearest", "linear"])))
    x = net.activate(net.conv(net.concat(first, up_again), channels, 3), "Relu")
    if net.pick(0, 1):
        x = net.conv(x, 9, 3)
        return [net.node("DepthToSpace", [x], (n, 1, 3 * size, 3 * size), blocksize=3)]
    return [net.activate(net.conv(x, 1, 1), "Sigmoid")]


def _sequence(net: Net) -> Sequence[str]:
    """Like audio networks: one-dimensional convolutions, then a recurrent cell."""
    length, channels = net.pick(64, 128, 512), net.pick(16, 32, 64, 128)
    x = net.input(1, net.pick(1, 16, 40), length)
    for _ in range(net.pick(2, 3)):
        x = net.activate(net.conv(x, channels, net.pick(3, 5, 9), net.pick(1, 2)), "Relu")
    steps = net.transpose(x, 2, 0, 1)
    count, n, taken = net.shape(steps)
    hidden = net.pick(32, 64, 128)
    cell, gates = ("LSTM", 4) if net.pick(0, 1) else ("GRU", 3)
    net.flop += 2.0 * count * gates * hidden * (taken + hidden)
    shapes = ((1, gates * hidden, taken), (1, gates * hidden, hidden), (1, 2 * gates * hidden))
    states = net.node(cell, [steps, *(net.weights(*shape) for shape in shapes)], (count, 1, n, hidden), hidden_size=hidden)
    return [net.node("ReduceMean", [states], (1, n, hidden), axes=[0], keepdims=0)]


def _elementwise(net: Net) -> Sequence[str]:
    """What stays between products: arithmetic, moves, reductions, on tensors of several sizes."""
    size, channels = net.pick(7, 14, 28, 56), net.pick(16, 64, 128)
    x = net.input(1, channels, size, size)
    y = net.like("Mul", net.like("Add", x, net.weights(channels, 1, 1)), net.weights(channels, 1, 1))
    for op in net.rng.permutation(["Sigmoid", "Tanh", "Exp", "LeakyRelu", "Abs", "HardSwish", "Sqrt", "Neg"])[:4]:
        y = net.activate(y, str(op))
    y = net.like("Sub", net.like("Mul", x, y), y)
    pads = net.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    y = net.node("Pad", [y, pads], (1, channels, size + 2, size + 2))
    starts, ends, axes = (net.constant(np.array([value], np.int64)) for value in (0, channels // 2, 1))
    half = net.node("Slice", [y, starts, ends, axes], (1, channels // 2, size + 2, size + 2))
    both = net.transpose(net.concat(half, half), 0, 2, 3, 1)
    soft = net.node("Softmax", [both], net.shape(both), axis=-1)
    return [net.node("ReduceMean", [soft], (1, size + 2, size + 2), axes=[3], keepdims=0)]


def _moves(net: Net) -> Sequence[str]:
    """What moves and normalises whole activations of the size that they have in networks for photographs."""
    channels, size = (64, 56) if net.pick(0, 1) else (net.pick(96, 192), 28)
    size, channels = (112, channels // 2) if net.pick(0, 0, 1) else (size, channels)
    x = net.activate(net.normalise(net.input(1, channels, size, size)), "Relu")
    x = net.node("LRN", [x], net.shape(x), size=5)
    x = net.pool(x, "MaxPool", 3, 1, 1)
    x = _shuffled(net, x, net.pick(2, 4))
    pooled = net.pool(x, str(net.rng.choice(["AveragePool", "MaxPool"])), 3, 1, 1)
    x = net.concat(x, pooled)
    x = net.activate(net.normalise(x), str(net.rng.choice(["Relu", "Sigmoid"])))
    x = net.pool(x, "MaxPool", net.pick(2, 3), 2)
    x = _shuffled(net, x, 4)
    half = net.shape(x)[1] // 2
    starts, ends, axes = (net.constant(np.array([value], np.int64)) for value in (0, half, 1))
    part = net.node("Slice", [x, starts, ends, axes], (1, half, *net.shape(x)[2:]))
    last = net.transpose(net.pool(net.node("LRN", [part], net.shape(part), size=3), "AveragePool"), 0, 2, 3, 1)
    return [net.node("Softmax", [last], net.shape(last), axis=-1)]


def _shuffled(net: Net, x: str, groups: int) -> str:
    """Channels of several groups, one of each in turn; as ShuffleNet has it."""
    n, channels, height, width = net.shape(x)
    parts = net.transpose(net.reshape(x, n, groups, channels // groups, height, width), 0, 2, 1, 3, 4)
    return net.reshape(parts, n, channels, height, width)


def _whole_residual(net: Net) -> Sequence[str]:
    """A whole ResNet for photographs, in few blocks."""
    x = net.activate(net.conv(net.input(1, 3, 224, 224), 64, 7, 2), "Relu")
    x = net.pool(x, "MaxPool", 3, 2, 1)
    for stage, channels in enumerate((256, 512, 1024, 2048)):
        for number in range(1 + stage % 2):
            stride = 2 if number == 0 and stage else 1
            y = net.activate(net.conv(x, channels // 4, 1), "Relu")
            y = net.activate(net.conv(y, channels // 4, 3, stride), "Relu")
            y = net.conv(y, channels, 1)
            shortcut = x if number else net.conv(x, channels, 1, stride)
            x = net.activate(net.like("Add", y, shortcut), "Relu")
    return [net.head(x, 1000)]


def _whole_mobile(net: Net) -> Sequence[str]:
    """A whole MobileNet."""
    size, act = net.pick(160, 192, 224), str(net.rng.choice(["Relu6", "HardSwish"]))
    x = net.activate(net.conv(net.input(1, 3, size, size), 32, 3, 2), act)
    for stride, given in ((1, 16), (2, 24), (1, 24), (2, 40), (1, 40), (2, 80), (1, 80), (2, 160), (1, 160)):
        inner = net.shape(x)[1] * net.pick(3, 4, 6)
        y = net.activate(net.conv(x, inner, 1), act)
        y = net.activate(net.conv(y, inner, net.pick(3, 3, 5), stride, groups=inner), act)
        y = net.conv(_squeeze(net, y) if net.pick(0, 0, 1) else y, given, 1)
        x = net.like("Add", x, y) if net.shape(x) == net.shape(y) else y
    return [net.head(net.activate(net.conv(x, 960, 1), act), 1000)]


def _whole_joined(net: Net) -> Sequence[str]:
    """A whole DenseNet, in few layers: everything that came before is normalised again in each."""
    x = net.activate(net.conv(net.input(1, 3, 192, 192), 64, 7, 2), "Relu")
    x = net.pool(x, "MaxPool", 3, 2, 1)
    for layers in (3, 4, 3):
        for _ in range(layers):
            y = net.conv(net.activate(net.normalise(x), "Relu"), 128, 1)
            x = net.concat(x, net.conv(net.activate(net.normalise(y), "Relu"), 32, 3))
        x = net.conv(net.activate(net.normalise(x), "Relu"), net.shape(x)[1] // 2, 1)
        x = net.pool(x, "AveragePool")
    return [net.head(x, 1000)]


def _whole_transformer(net: Net) -> Sequence[str]:
    """A whole sentence encoder, in few layers."""
    tokens, width = net.pick(64, 96, 197), net.pick(256, 320, 512)
    x = net.input(1, tokens, width)
    for _ in range(3):
        x = _normalised(net, net.like("Add", x, _attention(net, x, 8)))
        x = _normalised(net, net.like("Add", x, net.dense(net.activate(net.dense(x, 4 * width), "Gelu"), width)))
    return [x]


KINDS: dict[str, tuple[Callable[[Net], Sequence[str]], int]] = {
    "residual": (_residual, 6),
    "whole_residual": (_whole_residual, 1),
    "mobile": (_mobile, 5),
    "whole_mobile": (_whole_mobile, 1),
    "transformer": (_transformer, 4),
    "whole_transformer": (_whole_transformer, 1),
    "plain": (_plain, 4),
    "branches": (_branches, 4),
    "whole_joined": (_whole_joined, 1),
    "dense": (_dense, 5),
    "large": (_large, 2),
    "moves": (_moves, 4),
    "elementwise": (_elementwise, 2),
    "decoder": (_decoder, 3),
    "sequence": (_sequence, 2),
}
"""What a network resembles → how it is made, and how many there are."""
