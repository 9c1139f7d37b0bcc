"""Graphs to prune, and the same graphs with the channels set to zero that pruning takes."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from dovetail.compress.prune.coupling import Coupling
from dovetail.compress.prune.graph import prepare
from dovetail.core.measurement import Environment
from dovetail.core.protocols import Array, Feeds, Model, PassContext
from dovetail.testing.samples import MemoryDataset

AVX512 = Environment(fingerprint="", cpu="", cores=1, isa=("avx2", "avx512f"), memory_bytes=1e9, os="", python="")


def context(
    folder: Path, calibration: MemoryDataset | None = None, notes: list[str] | None = None, **config: object
) -> PassContext:
    folder.mkdir(parents=True, exist_ok=True)
    note = (lambda text: None) if notes is None else notes.append
    return PassContext(workdir=folder, environment=AVX512, config=config, calibration=calibration, note=note)


def parse(text: str, opset: int = 17, **weights: Array) -> onnx.ModelProto:
    """A model from ONNX's textual syntax, with arrays as initialisers."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items())
    return model


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def saved(proto: onnx.ModelProto, folder: Path) -> Model:
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, folder / "source.onnx")
    return Model(path=folder / "source.onnx")


def outputs(proto: onnx.ModelProto | ir.Model, feeds: Feeds) -> list[Array]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    proto = ir.to_proto(proto) if isinstance(proto, ir.Model) else proto
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, dict(feeds))


def masked(prepared: ir.Model, units: Iterable[int]) -> ir.Model:
    """The graph as it is, with zeros for all that belongs to some units. Divisors stay."""
    coupling = Coupling(prepared.clone())
    kept = coupling.kept(list(units))
    for value, places in coupling.walk.places.items():
        if any(use.node.op_type == "Div" and use.idx == 1 for use in value.uses()):
            continue
        array = value.const_value.numpy().copy()
        for axis, labels in places.items():
            np.moveaxis(array, axis, 0)[~kept(labels)] = 0
        value.const_value = ir.tensor(array, name=value.name)
    return coupling.model


def some_units(coupling: Coupling, seed: int, kinds: Sequence[str] = ("channels", "neurons", "heads")) -> list[int]:
    """Random units of every group that may go without changing the others; one at least stays in each."""
    rng = np.random.default_rng(seed)
    found: list[int] = []
    for group in coupling.groups:
        if group.reason is None and not group.averaged and group.kind in kinds and len(group) > 1:
            found += rng.choice(group.units, int(rng.integers(0, len(group))), replace=False).tolist()
    return found


def assert_pruned_equals_masked(
    model: Model, feeds: Feeds, seed: int, kinds: Sequence[str] = ("channels", "neurons", "heads")
) -> int:
    """Takes random units out and compares with zeros in their place; returns how many were taken."""
    prepared = prepare(model, "test")
    coupling = Coupling(prepared.clone())
    units = some_units(coupling, seed, kinds)
    expected = outputs(masked(prepared, units), feeds)
    coupling.remove(units)
    proto = ir.to_proto(coupling.model)
    onnx.checker.check_model(proto, full_check=True)
    for e, g in zip(expected, outputs(proto, feeds), strict=True):
        assert e.shape == g.shape
        np.testing.assert_allclose(g, e, rtol=0, atol=1e-5 * max(1.0, float(np.abs(e).max())))
    return len(units)


class Net:
    """Writes a random convolutional network, one part after the other. The batch is free."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.size = 8

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape: int) -> str:
        fan = max(1, int(np.prod(shape[1:])))
        return self.constant((self.rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32))

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"{kind}_{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else " ".join(names)

    def conv(self, x: str, before: int, after: int, stride: int = 1, group: int = 1) -> str:
        bias = [self.weight(after)] if self.rng.random() < 0.5 else []
        w = self.weight(after, before // group, 3, 3)
        return self.op("Conv", x, w, *bias, pads=[1, 1, 1, 1], strides=[stride, stride], group=group)

    def norm(self, x: str, channels: int) -> str:
        parts = [self.weight(channels) for _ in range(3)]
        variance = self.constant((self.rng.random(channels) + 0.5).astype(np.float32))
        return self.op("BatchNormalization", x, *parts, variance)

    # -- parts: name of a value and its channels to the same of what follows -------------------------------------------------

    def plain(self, x: str, c: int) -> tuple[str, int]:
        after = int(self.rng.integers(2, 6)) * 2
        return self.op("Relu", self.norm(self.conv(x, c, after), after)), after

    def residual(self, x: str, c: int) -> tuple[str, int]:
        y = self.norm(self.conv(self.op("Relu", self.conv(x, c, 6)), 6, c), c)
        return self.op("Relu", self.op("Add", y, x)), c

    def depthwise(self, x: str, c: int) -> tuple[str, int]:
        times = int(self.rng.integers(1, 3))
        return self.op(
            "Clip", self.conv(x, c, c * times, group=c), self.constant(np.float32(0)), self.constant(np.float32(6))
        ), c * times

    def grouped(self, x: str, c: int) -> tuple[str, int]:
        return (self.conv(x, c, 8, group=2), 8) if c % 2 == 0 else (x, c)

    def concat(self, x: str, c: int) -> tuple[str, int]:
        return self.op("Concat", x, self.conv(x, c, 4), self.conv(x, c, 3), axis=1), c + 7

    def option_a(self, x: str, c: int) -> tuple[str, int]:
        if self.size < 4:
            return x, c
        far = np.iinfo(np.int64).max
        bounds = [self.constant(np.array(v)) for v in ([0, 0], [far, far], [2, 3], [2, 2])]
        short = self.op("Pad", self.op("Slice", x, *bounds), self.constant(np.array([0, 1, 0, 0, 0, 3, 0, 0])))
        self.size //= 2
        return self.op("Relu", self.op("Add", self.norm(self.conv(x, c, c + 4, stride=2), c + 4), short)), c + 4

    def squeeze_excite(self, x: str, c: int) -> tuple[str, int]:
        s = self.op("GlobalAveragePool", x)
        s = self.op("Relu", self.op("Conv", s, self.weight(4, c, 1, 1)))
        return self.op("Mul", x, self.op("Sigmoid", self.op("Conv", s, self.weight(c, 4, 1, 1)))), c

    def split(self, x: str, c: int) -> tuple[str, int]:
        if c < 4:
            return x, c
        first, second = self.op("Split", x, self.constant(np.array([2, c - 2])), outputs=2, axis=1).split()
        return self.op("Concat", second, self.op("Relu", first), axis=1), c

    def cut(self, x: str, c: int) -> tuple[str, int]:
        if c < 4:
            return x, c
        return self.op("Slice", x, *(self.constant(np.array([v])) for v in (1, -1, 1))), c - 2

    def pick(self, x: str, c: int) -> tuple[str, int]:
        order = self.rng.permutation(c)
        return self.op("Gather", x, self.constant(order), axis=1), c

    def scaled(self, x: str, c: int) -> tuple[str, int]:
        y = self.op("PRelu", self.op("Mul", x, self.weight(c, 1, 1)), self.weight(c, 1, 1))
        return self.op("Div", y, self.constant(np.full((1, c, 1, 1), 3, np.float32))), c

    def transposed(self, x: str, c: int) -> tuple[str, int]:
        y = self.op("ConvTranspose", x, self.weight(c, 5, 3, 3), self.weight(5), pads=[1, 1, 1, 1])
        return self.op("LeakyRelu", y), 5

    def shuffle(self, x: str, c: int) -> tuple[str, int]:
        y = self.op("DepthToSpace", self.conv(x, c, 12), blocksize=2, mode=str(self.rng.choice(["DCR", "CRD"])))
        return self.op("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2]), 3

    def resized(self, x: str, c: int) -> tuple[str, int]:
        y = self.op("Resize", x, "", self.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
        return self.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]), c

    def channels_last(self, x: str, c: int) -> tuple[str, int]:
        y = self.op("MatMul", self.op("Transpose", x, perm=[0, 2, 3, 1]), self.weight(c, 7))
        y = self.op("Add", y, self.weight(7))
        return self.op("Transpose", self.op("Tanh", y), perm=[0, 3, 1, 2]), 7

    # -- ends ------------------------------------------------------------------------------------------------------------

    def pooled(self, x: str, c: int) -> str:
        return self.op("Gemm", self.op("Flatten", self.op("GlobalAveragePool", x)), self.weight(5, c), self.weight(5), transB=1)

    def flattened(self, x: str, c: int) -> str:
        y = self.op("Reshape", x, self.constant(np.array([0, -1])))
        y = self.op("Relu", self.op("Gemm", y, self.weight(c * self.size**2, 9), self.weight(9)))
        return self.op("MatMul", y, self.weight(9, 5))

    def averaged(self, x: str, c: int) -> str:
        return self.op("MatMul", self.op("ReduceMean", x, axes=[2, 3], keepdims=0), self.weight(c, 5))

    def summed(self, x: str, c: int) -> str:
        return self.op("ReduceSum", x, self.constant(np.array([1, 2])), keepdims=0)

    def pictures(self, x: str, c: int) -> str:
        return self.conv(x, c, 2)

    def write(self, parts: int) -> onnx.ModelProto:
        """A stem, some random parts, and an end."""
        x, c = self.op("Relu", self.conv("x", 3, 8)), 8
        kinds: list[Callable[[str, int], tuple[str, int]]] = [
            self.plain, self.residual, self.depthwise, self.grouped, self.concat, self.option_a, self.squeeze_excite,
            self.split, self.cut, self.pick, self.scaled, self.transposed, self.shuffle, self.resized, self.channels_last,
        ]  # fmt: skip
        for place in self.rng.integers(0, len(kinds), parts).tolist():
            x, c = kinds[place](x, c)
        ends = [self.pooled, self.flattened, self.averaged, self.summed, self.pictures]
        y = ends[int(self.rng.integers(0, len(ends)))](x, c)
        graph = helper.make_graph(
            [*self.nodes, helper.make_node("Identity", [y], ["y"])],
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            self.constants,
        )
        return onnx.shape_inference.infer_shapes(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        )


def bert(layers: int = 2, width: int = 32, heads: int = 4, inner: int = 48) -> onnx.ModelProto:
    """Post-norm encoder over embedded tokens with a mask, batch and length free, as exporters write it."""
    rng = np.random.default_rng(0)
    dim, lines, arrays = width // heads, [], {}

    def weight(name: str, *shape: int) -> str:
        arrays[name] = (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        return name

    def ones(name: str) -> str:
        arrays[name] = (1 + 0.1 * rng.standard_normal(width)).astype(np.float32)
        return name

    arrays |= {"heads": np.array([0, 0, heads, dim]), "joined": np.array([0, 0, width]), "root": np.float32(np.sqrt(dim))}
    arrays |= {"one": np.float32(1), "low": np.float32(-1e4), "two": np.array([1, 2])}
    lines += [
        "keep = Unsqueeze(mask, two)",
        "drop = Sub(one, keep)",
        "bias = Mul(drop, low)",
        f"e = Gather({weight('table', 50, width)}, ids)",
    ]
    lines += [f"h0 = LayerNormalization<axis=-1>(e, {ones('g')}, {weight('b', width)})"]
    for i in range(layers):
        h = f"h{i}"
        for p in "qkv":
            lines += [
                f"{p}m{i} = MatMul({h}, {weight(f'{p}w{i}', width, width)})",
                f"{p}a{i} = Add({p}m{i}, {weight(f'{p}b{i}', width)})",
            ]
            lines += [
                f"{p}r{i} = Reshape({p}a{i}, heads)",
                f"{p}{i} = Transpose<perm=[0,2,{'3,1' if p == 'k' else '1,3'}]>({p}r{i})",
            ]
        lines += [f"s{i} = MatMul(q{i}, k{i})", f"d{i} = Div(s{i}, root)", f"m{i} = Add(d{i}, bias)", f"p{i} = Softmax(m{i})"]
        lines += [f"c{i} = MatMul(p{i}, v{i})", f"t{i} = Transpose<perm=[0,2,1,3]>(c{i})", f"j{i} = Reshape(t{i}, joined)"]
        lines += [f"om{i} = MatMul(j{i}, {weight(f'ow{i}', width, width)})", f"oa{i} = Add(om{i}, {weight(f'ob{i}', width)})"]
        lines += [
            f"res{i} = Add(oa{i}, {h})",
            f"n{i} = LayerNormalization<axis=-1>(res{i}, {ones(f'ng{i}')}, {weight(f'nb{i}', width)})",
        ]
        lines += [f"fm{i} = MatMul(n{i}, {weight(f'fw{i}', width, inner)})", f"fa{i} = Add(fm{i}, {weight(f'fb{i}', inner)})"]
        lines += [
            f"gl{i} = Relu(fa{i})",
            f"gm{i} = MatMul(gl{i}, {weight(f'gw{i}', inner, width)})",
            f"ga{i} = Add(gm{i}, {weight(f'gb{i}', width)})",
        ]
        lines += [f"out{i} = Add(ga{i}, n{i})"]
        lines += [f"h{i + 1} = LayerNormalization<axis=-1>(out{i}, {ones(f'og{i}')}, {weight(f'obb{i}', width)})"]
    lines += [f"y = ReduceMean<axes=[1], keepdims=0>(h{layers})"]
    return parse(f"g (int64[N,S] ids, float[N,S] mask) => (float[N,{width}] y) {{ {' '.join(lines)} }}", **arrays)


def vit(width: int = 24, heads: int = 3, patches: int = 4) -> onnx.ModelProto:
    """A pre-norm block with one product for query, key and value, over the patches of a picture."""
    rng, dim = np.random.default_rng(1), width // heads
    shapes = {
        "patch": (width, 3, 4, 4),
        "qkvw": (width, 3 * width),
        "qkvb": (3 * width,),
        "ow": (width, width),
        "fw": (width, 40),
    }
    shapes |= {
        "fb": (40,),
        "gw": (40, width),
        "head": (width, 5),
        "g1": (width,),
        "b1": (width,),
        "g2": (width,),
        "b2": (width,),
    }
    arrays = {k: (rng.standard_normal(s) / np.sqrt(s[0])).astype(np.float32) for k, s in shapes.items()}
    arrays |= {
        "tokens": np.array([0, width, -1]),
        "five": np.array([-1, patches, 3, heads, dim]),
        "three": np.array([-1, patches, width]),
    }
    arrays |= {f"i{i}": np.int64(i) for i in range(3)} | {"scale": np.float32(dim**-0.5)}
    body = """
    pa = Conv<strides=[4,4], kernel_shape=[4,4]>(x, patch) fl = Reshape(pa, tokens) h = Transpose<perm=[0,2,1]>(fl)
    n1 = LayerNormalization<axis=-1>(h, g1, b1) qm = MatMul(n1, qkvw) qa = Add(qm, qkvb) qr = Reshape(qa, five)
    qt = Transpose<perm=[2,0,3,1,4]>(qr) q = Gather<axis=0>(qt, i0) k = Gather<axis=0>(qt, i1) v = Gather<axis=0>(qt, i2)
    qs = Mul(q, scale) kt = Transpose<perm=[0,1,3,2]>(k) s = MatMul(qs, kt) p = Softmax(s) c = MatMul(p, v)
    ct = Transpose<perm=[0,2,1,3]>(c) cj = Reshape(ct, three) o = MatMul(cj, ow) r1 = Add(h, o)
    n2 = LayerNormalization<axis=-1>(r1, g2, b2) f = MatMul(n2, fw) fa = Add(f, fb) ft = Tanh(fa) gm = MatMul(ft, gw)
    r2 = Add(r1, gm) m = ReduceMean<axes=[1], keepdims=0>(r2) y = MatMul(m, head)
    """
    return parse(f"g (float[N,3,8,8] x) => (float[N,5] y) {{ {body} }}", **arrays)


def tokens(seed: int = 0, batch: int = 2, length: int = 7) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    mask = np.ones((batch, length), np.float32)
    mask[0, -2:] = 0
    return {"ids": rng.integers(0, 50, (batch, length)), "mask": mask}
