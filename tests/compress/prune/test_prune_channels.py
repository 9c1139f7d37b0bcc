"""How many channels go, which, and what the pass tells of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prune_graphs import AVX512, context, normal, outputs, parse, saved

from dovetail.compress.prune import importance, selection
from dovetail.compress.prune.channels import Config, PruneChannels, prune
from dovetail.compress.prune.coupling import Coupling, Group
from dovetail.compress.prune.graph import prepare
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Model, Pass, PassContext
from dovetail.testing.models import mlp
from dovetail.testing.pass_suite import PassConformance


class TestPruneChannels(PassConformance):
    compression_pass: Pass = PruneChannels()
    config = {"ratio": 0.5}
    refuses = (lambda: parse("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"),)


def conv_chain(width: int = 64) -> onnx.ModelProto:
    body = "a = Conv<pads=[1,1,1,1]>(x, w) r = Relu(a) b = Conv<pads=[1,1,1,1]>(r, u) s = Relu(b) y = Conv(s, v)"
    arrays = {"w": normal(width, 3, 3, 3), "u": normal(2 * width, width, 3, 3), "v": normal(4, 2 * width, 1, 1)}
    return parse(f"g (float[N,3,8,8] x) => (float[N,4,8,8] y) {{ {body} }}", **arrays)


def channels(model: Model) -> list[int]:
    """Output channels of the convolutions."""
    proto = onnx.load(model.path)
    shapes = {t.name: t.dims for t in proto.graph.initializer}
    return [shapes[n.input[1]][0] for n in proto.graph.node if n.op_type == "Conv"]


def apply(folder: Path, proto: onnx.ModelProto, **config: object) -> Model:
    return PruneChannels().apply(saved(proto, folder / "source"), context(folder / "work", **config))


# -- importance --------------------------------------------------------------------------------------------------------------


def test_a_weight_of_minus_two_at_sigma_one_has_importance_two() -> None:
    weights = np.array([[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    assert weights.std() == 1.0
    np.testing.assert_array_equal(importance.of_weights(weights, "normalized"), np.abs(weights))
    np.testing.assert_array_equal(importance.of_weights(3 * weights, "normalized"), np.abs(weights))
    np.testing.assert_array_equal(importance.of_weights(3 * weights, "magnitude"), 3 * np.abs(weights))
    np.testing.assert_array_equal(importance.of_weights(weights, "taylor", -weights), weights**2)


def test_taylor_without_gradients_is_an_error() -> None:
    with pytest.raises(InputError, match="gradient"):
        importance.of_weights(np.ones(3), "taylor")


@pytest.mark.parametrize(
    ("method", "first", "second"),
    [("l1", np.abs, np.sum), ("magnitude", np.abs, np.mean), ("l2", np.square, lambda a, axis: np.sqrt(np.sum(a, axis)))],
)
def test_a_group_is_worth_the_mean_of_its_tensors(tmp_path: Path, method: str, first: object, second: object) -> None:
    w, v = normal(3, 6), normal(6, 2)
    proto = parse("g (float[N,3] x) => (float[N,2] y) { a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }", w=w, v=v)
    coupling = Coupling(prepare(saved(proto, tmp_path), "test"))
    found = importance.of_group(importance.of_units(coupling, method), coupling.groups[0])  # type: ignore[arg-type]
    expected = (second(first(w), axis=0) + second(first(v), axis=1)) / 2  # type: ignore[operator]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_batch_norm_scales_rank_channels_where_there_are_any(tmp_path: Path) -> None:
    body = "a = Conv(x, w) n = BatchNormalization(a, g, o, m, s) r = Relu(n) y = Conv(r, v)"
    ones = np.ones(8, np.float32)
    scale = np.array([3, -1, 0.5, 2, 5, -4, 6, 7], np.float32)
    proto = parse(
        f"g (float[N,3,5,5] x) => (float[N,4,5,5] y) {{ {body} }}",
        w=normal(8, 3, 1, 1), v=normal(4, 8, 1, 1), g=scale, o=0 * ones, m=0 * ones, s=ones,
    )  # fmt: skip
    result = apply(tmp_path, proto, ratio=0.5, importance="batch_norm")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weight(result, "g")), scale[[4, 5, 6, 7]])
    with pytest.raises(ModelError, match="no batch normalisation follows"):
        apply(tmp_path / "without", conv_chain(), ratio=0.5, importance="batch_norm")


def weight(model: Model, name: str) -> onnx.TensorProto:
    return next(t for t in onnx.load(model.path).graph.initializer if t.name == name)


def test_gradients_from_outside_decide(tmp_path: Path) -> None:
    proto = parse(
        "g (float[N,3] x) => (float[N,2] y) { a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }", w=normal(3, 8), v=normal(8, 2)
    )
    gradients = {"w": np.zeros((3, 8)), "v": np.zeros((8, 2))}
    gradients["v"][[1, 3, 5, 6]] = 1
    model = saved(proto, tmp_path / "source")
    result = prune(model, context(tmp_path / "work"), Config(ratio=0.5), ("neurons",), "prune_channels", gradients)
    expected = onnx.numpy_helper.to_array(proto.graph.initializer[0])[:, [1, 3, 5, 6]]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weight(result, "w")), expected)
    with pytest.raises(InputError, match="no gradient of"):
        prune(model, context(tmp_path / "other"), Config(ratio=0.5), ("neurons",), "prune_channels", {"w": gradients["w"]})


# -- amounts -----------------------------------------------------------------------------------------------------------------


def group(count: int, width: int = 1) -> Group:
    units = tuple(range(count))
    return Group(name="g", layers=("g",), units=units, width=width, kind="channels", reason=None, averaged=False)


@given(st.integers(2, 300), st.floats(0, 0.999), st.sampled_from([1, 4, 8, 16, 32]))
def test_what_remains_is_a_multiple_of_the_step_and_never_nothing(count: int, ratio: float, align: int) -> None:
    score = np.random.default_rng(count).random(count)
    left = count - len(selection.by_ratio([group(count)], [score], [ratio], align))
    size = selection.step(group(count), align)
    assert 1 <= size <= left <= count
    assert left == count or left % size == 0
    assert size == align or count < 2 * align


@pytest.mark.parametrize(
    ("count", "align", "expected"), [(64, 16, 16), (32, 16, 16), (16, 16, 8), (8, 16, 4), (6, 16, 1), (7, 1, 1)]
)
def test_narrow_layers_go_in_smaller_steps(count: int, align: int, expected: int) -> None:
    assert selection.step(group(count), align) == expected


def test_heads_are_wider_than_a_step() -> None:
    assert selection.step(group(12, width=32), 16) == 1
    assert selection.step(group(12, width=8), 16) == 2


@pytest.mark.parametrize(
    ("isa", "dtype", "expected"),
    [("avx512f", "float32", 16), ("avx512f", "int8", 32), ("avx2", "float32", 8), ("asimd", "int8", 16)],
)
def test_a_step_fills_the_widest_register(isa: str, dtype: str, expected: int) -> None:
    assert selection.lanes(replace(AVX512, isa=(isa,)), dtype) == expected


@pytest.mark.parametrize("scope", ["local", "global"])
def test_half_of_the_channels_go(tmp_path: Path, scope: str) -> None:
    result = apply(tmp_path, conv_chain(), ratio=0.5, scope=scope)
    widths = channels(result)
    assert sum(widths[:2]) == pytest.approx(96, abs=16) and all(width % 16 == 0 for width in widths[:2]) and widths[2] == 4
    assert outputs(onnx.load(result.path), {"x": normal(2, 3, 8, 8)})[0].shape == (2, 4, 8, 8)


def test_layers_that_are_not_named_stay_whatever_their_width(tmp_path: Path) -> None:
    names = [layer.name for layer in Coupling(prepare(saved(conv_chain(20), tmp_path / "look"), "test")).layers]
    assert channels(apply(tmp_path, conv_chain(20), ratios=[f"{names[1]}=0.6"])) == [20, 16, 4]
    assert selection.by_ratio([group(20)], [np.ones(20)], [0.0], 16) == []


def test_shares_by_layer(tmp_path: Path) -> None:
    names = [layer.name for layer in Coupling(prepare(saved(conv_chain(), tmp_path / "look"), "test")).layers]
    assert channels(apply(tmp_path / "one", conv_chain(), ratios=[f"{names[1]}=0.75"])) == [64, 32, 4]
    assert channels(apply(tmp_path / "both", conv_chain(), ratio=0.5, ratios=[f"{names[1]}=0.75"])) == [32, 32, 4]
    assert channels(apply(tmp_path / "excluded", conv_chain(), ratio=0.5, exclude=[names[0]])) == [64, 64, 4]


def test_a_target_of_arithmetic_is_met_and_not_by_much(tmp_path: Path) -> None:
    full = 2 * 64 * (64 * 27 + 128 * 64 * 9 + 4 * 128)
    result = apply(tmp_path, conv_chain(), flop=full / 4)
    a, b, _ = channels(result)
    flop = 2 * 64 * (a * 27 + b * a * 9 + 4 * b)
    assert 0.1 * full <= flop <= 0.25 * full


def test_a_share_of_the_counted_cost(tmp_path: Path) -> None:
    assert sum(channels(apply(tmp_path / "less", conv_chain(), cost=0.8))) > sum(
        channels(apply(tmp_path / "more", conv_chain(), cost=0.3))
    )


def test_a_channel_that_runs_through_more_layers_counts_more() -> None:
    many, one = replace(group(32), layers=("a", "b", "c")), group(32)
    steps = selection.greedy([many, one], [np.ones(32)] * 2, lambda left: float(2 * left[0] + left[1]), align=16)
    assert [step.group for step in steps] == [1, 0]  # saves half, loses a third


def test_measured_time_decides_which_layer_gives(tmp_path: Path) -> None:
    """On a machine where only the first layer's channels take time, the second keeps its own."""
    asked: list[list[int]] = []

    def seconds(model: Model) -> float:
        asked.append(channels(model))
        return 1e-3 * channels(model)[0] / 64

    ctx = context(tmp_path / "work", cost=0.5)
    ctx = PassContext(workdir=ctx.workdir, environment=AVX512, config=ctx.config, cost=seconds)
    result = PruneChannels().apply(saved(conv_chain(), tmp_path / "source"), ctx)
    assert channels(result)[0] == 32 and channels(result)[1] >= 96
    assert len(asked) <= 12 and not (tmp_path / "work/trial").exists()


def test_a_latency_needs_a_machine(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="machine to measure"):
        apply(tmp_path, conv_chain(), latency_s=1e-3)


def test_what_cannot_be_reached_is_said_with_what_can(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="pruning reaches"):
        apply(tmp_path, conv_chain(), cost=0.0001)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "nothing says how much"),
        ({"ratio": 0.5, "cost": 0.5}, "contradict"),
        ({"ratio": 1.0}, "every channel"),
        ({"ratio": 1.0, "scope": "global"}, "every channel"),
        ({"ratio": -0.1}, "no share"),
        ({"ratios": ["nobody=0.5"]}, "no layer is named"),
        ({"ratios": ["half"]}, "LAYER=SHARE"),
        ({"ratio": 0.5, "exclude": ["nobody"]}, "no layer is named"),
        ({"cost": 1.5}, "not below 1"),
        ({"ratio": 0.5, "align": 0}, "less than 1"),
        ({"ratio": 0.5, "importance": "luck"}, "not one of"),
    ],
)
def test_wrong_parameters_are_named(tmp_path: Path, config: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        apply(tmp_path, conv_chain(), **config)


def test_a_layer_that_cannot_be_pruned_is_named_with_the_reason(tmp_path: Path) -> None:
    names = [layer.name for layer in Coupling(prepare(saved(conv_chain(), tmp_path / "look"), "test")).layers]
    with pytest.raises(InputError, match="graph output 'y' shows them"):
        apply(tmp_path, conv_chain(), ratios=[f"{names[2]}=0.5"])


def test_settings_that_prune_nothing_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="prune nothing"):
        apply(tmp_path, conv_chain(), ratio=0.01)


def test_the_report_has_every_layer_before_and_after(tmp_path: Path) -> None:
    notes: list[str] = []
    PruneChannels().apply(saved(mlp().proto, tmp_path / "source"), context(tmp_path / "work", notes=notes, ratio=0.5))
    told = json.loads((tmp_path / "work/pruned.json").read_text())
    assert [(row["before"], row["after"]) for row in told["layers"]] == [(64, 32), (16, 16)]
    assert told["importance"] == "l2" and "graph output" in next(iter(told["held"].values()))
    assert notes == ["keeps 48 of 80 channels; 1 of 2 layers are narrower"]


@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_residual_networks_lose_a_third(shared_data: Path, tmp_path: Path, name: str) -> None:
    source = Model(path=shared_data / f"cifar10_resnets/{name}_cifar10.onnx")
    result = PruneChannels().apply(source, context(tmp_path / "work", ratio=0.4, align=8))
    assert all(width % 8 == 0 for width in channels(result))
    assert result.size_bytes() < 0.6 * source.size_bytes()
    assert outputs(onnx.load(result.path), {"input": normal(2, 3, 32, 32)})[0].shape == (2, 10)
