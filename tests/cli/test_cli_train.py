"""``dovetail train``: weights, recipe and report in a folder; bad input is one message."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")


@pytest.fixture
def samples(digits: Path, tmp_path: Path) -> Path:
    with np.load(digits / "digits.npz") as file:
        np.savez(tmp_path / "train.npz", image=file["image"][:400], label=file["label"][:400])
    return tmp_path / "train.npz"


@pytest.fixture
def untrained(tmp_path: Path) -> Path:
    """Dense 32, dense 10 on flattened images, with random weights."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (256, 32), "b1": (32,), "w2": (32, 10), "b2": (10,)}
    weights = [onnx.numpy_helper.from_array((0.1 * rng.standard_normal(s)).astype(np.float32), n) for n, s in shapes.items()]
    make = onnx.helper.make_node
    nodes = [
        make("Flatten", ["image"], ["flat"]), make("Gemm", ["flat", "w1", "b1"], ["h"]),
        make("Relu", ["h"], ["r"]), make("Gemm", ["r", "w2", "b2"], ["logits"]),
    ]  # fmt: skip
    floats = onnx.TensorProto.FLOAT
    ports = [onnx.helper.make_tensor_value_info("image", floats, ["n", 1, 16, 16])], [
        onnx.helper.make_tensor_value_info("logits", floats, ["n", 10])
    ]
    graph = onnx.helper.make_graph(nodes, "mlp", *ports, weights)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "mlp.onnx")
    return tmp_path / "mlp.onnx"


def test_labels_train_a_network(dovetail, untrained: Path, samples: Path, tmp_path: Path) -> None:
    command = ["train", untrained, "--data", samples, "--epochs", 20, "--batch", 32, "--learning-rate", 0.01, "--hold-out", 0.2]
    done = dovetail(*command, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["score_name"] == "accuracy" and told["score"] > 0.8
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"model.onnx", "training.json", "report.html"}
    summary = json.loads((tmp_path / "out" / "training.json").read_text())
    assert summary["metric"] == "" and summary["teacher_sha256"] is None
    assert summary["history"][-1]["loss"] < summary["history"][0]["loss"]
    before, after = onnx.load(untrained).graph, onnx.load(tmp_path / "out" / "model.onnx").graph
    assert [i.name for i in before.input] == [i.name for i in after.input]


@pytest.mark.slow
def test_a_search_keeps_what_it_tried(dovetail, untrained: Path, samples: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    command = ["train", untrained, "--data", samples, "--epochs", 5, "--trials", 2, "--out", tmp_path / "out", "--json"]
    first = json.loads(dovetail(*command).stdout)
    again = dovetail(*command)
    assert json.loads(again.stdout)["tried"] == first["tried"] and len(first["tried"]) == 2
    assert len((tmp_path / "out" / "trials.jsonl").read_text().splitlines()) == 2


def test_bad_input_is_one_message(dovetail, untrained: Path, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    taken = dovetail("train", untrained, "--data", samples, "--out", tmp_path / "out")
    assert taken.returncode == 2 and "thesis.tex" in taken.stderr and "Traceback" not in taken.stderr
    short = dovetail("train", untrained, "--data", samples, "--optimizer", "adam", "--out", tmp_path / "new")
    assert short.returncode == 2 and "sgd, adamw" in short.stderr
    assert not (tmp_path / "new").exists()
    command = ["train", untrained, "--data", samples, "--out", tmp_path / "new"]
    several = dovetail(*command, "--augment", "shifts", "--augment", "images")
    assert several.returncode == 2 and "2 augmentations" in several.stderr and "--trials" in several.stderr
    for wrong, message in (("--metric=acuracy", "did you mean accuracy"), ("--seed=-1", "a seed is a whole number")):
        done = dovetail(*command, wrong, "--trials", 1)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_budget_too_short_for_any_setting_is_one_message(dovetail, untrained: Path, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for left in ("training.json.part", "model.onnx.partial"):  # by a kill
        (tmp_path / "out" / left).write_text("torn")
    command = ["train", untrained, "--data", samples, "--trials", 2, "--budget", "0.1s", "--out", tmp_path / "out"]
    done = dovetail(*command, "--quiet")
    assert done.returncode == 2 and "too short to try one setting" in done.stderr and "Traceback" not in done.stderr
