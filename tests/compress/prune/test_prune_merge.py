"""Blocks that become one convolution."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from prune_graphs import context, normal, outputs, parse, saved
from test_prune_blocks import no_blocks, pictures, residual, residual_case, transformer_case

from dovetail.compress.prune.blocks import PruneBlocks
from dovetail.compress.prune.merge import MergeBlocks, fitted
from dovetail.core.errors import DataError, InputError
from dovetail.core.protocols import Array, Pass
from dovetail.testing.pass_suite import PassConformance


class TestMergeBlocks(PassConformance):
    compression_pass: Pass = MergeBlocks()
    config = {"count": 1}
    case = staticmethod(residual_case)
    bulky = staticmethod(residual_case)
    refuses = (no_blocks,)


def linear_block(normalised: bool = False) -> onnx.ModelProto:
    """A block whose branch is one convolution and no activation but the last: a convolution can stand for all of it."""
    middle = "r = Conv<pads=[0,0,0,0]>(q, b)"
    if normalised:
        middle = "n = Conv(q, b) r = BatchNormalization(n, scale, shift, mean, variance)"
    body = f"s = Conv(x, stem) h = Relu(s) q = Conv<pads=[1,1,1,1]>(h, a) {middle} t = Add(h, r) u = Relu(t) y = Conv(u, head)"
    arrays = {"stem": normal(6, 3, 1, 1), "head": normal(4, 6, 1, 1)}
    arrays |= {"a": 0.2 * normal(24, 6, 3, 3), "b": 0.3 * normal(6, 24, 1, 1)}
    if normalised:
        vectors = {"scale": 0.5 + abs(normal(6)), "shift": normal(6, seed=1), "mean": normal(6, seed=2)}
        arrays |= {**vectors, "variance": 0.5 + abs(normal(6, seed=3))}
    return parse(f"g (float[N,3,8,8] x) => (float[N,4,8,8] y) {{ {body} }}", **arrays)


def answers(proto: onnx.ModelProto) -> Array:
    return outputs(proto, {"x": normal(3, 3, 8, 8, seed=9)})[0]


@pytest.mark.parametrize("normalised", [False, True])
def test_a_block_that_is_linear_is_merged_without_loss(tmp_path: Path, normalised: bool) -> None:
    source = linear_block(normalised)
    result = MergeBlocks().apply(
        saved(source, tmp_path / "source"), context(tmp_path / "work", calibration=pictures(64), count=1)
    )
    merged = onnx.load(result.path)
    wanted = answers(source)
    assert np.abs(answers(merged) - wanted).max() < 0.02 * np.abs(wanted).max()
    kinds = [node.op_type for node in merged.graph.node]
    assert kinds.count("Conv") == 3 and "Add" not in kinds and kinds.count("BatchNormalization") == int(normalised)


def test_merging_loses_less_than_leaving_out(tmp_path: Path) -> None:
    source = residual((8.0, 6.0, 9.0))
    lost = []
    for way in (PruneBlocks(), MergeBlocks()):
        folder = tmp_path / way.name
        result = way.apply(saved(source, folder / "source"), context(folder / "work", calibration=pictures(64), count=2))
        lost.append(float(np.abs(answers(onnx.load(result.path)) - answers(source)).mean()))
    assert lost[1] < 0.8 * lost[0]


def test_where_a_relu_follows_only_what_it_lets_through_counts() -> None:
    x = normal(8, 4, 6, 6)
    sums = np.einsum("oc,nchw->nohw", normal(4, 4, seed=1), x) - 0.5
    shown = np.where(sums > 0, sums, -5.0).astype(np.float32)  # what lies below zero is no linear function of x
    kernels = [fitted([(x, shown)], 1, rectified=rectified) for rectified in (False, True)]
    errors = []
    for kernel in kernels:
        found = np.einsum("oc,nchw->nohw", kernel.weight[:, :, 0, 0], x) + kernel.bias[:, None, None]
        errors.append(float(np.abs(np.maximum(found, 0) - np.maximum(shown, 0)).mean()))
    assert errors[1] < 0.5 * errors[0]


def test_transformers_have_nothing_to_merge(tmp_path: Path) -> None:
    model = saved(transformer_case().proto, tmp_path / "source")
    with pytest.raises(Exception, match="no residual blocks of convolutions"):
        MergeBlocks().apply(model, context(tmp_path / "work", calibration=pictures(), count=1))


def test_it_takes_samples_and_a_count_that_exists(tmp_path: Path) -> None:
    model = saved(residual(), tmp_path / "source")
    with pytest.raises(DataError, match="samples"):
        MergeBlocks().apply(model, context(tmp_path / "a", count=1))
    with pytest.raises(InputError, match="4 residual blocks"):
        MergeBlocks().apply(model, context(tmp_path / "b", calibration=pictures(), count=4))
