"""Whole blocks and layers."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from prune_graphs import AVX512, bert, context, normal, outputs, parse, saved, tokens, vit

from dovetail.compress.prune.blocks import PruneBlocks, PruneLayers
from dovetail.compress.prune.graph import prepare
from dovetail.compress.prune.residual import residual_blocks, transformer_layers
from dovetail.core.errors import DataError, InputError, ModelError
from dovetail.core.protocols import Model, Pass, PassContext
from dovetail.testing.models import Case
from dovetail.testing.pass_suite import PassConformance
from dovetail.testing.samples import MemoryDataset


def residual(gains: tuple[float, ...] = (1.0, 0.01, 0.5)) -> onnx.ModelProto:
    """Blocks whose branches are the stronger, the greater their gain."""
    lines, arrays = ["s = Conv<pads=[1,1,1,1]>(x, stem) h0 = Relu(s)"], {"stem": normal(6, 3, 3, 3), "head": normal(4, 6, 1, 1)}
    for i, gain in enumerate(gains):
        arrays |= {f"a{i}": normal(8, 6, 3, 3, seed=i), f"b{i}": np.float32(0.02 * gain) * normal(6, 8, 3, 3, seed=i)}
        lines.append(
            f"p{i} = Conv<pads=[1,1,1,1]>(h{i}, a{i}) q{i} = Relu(p{i}) r{i} = Conv<pads=[1,1,1,1]>(q{i}, b{i}) "
            f"t{i} = Add(h{i}, r{i}) h{i + 1} = Relu(t{i})"
        )
    body = " ".join([*lines, f"y = Conv(h{len(gains)}, head)"])
    return parse(f"g (float[N,3,8,8] x) => (float[N,4,8,8] y) {{ {body} }}", **arrays)


def pictures(count: int = 4) -> MemoryDataset:
    return MemoryDataset([{"x": normal(1, 3, 8, 8, seed=i)} for i in range(count)])


def residual_case() -> Case:
    return Case(proto=residual(), feeds={"x": normal(2, 3, 8, 8)}, others={"x": normal(2, 3, 8, 8, seed=1)})


def transformer_case() -> Case:
    return Case(proto=bert(), feeds=tokens(0), others=tokens(1))


def no_blocks() -> onnx.ModelProto:
    return parse("g (float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }", w=normal(4, 4))


class TestPruneBlocks(PassConformance):
    compression_pass: Pass = PruneBlocks()
    config = {"count": 1}
    case = staticmethod(residual_case)
    bulky = staticmethod(residual_case)
    refuses = (no_blocks,)


class TestPruneLayers(PassConformance):
    compression_pass: Pass = PruneLayers()
    config = {"count": 1}
    case = staticmethod(transformer_case)
    bulky = staticmethod(transformer_case)
    refuses = (no_blocks, residual)


def convs(model: Model) -> int:
    return sum(node.op_type == "Conv" for node in onnx.load(model.path).graph.node)


def test_a_block_that_adds_zeros_goes_without_a_trace(tmp_path: Path) -> None:
    model = saved(residual((1.0, 0.0, 0.5)), tmp_path / "source")
    result = PruneBlocks().apply(model, context(tmp_path / "work", calibration=pictures(), count=1))
    feeds = {"x": normal(3, 3, 8, 8, seed=9)}
    for a, b in zip(outputs(onnx.load(model.path), feeds), outputs(onnx.load(result.path), feeds), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-5 * np.abs(a).max())
    kinds = [node.op_type for node in onnx.load(result.path).graph.node]
    assert kinds.count("Conv") == 6 and kinds.count("Add") == 2 and kinds.count("Relu") == 5


@pytest.mark.parametrize("importance", ["auto", "output", "change"])
def test_what_changes_least_goes_first(tmp_path: Path, importance: str) -> None:
    model = saved(residual((1.0, 0.01, 0.5)), tmp_path / "source")
    ctx = context(tmp_path / "work", calibration=pictures(), count=2, importance=importance)
    result = PruneBlocks().apply(model, ctx)
    rows = json.loads((tmp_path / "work/pruned.json").read_text())["layers"]
    assert [row["removed"] for row in rows] == [False, True, True]
    assert rows[1]["importance"] < rows[2]["importance"] < rows[0]["importance"]
    assert convs(result) == 4


def test_blocks_by_place_and_by_name(tmp_path: Path) -> None:
    model = saved(residual(), tmp_path / "source")
    names = [block.name for block in residual_blocks(prepare(model, "test").graph)]
    by_place = PruneBlocks().apply(model, context(tmp_path / "place", blocks=["0", "2"]))
    by_name = PruneBlocks().apply(model, context(tmp_path / "name", blocks=[names[0], names[2]]))
    assert by_place.path.read_bytes() == by_name.path.read_bytes() and convs(by_place) == 4
    everything = PruneBlocks().apply(model, context(tmp_path / "all", blocks=["0", "1", "2"]))
    assert convs(everything) == 2


def test_scores_decide_where_there_are_any(tmp_path: Path) -> None:
    """The drop of quality is asked for without each block in turn."""
    seen: list[int] = []

    def drop(model: Model) -> float:
        seen.append(convs(model))
        return [0.3, 0.2, 0.1][len(seen) - 1]

    base = context(tmp_path / "work", count=1)
    ctx = PassContext(workdir=base.workdir, environment=AVX512, config=base.config, score=drop)
    PruneBlocks().apply(saved(residual(), tmp_path / "source"), ctx)
    rows = json.loads((tmp_path / "work/pruned.json").read_text())["layers"]
    assert seen == [6, 6, 6] and [row["removed"] for row in rows] == [False, False, True]


def test_what_others_left_behind_is_looked_at_again(tmp_path: Path) -> None:
    """Two blocks do the same, so either may go alone, but not both."""
    seen: list[int] = []

    def drop(model: Model) -> float:
        first, second, third = (name in weights(model) for name in ("a0", "a1", "a2"))
        seen.append(convs(model))
        return 0.9 * (not (first or second)) + 0.1 * (not first) + 0.2 * (not second) + 0.3 * (not third)

    base = context(tmp_path / "work", count=2)
    ctx = PassContext(workdir=base.workdir, environment=AVX512, config=base.config, score=drop)
    result = PruneBlocks().apply(saved(residual(), tmp_path / "source"), ctx)
    assert weights(result) & {"a0", "a1", "a2"} == {"a1"}
    assert seen[:3] == [6, 6, 6] and 1 <= len(seen[3:]) <= 2 and not (tmp_path / "work/trial").exists()


def weights(model: Model) -> set[str]:
    return {tensor.name for tensor in onnx.load(model.path).graph.initializer}


def test_layers_of_encoders_before_and_after_their_norms(tmp_path: Path) -> None:
    post, pre = prepare(saved(bert(3), tmp_path / "post"), "t").graph, prepare(saved(vit(), tmp_path / "pre"), "t").graph
    assert [len(f(g)) for g in (post, pre) for f in (residual_blocks, transformer_layers)] == [6, 3, 2, 1]


def test_without_its_middle_layer_an_encoder_is_the_one_of_two_layers(tmp_path: Path) -> None:
    three, two = bert(3), bert(2)
    last = {t.name: t for t in three.graph.initializer}
    for tensor in two.graph.initializer:
        name = tensor.name
        tensor.CopyFrom(last[name[:-1] + "2" if name.endswith("1") else name])  # its layer 1 is layer 2 of three
        tensor.name = name
    result = PruneLayers().apply(saved(three, tmp_path / "source"), context(tmp_path / "work", blocks=["1"]))
    for a, b in zip(outputs(two, tokens()), outputs(onnx.load(result.path), tokens()), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-5)


def test_gelu_written_out_is_no_residual_block(tmp_path: Path) -> None:
    body = "a = MatMul(x, w) b = Pow(a, three) c = Mul(b, k) d = Add(a, c) e = Tanh(d) y = MatMul(e, v)"
    proto = parse(
        f"g (float[N,4] x) => (float[N,4] y) {{ {body} }}",
        w=normal(4, 4),
        v=normal(4, 4),
        three=np.float32(3),
        k=np.float32(0.04),
    )
    assert residual_blocks(prepare(saved(proto, tmp_path), "test").graph) == []


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({}, InputError, "give count or blocks"),
        ({"count": 1, "blocks": ["0"]}, InputError, "give count or blocks"),
        ({"count": 0}, InputError, "less than 1"),
        ({"count": 4}, InputError, "3 of 3 can"),
        ({"blocks": ["7"]}, InputError, "none of the residual blocks"),
        ({"count": 1, "importance": "score"}, DataError, "nothing to score"),
    ],
)
def test_wrong_parameters_are_named(tmp_path: Path, config: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PruneBlocks().apply(
            saved(residual(), tmp_path / "source"), context(tmp_path / "work", calibration=pictures(), **config)
        )


def test_ranking_needs_samples(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="calibration samples"):
        PruneBlocks().apply(saved(residual(), tmp_path / "source"), context(tmp_path / "work", count=1))


def test_the_last_layer_stays(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 transformer layers are to go; 1 of 2 can"):
        PruneLayers().apply(saved(bert(2), tmp_path / "source"), context(tmp_path / "work", blocks=["0", "1"]))


def test_a_network_without_blocks_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no residual blocks"):
        PruneBlocks().apply(saved(no_blocks(), tmp_path / "source"), context(tmp_path / "work", count=1))


def test_resnet_56_without_blocks_is_a_shallower_resnet(shared_data: Path, tmp_path: Path) -> None:
    source = Model(path=shared_data / "cifar10_resnets/resnet56_cifar10.onnx")
    blocks = residual_blocks(prepare(source, "test").graph)
    assert len(blocks) == 25
    samples = MemoryDataset([{"input": normal(1, 3, 32, 32, seed=i)} for i in range(3)])
    result = PruneBlocks().apply(source, context(tmp_path / "work", calibration=samples, count=18, importance="change"))
    assert convs(result) == 55 - 36
    kinds = [node.op_type for node in onnx.load(result.path).graph.node]
    assert kinds.count("Add") == 9 and kinds.count("Relu") == 19
    assert outputs(onnx.load(result.path), {"input": normal(2, 3, 32, 32)})[0].shape == (2, 10)
