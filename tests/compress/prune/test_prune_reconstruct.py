"""What remains after pruning is fitted to what the whole layer computed."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from prune_graphs import context, normal, outputs, parse, saved

from dovetail.compress.prune import reconstruct
from dovetail.compress.prune.channels import PruneChannels
from dovetail.core.protocols import Array, Model
from dovetail.testing.samples import MemoryDataset

SAMPLES = MemoryDataset([{"x": normal(1, 4, 8, 8, seed=i)} for i in range(32)])
ROWS = MemoryDataset([{"x": normal(4, 8, seed=i)} for i in range(64)])


def redundant(width: int, *rest: int) -> Array:
    """Weights whose second half of outputs is a mixture of the first, and smaller, so that it goes first."""
    first = normal(width // 2, *rest)
    mix = normal(width // 2, width // 2, seed=1) / width
    return np.concatenate([first, np.tensordot(mix, first, 1)]).astype(np.float32)


def pruned(model: Model, folder: Path, data: MemoryDataset, **config: object) -> onnx.ModelProto:
    folder.mkdir()
    return onnx.load(PruneChannels().apply(model, context(folder, data, ratio=0.5, align=1, **config)).path)


def distance(proto: onnx.ModelProto, original: Model, data: MemoryDataset) -> float:
    """Root of the mean squared error over that of the original's outputs about their mean."""
    feeds = [data.sample(i).feeds for i in range(8)]
    wanted = np.stack([outputs(onnx.load(original.path), f)[0] for f in feeds])
    found = np.stack([outputs(proto, f)[0] for f in feeds])
    return float(np.sqrt(((found - wanted) ** 2).mean() / wanted.var()))


@pytest.mark.parametrize("bias", ["", ", b"])
def test_a_convolution_takes_over_what_others_told_it(tmp_path: Path, bias: str) -> None:
    """Channels that are sums of others are missed by nobody; without the fit they are. Padding is zeros for both."""
    body = f"h = Conv(x, w) y = Conv<pads=[1,1,1,1]>(h, v{bias})"
    arrays = {"w": redundant(16, 4, 3, 3), "v": normal(5, 16, 3, 3), "b": normal(5)}
    model = saved(parse(f"g (float[N,4,8,8] x) => (float[N,5,6,6] y) {{ {body} }}", **arrays), tmp_path)
    fitted = pruned(model, tmp_path / "fitted", SAMPLES)
    assert fitted.graph.node[-1].op_type == "Conv" and len(fitted.graph.node[-1].input) == 3
    plain = distance(pruned(model, tmp_path / "plain", SAMPLES, reconstruct=False), model, SAMPLES)
    assert distance(fitted, model, SAMPLES) < 0.1 < plain


def test_the_mean_of_what_went_goes_into_the_bias(tmp_path: Path) -> None:
    body = "h = Conv(x, w, c) r = Sigmoid(h) y = Conv(r, v)"
    arrays = {"w": normal(16, 4, 1, 1) / 100, "c": normal(16), "v": normal(3, 16, 1, 1)}
    model = saved(parse(f"g (float[N,4,8,8] x) => (float[N,3,8,8] y) {{ {body} }}", **arrays), tmp_path)
    shift = []
    for fit in (True, False):
        proto = pruned(model, tmp_path / str(fit), SAMPLES, reconstruct=fit)
        feeds = SAMPLES.sample(0).feeds
        difference = outputs(proto, feeds)[0] - outputs(onnx.load(model.path), feeds)[0]
        shift.append(float(np.abs(difference.mean(axis=(0, 2, 3))).max()))
    assert shift[0] < 0.02 < shift[1]


@pytest.mark.parametrize(
    "body",
    [
        "h = Gemm(x, w, c) r = Relu(h) y = Gemm(r, v, d)",
        "h = Gemm(x, w, c) r = Relu(h) y = Gemm<alpha=2.0, beta=0.5>(r, v, d)",
        "h = MatMul(x, w) r = Relu(h) p = MatMul(r, v) y = Add(p, d)",
        "h = MatMul(x, w) r = Relu(h) y = MatMul(r, v)",
    ],
)
def test_matrix_products_are_fitted(tmp_path: Path, body: str) -> None:
    arrays = {"w": np.ascontiguousarray(redundant(32, 8).T), "c": np.zeros(32, np.float32), "v": normal(32, 6), "d": normal(6)}
    model = saved(parse(f"g (float[N,8] x) => (float[N,6] y) {{ {body} }}", **arrays), tmp_path)
    fitted, plain = (pruned(model, tmp_path / str(fit), ROWS, reconstruct=fit) for fit in (True, False))
    assert distance(fitted, model, ROWS) < 0.6 * distance(plain, model, ROWS)
    assert [node.op_type for node in fitted.graph.node] == [node.op_type for node in plain.graph.node]


def test_weights_that_two_layers_share_stay(tmp_path: Path) -> None:
    body = "h = Conv(x, w) r = Relu(h) a = Conv(r, v) s = Sigmoid(h) b = Conv(s, v) y = Add(a, b)"
    arrays = {"w": redundant(16, 4, 3, 3), "v": normal(5, 16, 1, 1)}
    model = saved(parse(f"g (float[N,4,8,8] x) => (float[N,5,6,6] y) {{ {body} }}", **arrays), tmp_path)
    protos = [pruned(model, tmp_path / str(fit), SAMPLES, reconstruct=fit) for fit in (True, False)]
    weights = [onnx.numpy_helper.to_array(next(t for t in p.graph.initializer if t.name == "v")) for p in protos]
    np.testing.assert_array_equal(*weights)


@pytest.mark.parametrize("width", [1, 5])
def test_one_output_has_a_bias_only_where_it_is_its_own(tmp_path: Path, width: int) -> None:
    body = "h = MatMul(x, w) r = Sigmoid(h) p = MatMul(r, v) y = Add(p, d)"
    arrays = {"w": normal(8, 32) / 10, "v": normal(32, 1), "d": np.arange(width, dtype=np.float32)}
    model = saved(parse(f"g (float[N,8] x) => (float[N,{width}] y) {{ {body} }}", **arrays), tmp_path)
    proto = pruned(model, tmp_path / "fitted", ROWS)
    moved = onnx.numpy_helper.to_array(next(t for t in proto.graph.initializer if t.name == "d")) - arrays["d"]
    assert (np.abs(moved).max() > 0.01) == (width == 1)


def test_a_layer_reads_what_the_fitted_ones_before_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers lose half of what they read; the second makes up for what the first could not, once that one is fitted."""
    body = "a = MatMul(x, w) b = Relu(a) c = MatMul(b, u) d = Relu(c) y = MatMul(d, v)"
    arrays = {"w": normal(8, 24), "u": normal(24, 24, seed=1), "v": normal(24, 6)}
    model = saved(parse(f"g (float[N,8] x) => (float[N,6] y) {{ {body} }}", **arrays), tmp_path)
    in_order = distance(pruned(model, tmp_path / "in-order", ROWS), model, ROWS)
    monkeypatch.setattr(reconstruct, "PARTS", 1)
    together = distance(pruned(model, tmp_path / "together", ROWS), model, ROWS)
    assert in_order < 0.8 * together


def test_samples_that_do_not_fit_cost_a_note_and_not_the_pruning(tmp_path: Path) -> None:
    arrays = {"w": normal(16, 4, 1, 1), "v": normal(3, 16, 1, 1)}
    body = "h = Conv(x, w) r = Relu(h) y = Conv(r, v)"
    model = saved(parse(f"g (float[N,4,8,8] x) => (float[N,3,8,8] y) {{ {body} }}", **arrays), tmp_path)
    notes: list[str] = []
    context_ = context(tmp_path / "out", MemoryDataset([{"x": normal(1, 5, 8, 8)}]), notes, ratio=0.5, align=1)
    assert onnx.load(PruneChannels().apply(model, context_).path)
    assert any("was not fitted" in note for note in notes)
    holes = MemoryDataset([{"x": np.full((1, 4, 8, 8), np.nan, np.float32)}])
    assert np.isfinite(outputs(pruned(model, tmp_path / "nan", holes), SAMPLES.sample(0).feeds)[0]).all()
