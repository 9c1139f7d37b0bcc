"""Which channels depend on which: pruned graphs answer like the same graphs with zeros in the place of what was taken."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prune_graphs import Net, assert_pruned_equals_masked, normal, outputs, parse, saved

from dovetail.compress.prune.coupling import Coupling, Group
from dovetail.compress.prune.graph import prepare
from dovetail.compress.prune.units import Units
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Model

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def groups(proto: onnx.ModelProto, folder: Path) -> dict[str, Group]:
    return {group.name: group for group in Coupling(prepare(saved(proto, folder), "test")).groups}


@QUICK
@given(seed=st.integers(0, 2**31), parts=st.integers(1, 6))
def test_any_network_without_channels_equals_it_with_zeros(tmp_path: Path, seed: int, parts: int) -> None:
    model = saved(Net(seed).write(parts), tmp_path)
    feeds = {"x": np.random.default_rng(seed).standard_normal((2, 3, 8, 8)).astype(np.float32)}
    assert_pruned_equals_masked(model, feeds, seed)


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_units_are_joined_as_an_equivalence(pairs: list[tuple[int, int]]) -> None:
    units, classes = Units(), {i: {i} for i in range(20)}
    units.new(20)
    for a, b in pairs:
        units.join(np.array([a]), np.array([b]))
        merged = classes[a] | classes[b]
        for member in merged:
            classes[member] = merged
    roots = units.roots(np.arange(20))
    assert all((roots[i] == roots[j]) == (j in classes[i]) for i in range(20) for j in range(20))


def test_a_reason_holds_for_units_that_are_joined_later() -> None:
    units = Units()
    a = units.new(3)
    units.keep(a[2:], "an output")
    b = units.new(3)
    units.join(b, a)
    assert units.reasons() == {int(units.roots(b)[2]): "an output"}


def test_residual_sums_couple_layers_and_the_output_holds_its_channels(tmp_path: Path) -> None:
    body = "a = Conv<pads=[1,1,1,1]>(x, w) r = Relu(a) b = Conv<pads=[1,1,1,1]>(r, u) s = Add(b, r) y = Conv(s, v)"
    weights = {"w": normal(8, 3, 3, 3), "u": normal(8, 8, 3, 3), "v": normal(4, 8, 1, 1)}
    found = list(groups(parse(f"g (float[N,3,9,9] x) => (float[N,4,9,9] y) {{ {body} }}", **weights), tmp_path).values())
    assert [(len(g), len(g.layers), g.reason is None) for g in found] == [(8, 2, True), (4, 1, False)]
    assert found[1].reason == "graph output 'y' shows them"


def test_padded_shortcuts_couple_positions_exactly(tmp_path: Path) -> None:
    body = "a = Conv(x, w) p = Pad(a, k) b = Conv(x, u) s = Add(b, p) r = Relu(s) y = Conv(r, v)"
    arrays = {
        "w": normal(4, 3, 1, 1),
        "u": normal(10, 3, 1, 1),
        "v": normal(2, 10, 1, 1),
        "k": np.array([0, 1, 0, 0, 0, 5, 0, 0]),
    }
    model = saved(parse(f"g (float[N,3,5,5] x) => (float[N,2,5,5] y) {{ {body} }}", **arrays), tmp_path)
    coupling = Coupling(prepare(model, "test"))
    shared, alone = coupling.groups[0], coupling.groups[1]
    assert (len(shared), len(shared.layers), len(alone), len(alone.layers)) == (4, 2, 6, 1)
    coupling.remove([shared.units[0], shared.units[3], alone.units[0], alone.units[2]])
    graph = {value.name: value for value in coupling.model.graph.initializers.values()}
    np.testing.assert_array_equal(graph["w"].const_value.numpy(), arrays["w"][[1, 2]])
    np.testing.assert_array_equal(graph["u"].const_value.numpy(), arrays["u"][[2, 3, 5, 7, 8, 9]])
    pad = next(node for node in coupling.model.graph if node.op_type == "Pad")
    assert pad.inputs[1].const_value.numpy().tolist() == [0, 0, 0, 0, 0, 4, 0, 0]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("a = Conv(x, w) y = Softmax<axis=1>(a)", "Softmax"),
        ("a = Conv(x, w) b = CumSum(a, one) y = Conv(b, v)", "CumSum"),
        ("a = Conv(x, w) y = Add(a, z)", "'z', whose size is fixed"),
        ("a = Conv(x, w) b = ReduceMean<axes=[1], keepdims=1>(a) y = Mul(b, b)", "ReduceMean"),
        ("a = Conv(x, w) b = LRN<size=3>(a) y = Conv(b, v)", "LRN"),
        ("a = Conv(x, w) y = Conv(z, a)", "Conv"),
    ],
)
def test_what_cannot_be_followed_is_left_alone_with_the_reason(tmp_path: Path, body: str, reason: str) -> None:
    inputs = "float[N,3,5,5] x, float[N,6,5,5] z"
    arrays = {"w": normal(6, 3, 1, 1), "v": normal(2, 6, 1, 1), "one": np.int64(1)}
    used = {name: array for name, array in arrays.items() if name in body.replace("Conv", "")}
    found = groups(parse(f"g ({inputs}) => (float[N,C,H,W] y) {{ {body} }}", **used), tmp_path)
    assert reason in str(next(iter(found.values())).reason)


def test_weights_that_two_layers_share_couple_them(tmp_path: Path) -> None:
    body = "a = Conv(x, w) b = Conv(z, w) p = Relu(a) q = Tanh(b) c = Concat<axis=1>(p, q) y = Conv(c, v)"
    proto = parse(
        f"g (float[N,3,5,5] x, float[N,3,5,5] z) => (float[N,2,5,5] y) {{ {body} }}",
        w=normal(6, 3, 1, 1),
        v=normal(2, 12, 1, 1),
    )
    model = saved(proto, tmp_path)
    found = [g for g in Coupling(prepare(model, "test")).groups if g.reason is None]
    assert [(len(g), len(g.layers)) for g in found] == [(6, 2)]
    feeds = {"x": normal(2, 3, 5, 5), "z": normal(2, 3, 5, 5, seed=1)}
    assert all(assert_pruned_equals_masked(model, feeds, seed) >= 0 for seed in range(4))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("a = MatMul(x, w) r = Relu(a) b = MatMul(r, w) s = Relu(b) y = MatMul(s, v)", "reads 'w' as it is"),
        ("a = MatMul(x, w) b = Add(a, k) c = Concat<axis=1>(x, k) d = MatMul(b, v) e = MatMul(c, u) y = Add(d, e)", "Concat"),
        ("a = MatMul(x, w) b = Add(a, k) c = Add(x, k) d = MatMul(b, v) e = MatMul(c, v) y = Add(d, e)", "reads 'k' as it is"),
    ],
)
def test_a_constant_that_somebody_reads_whole_stays(tmp_path: Path, body: str, reason: str) -> None:
    arrays = {"w": normal(6, 6), "k": normal(2, 6), "v": normal(6, 2), "u": normal(12, 2)}
    used = {name: array for name, array in arrays.items() if f" {name})" in body or f" {name}," in body}
    model = saved(parse(f"g (float[2,6] x) => (float[2,2] y) {{ {body} }}", **used), tmp_path)
    assert reason in str(Coupling(prepare(model, "test")).groups[0].reason)
    assert all(assert_pruned_equals_masked(model, {"x": normal(2, 6)}, seed) == 0 for seed in range(3))


def test_what_is_computed_for_a_normalisation_keeps_its_size(tmp_path: Path) -> None:
    body = "a = MatMul(z, w) s = ReduceMean<axes=[0], keepdims=0>(a) n = BatchNormalization(x, s, o, o, o) y = Relu(n)"
    arrays = {"w": normal(3, 6), "o": np.ones(6, np.float32)}
    proto = parse(f"g (float[N,6] x, float[2,3] z) => (float[N,6] y) {{ {body} }}", **arrays)
    assert "parameters" in str(next(iter(groups(proto, tmp_path).values())).reason)


def test_a_depthwise_layer_is_known_by_its_name(tmp_path: Path) -> None:
    body = "a = Conv(x, w) [deep] b = Conv<group=6>(a, d) y = Conv(b, v)"
    arrays = {"w": normal(6, 3, 1, 1), "d": normal(6, 1, 1, 1), "v": normal(2, 6, 1, 1)}
    proto = parse(f"g (float[N,3,5,5] x) => (float[N,2,5,5] y) {{ {body} }}", **arrays)
    coupling = Coupling(prepare(saved(proto, tmp_path), "test"))
    assert coupling.groups_of("deep") == [coupling.groups[0]]


def test_a_vector_that_two_layers_share_does_not_couple_them(tmp_path: Path) -> None:
    body = "a = Conv(x, w, o) p = Relu(a) b = Conv(p, u, o) q = Relu(b) y = Conv(q, v)"
    arrays = {"w": normal(6, 3, 1, 1), "u": normal(6, 6, 1, 1), "v": normal(2, 6, 1, 1), "o": np.zeros(6, np.float32)}
    model = saved(parse(f"g (float[N,3,5,5] x) => (float[N,2,5,5] y) {{ {body} }}", **arrays), tmp_path)
    assert [len(g.layers) for g in Coupling(prepare(model, "test")).groups] == [1, 1, 1]


def test_bodies_of_control_flow_hold_what_they_read(tmp_path: Path) -> None:
    then = "t () => (float[N,6,5,5] k) { k = Relu(a) }"
    other = "e () => (float[N,6,5,5] l) { l = Tanh(a) }"
    body = f"a = Conv(x, w) i = If (c) <then_branch = {then}, else_branch = {other}> y = Conv(i, v)"
    proto = parse(
        f"g (float[N,3,5,5] x, bool c) => (float[N,2,5,5] y) {{ {body} }}", w=normal(6, 3, 1, 1), v=normal(2, 6, 1, 1)
    )
    assert "If" in str(next(iter(groups(proto, tmp_path).values())).reason)


def test_channels_that_have_to_stay_and_whole_layers_are_refused(tmp_path: Path) -> None:
    proto = parse(
        "g (float[N,3] x) => (float[N,2] y) { a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }", w=normal(3, 6), v=normal(6, 2)
    )
    coupling = Coupling(prepare(saved(proto, tmp_path), "test"))
    inner, outer = coupling.groups
    with pytest.raises(ModelError, match="graph output"):
        coupling.remove(outer.units[:1])
    with pytest.raises(ModelError, match="every channel"):
        coupling.remove(inner.units)
    with pytest.raises(InputError, match="no layer is named"):
        coupling.groups_of("nobody")


def test_quantised_graphs_are_refused(tmp_path: Path) -> None:
    body = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Relu(d)"
    proto = parse(f"g (float[N,3] x) => (float[N,3] y) {{ {body} }}", s=np.float32(0.1), z=np.uint8(0))
    with pytest.raises(ModelError, match="quantised"):
        prepare(saved(proto, tmp_path), "prune_channels")


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "name", ["mlperf_tiny/resnet8_cifar10", "cifar10_resnets/resnet20_cifar10", "cifar10_resnets/resnet56_cifar10"]
)
def test_real_residual_networks(shared_data: Path, tmp_path: Path, name: str, seed: int) -> None:
    feeds = {"input": normal(2, 3, 32, 32, seed=seed)}
    assert assert_pruned_equals_masked(Model(path=shared_data / f"{name}.onnx"), feeds, seed) > 20


def test_the_autoencoder(shared_data: Path) -> None:
    model = Model(path=shared_data / "mlperf_tiny/ad_toycar_autoencoder.onnx")
    assert assert_pruned_equals_masked(model, {"input": normal(2, 640)}, 0) > 100


def test_zero_weights_of_consumers_make_pruning_lossless(shared_data: Path) -> None:
    """Outputs stay where the layers that read the channels have zeros for them, whatever the channels hold."""
    prepared = prepare(Model(path=shared_data / "mlperf_tiny/resnet8_cifar10.onnx"), "test")
    coupling = Coupling(prepared)
    group = coupling.groups_of("conv2d_1")[0]
    gone = group.units[:5]
    reader = coupling.walk.places[next(layer.weight for layer in coupling.layers if layer.name == "conv2d_2")]
    weight = next(layer.weight for layer in coupling.layers if layer.name == "conv2d_2")
    array = weight.const_value.numpy().copy()
    array[:, ~coupling.kept(gone)(reader[1])] = 0
    weight.const_value = ir.tensor(array, name=weight.name)
    feeds = {"input": normal(2, 3, 32, 32)}
    before = outputs(coupling.model, feeds)[0]
    coupling.remove(gone)
    np.testing.assert_allclose(outputs(coupling.model, feeds)[0], before, rtol=0, atol=1e-5)


def test_pieces_of_a_split_never_run_empty(tmp_path: Path) -> None:
    """Units of each piece are a group of their own, so that some of them remain."""
    body = "a = Conv(x, w) p, q = Split<axis=1>(a, sizes) r = Relu(p) b = Conv(r, u) c = Conv(q, v) y = Add(b, c)"
    arrays = {"w": normal(8, 3, 1, 1), "u": normal(2, 3, 1, 1), "v": normal(2, 5, 1, 1), "sizes": np.array([3, 5])}
    model = saved(parse(f"g (float[N,3,5,5] x) => (float[N,2,5,5] y) {{ {body} }}", **arrays), tmp_path)
    coupling = Coupling(prepare(model, "test"))
    first, second = (group for group in coupling.groups if group.reason is None)
    assert (len(first), len(second)) == (3, 5)
    with pytest.raises(ModelError, match="would go"):
        coupling.remove(first.units)
    coupling.remove([*first.units[:2], *second.units[:1]])
    split = next(node for node in coupling.model.graph if node.op_type == "Split")
    assert split.inputs[1].const_value.numpy().tolist() == [1, 4]
    assert outputs(coupling.model, {"x": normal(2, 3, 5, 5)})[0].shape == (2, 2, 5, 5)


def test_channels_under_a_layer_norm_are_marked_and_follow(tmp_path: Path) -> None:
    body = "a = MatMul(x, w) n = LayerNormalization<axis=-1>(a, g, b) y = MatMul(n, v)"
    arrays = {"w": normal(3, 6), "v": normal(6, 2), "g": normal(6), "b": normal(6, seed=1)}
    coupling = Coupling(prepare(saved(parse(f"g (float[N,3] x) => (float[N,2] y) {{ {body} }}", **arrays), tmp_path), "test"))
    group = coupling.groups[0]
    assert group.averaged and group.reason is None
    coupling.remove(group.units[:2])
    assert outputs(coupling.model, {"x": normal(4, 3)})[0].shape == (4, 2)


def test_shapes_that_are_computed_keep_their_computed_entries(tmp_path: Path) -> None:
    """Batch and length come from the input; the entries for heads and features change."""
    body = """
    s = Shape(x) n = Slice(s, zero, one) l = Slice(s, one, two) a = MatMul(x, w) t = Concat<axis=0>(n, l, heads)
    r = Reshape(a, t) q = Relu(r) u = Concat<axis=0>(n, l, features) b = Reshape(q, u) y = MatMul(b, v)
    """
    arrays = {"w": normal(3, 12), "v": normal(12, 2), "zero": np.array([0]), "one": np.array([1]), "two": np.array([2])}
    arrays |= {"heads": np.array([3, 4]), "features": np.array([12])}
    model = saved(parse(f"g (float[N,L,3] x) => (float[N,L,2] y) {{ {body} }}", **arrays), tmp_path)
    coupling = Coupling(prepare(model, "test"))
    assert [(len(g), g.width, g.reason) for g in coupling.groups][0] == (3, 4, None)
    coupling.remove(coupling.groups[0].units[1:2])
    assert outputs(coupling.model, {"x": normal(4, 5, 3)})[0].shape == (4, 5, 2)
    assert max(assert_pruned_equals_masked(model, {"x": normal(4, 5, 3)}, seed) for seed in range(3)) > 0
