"""Recurrent layers without some of their cells answer as the same layers with zeros in the cells' place."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from prune_graphs import assert_pruned_equals_masked, context, normal, outputs, parse, saved

from dovetail.compress.graph.simplify import simplify
from dovetail.compress.prune.channels import PruneChannels
from dovetail.compress.prune.coupling import Coupling, Group
from dovetail.compress.prune.graph import prepare
from dovetail.core.errors import ModelError
from dovetail.search.space import shapes

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def layers(kind: str, *, both_ways: bool, cells: int = 12, state: bool = False, peepholes: bool = False) -> onnx.ModelProto:
    """Two recurrent layers as exporters write them, ``x [5, N, 6]`` to ``y [N, 4]``; one initial state of zeros serves both."""
    ways, gates = 1 + both_ways, GATES[kind]
    constants, nodes, value, size = {}, [], "x", 6
    zeros = ["zeros"] * (2 if kind == "LSTM" else 1)
    constants["zeros"] = normal(ways, 1, cells) if state else np.zeros((ways, 1, cells), np.float32)
    for i in range(2):
        constants[f"w{i}"] = normal(ways, gates * cells, size, seed=i) / 3
        constants[f"r{i}"] = normal(ways, gates * cells, cells, seed=i) / 3
        constants[f"b{i}"] = normal(ways, 2 * gates * cells, seed=i) / 3
        constants[f"p{i}"] = normal(ways, 3 * cells, seed=i) / 3
        more = [f"p{i}"] if peepholes and kind == "LSTM" else []
        direction = "bidirectional" if both_ways else "forward"
        inputs = [value, f"w{i}", f"r{i}", f"b{i}", "", *zeros, *more]
        size = ways * cells
        constants[f"s{i}"] = np.array([5, -1, size])
        nodes += [
            helper.make_node(kind, inputs, [f"h{i}"], name=f"layer{i}", direction=direction, hidden_size=cells),
            helper.make_node("Transpose", [f"h{i}"], [f"t{i}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"t{i}", f"s{i}"], [f"v{i}"]),
        ]
        value = f"v{i}"
    constants |= {"last": np.array(-1), "f": normal(size, 4)}
    nodes.append(helper.make_node("Gather", [value, "last"], ["g"], axis=0))
    nodes.append(helper.make_node("MatMul", ["g", "f"], ["y"], name="end"))
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 1, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def groups(proto: onnx.ModelProto, folder: Path) -> dict[str, Group]:
    return {group.name: group for group in Coupling(prepare(saved(proto, folder), "test")).groups}


@QUICK
@given(
    kind=st.sampled_from(sorted(GATES)), both_ways=st.booleans(), state=st.booleans(), peepholes=st.booleans(),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_layers_without_cells_equal_layers_with_zeros(
    tmp_path: Path, kind: str, both_ways: bool, state: bool, peepholes: bool, seed: int
) -> None:
    proto = layers(kind, both_ways=both_ways, state=state, peepholes=peepholes)
    assert_pruned_equals_masked(saved(proto, tmp_path), {"x": normal(5, 1, 6, seed=seed)}, seed)


@pytest.mark.parametrize("kind", sorted(GATES))
def test_layers_lose_cells_apart_and_know_their_new_size(tmp_path: Path, kind: str) -> None:
    model = saved(layers(kind, both_ways=True), tmp_path)
    found = list(groups(layers(kind, both_ways=True), tmp_path).values())[:2]
    assert [(g.layers, len(g), g.reason) for g in found] == [(("layer0",), 12, None), (("layer1",), 12, None)]
    pruned = PruneChannels().apply(model, context(tmp_path / "out", ratios=("layer0=0.5",), align=1))
    sizes = [node.attributes.get_int("hidden_size") for node in ir.load(pruned.path).graph if node.op_type == kind]
    assert sizes == [6, 12]


def test_a_state_that_the_caller_holds_keeps_its_cells(tmp_path: Path) -> None:
    body = "h, n = GRU<hidden_size=8>(x, w, r, b, , s) y = Identity(n)"
    arrays = {"w": normal(1, 24, 3), "r": normal(1, 24, 8), "b": normal(1, 48)}
    text = f"g (float[4,1,3] x, float[1,1,8] s) => (float[1,1,8] y) {{ {body} }}"
    model = saved(parse(text, **arrays), tmp_path)
    with pytest.raises(ModelError, match=r"no channels or neurons can be pruned.*starts from 's'"):
        PruneChannels().apply(model, context(tmp_path / "out", ratio=0.5))


@pytest.mark.parametrize(
    "made", ["z = Identity(k)", "z = Expand(o, e)", "z = ConstantOfShape(e)", "f = Expand(o, t) z = Slice(f, a, c, a)"]
)
def test_written_out_zeros_are_no_state(made: str) -> None:
    body = f"{made} h = GRU<hidden_size=2>(x, w, r, , , z) y = Identity(h)"
    arrays = {
        "w": normal(1, 6, 3), "r": normal(1, 6, 2), "k": np.zeros((1, 1, 2), np.float32), "o": np.zeros((1, 1, 1), np.float32),
        "e": np.array([1, 1, 2]), "t": np.array([4, 1, 2]), "a": np.array([0]), "c": np.array([1]),
    }  # fmt: skip
    proto = parse(f"g (float[4,1,3] x) => (float[4,1,1,2] y) {{ {body} }}", **arrays)
    cleaned = simplify(ir.from_proto(proto))
    assert [len([v for v in node.inputs if v is not None]) for node in cleaned.graph if node.op_type == "GRU"] == [3]
    feeds = {"x": normal(4, 1, 3)}
    np.testing.assert_allclose(outputs(cleaned, feeds)[0], outputs(proto, feeds)[0], atol=1e-6)


def test_a_recurrent_network_has_a_way_to_get_smaller() -> None:
    assert set(shapes(frozenset({"GRU", "Transpose"}))) == {"channels", "costly channels"}
