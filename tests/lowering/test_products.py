"""Products of matrices in all the forms that models write them in."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from lowered import reference
from written import agreeing, found, lowered, model, node, numbers, runtime

from dovetail.core.errors import ModelError

FORMS = [
    ((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)),
    ((4,), (2, 4, 5)), ((2, 3, 4), (4,)), ((2, 1, 3, 4), (5, 4, 6)), ((3, 4), (2, 4, 5)),
    ((2, 2, 2, 3, 2, 4), (2, 2, 2, 3, 4, 5)), ((2, 2, 2, 3, 2, 4), (4, 5)),
]  # fmt: skip


def split(arrays: dict[str, np.ndarray], constant: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Feeds, and the one that is a constant."""
    return {n: v for n, v in arrays.items() if n != constant}, {n: v for n, v in arrays.items() if n == constant}


@pytest.mark.parametrize("constant", ["", "a", "b"])
@pytest.mark.parametrize(("a", "b"), FORMS)
def test_matmul_takes_matrices_batches_and_vectors(a: Any, b: Any, constant: str, tmp_path: Path) -> None:
    feeds, constants = split({"a": numbers(*a), "b": numbers(*b, seed=1)}, constant)
    agreeing(model([node("MatMul", "a b", "y")], feeds, "y", constants), feeds, tmp_path)


@pytest.mark.parametrize("first", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("second", [(0, 1, 2), (0, 2, 1), (1, 0, 2)])
def test_matmul_of_transposed_values_with_a_bound_behind_it(first: Any, second: Any, tmp_path: Path) -> None:
    feeds = {
        "a": np.ascontiguousarray(numbers(2, 3, 4).transpose(np.argsort(first))),
        "b": np.ascontiguousarray(numbers(2, 4, 5).transpose(np.argsort(second))),
    }
    nodes = [
        node("Transpose", "a", "s", perm=first), node("Transpose", "b", "t", perm=second),
        node("MatMul", "s t", "m"), node("Relu", "m", "y"),
    ]  # fmt: skip
    kinds, _ = agreeing(model(nodes, feeds, "y"), feeds, tmp_path)
    if first in ((0, 1, 2), (0, 2, 1)) and second in ((0, 1, 2), (0, 2, 1)) and (first, second) != ((0, 2, 1), (0, 2, 1)):
        assert kinds["TRANSPOSE"] == 0


def test_constant_matrices_on_the_left_are_layers_of_channels_last(tmp_path: Path) -> None:
    feeds = {"x": numbers(2, 4, 3)}
    nodes = [
        node("Transpose", "x", "t", perm=(0, 2, 1)),
        node("MatMul", "w t", "y"),
        node("Transpose", "y", "z", perm=(0, 2, 1)),
    ]
    kinds, _ = agreeing(model(nodes, feeds, "z", {"w": numbers(5, 3)}), feeds, tmp_path)
    assert kinds == {"FULLY_CONNECTED": 1}


@pytest.mark.parametrize("addend", [None, (), (5,), (1, 5), (3, 1), (3, 5)])
@pytest.mark.parametrize(
    ("left", "right", "alpha", "beta"), [(0, 0, 1.0, 1.0), (1, 0, 0.5, 2.0), (0, 1, 1.0, 2.0), (1, 1, 2.0, 0.0)]
)
def test_gemm_with_all_flags(left: int, right: int, alpha: float, beta: float, addend: Any, tmp_path: Path) -> None:
    arrays = {"a": numbers(*((4, 3) if left else (3, 4))), "b": numbers(*((5, 4) if right else (4, 5)))}
    if addend is not None:
        arrays["c"] = numbers(*addend, seed=2)
    names = " ".join(arrays)
    nodes = [node("Gemm", names, "m", transA=left, transB=right, alpha=alpha, beta=beta), node("Relu", "m", "y")]
    for fixed in ("", "b", "c", "bc"):
        feeds = {name: value for name, value in arrays.items() if name not in fixed}
        agreeing(model(nodes, feeds, "y", {n: v for n, v in arrays.items() if n in fixed}), feeds, tmp_path)


@pytest.mark.parametrize("constant", ["", "a", "b"])
@pytest.mark.parametrize(
    ("equation", "a", "b"),
    [
        ("bhid,bhjd->bhij", (2, 3, 4, 5), (2, 3, 6, 5)), ("bhij,bhjd->bhid", (2, 3, 4, 6), (2, 3, 6, 5)),
        ("bihd,bjhd->bhij", (2, 4, 3, 5), (2, 6, 3, 5)), ("bhij,bjhd->bihd", (2, 3, 4, 6), (2, 6, 3, 5)),
        ("bsd,dhk->bshk", (2, 3, 4), (4, 5, 6)), ("bshk,hkd->bsd", (2, 3, 5, 6), (5, 6, 4)), ("i,j->ij", (3,), (4,)),
        ("ij,ij->ij", (3, 4), (3, 4)), ("i,i->", (4,), (4,)), ("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)),
        ("bij,bjk", (2, 3, 4), (2, 4, 5)),
        ("ijk,jl->ilk", (2, 3, 4), (3, 5)), ("abc,cd->db", (2, 3, 4), (4, 5)),
    ],
)  # fmt: skip
def test_einsum_is_a_product_of_matrices(equation: str, a: Any, b: Any, constant: str, tmp_path: Path) -> None:
    feeds, constants = split({"a": numbers(*a), "b": numbers(*b, seed=1)}, constant)
    agreeing(model([node("Einsum", "a b", "y", equation=equation)], feeds, "y", constants), feeds, tmp_path)


def test_einsum_of_one_value_moves_and_sums(tmp_path: Path) -> None:
    feeds = {"a": numbers(2, 3, 4)}
    for equation in ("...ij->...ji", "ijk->ik", "ijk->"):
        agreeing(model([node("Einsum", "a", "y", equation=equation)], feeds, "y"), feeds, tmp_path)
    with pytest.raises(ModelError, match="diagonal"):
        lowered(model([node("Einsum", "a", "y", equation="iji->j")], {"a": numbers(2, 3, 2)}, "y"), tmp_path)


# -- integers --------------------------------------------------------------------------------------------------------------


INPUTS, OUTPUTS = 96, 64


def pair(source: str, name: str, scale: float, zero: int, constants: dict[str, Any]) -> list[onnx.NodeProto]:
    """A value rounded to int8, and read back as reals under ``name``."""
    constants.update({f"{name}/s": np.float32(scale), f"{name}/z": np.int8(zero)})
    parameters = f"{name}/s {name}/z"
    return [
        node("QuantizeLinear", f"{source} {parameters}", f"{name}/q"), node("DequantizeLinear", f"{name}/q {parameters}", name),
    ]  # fmt: skip


def weights(kind: str, constants: dict[str, Any]) -> onnx.NodeProto:
    """Weights ``w`` of some quantisation."""
    w = numbers(INPUTS, OUTPUTS) / 8
    axis = {"columns": 1, "rows": 0}.get(kind, 1)
    scale = np.abs(w).max(axis=1 - axis) / 127 if kind in ("columns", "rows") else np.float32(np.abs(w).max() / 120)
    zero = np.zeros(scale.shape, np.int8) + np.int8(7 if kind == "asymmetric" else 0)
    spread = scale[:, None] if kind == "rows" else scale
    integers = np.clip(np.rint(w / spread) + (7 if kind == "asymmetric" else 0), -127, 127).astype(np.int8)
    constants.update({"w/q": integers, "w/s": scale.astype(np.float32), "w/z": zero})
    return node("DequantizeLinear", "w/q w/s w/z", "w", axis=axis)


@pytest.mark.parametrize("kind", ["tensor", "columns", "rows", "asymmetric"])
def test_quantised_layers_are_within_a_step(kind: str, tmp_path: Path) -> None:
    constants: dict[str, Any] = {"b": numbers(OUTPUTS)}
    nodes = [
        *pair("x", "v", 0.03, -5, constants),
        weights(kind, constants),
        node("MatMul", "v w", "m"),
        node("Add", "m b", "n"),
    ]
    nodes += pair("n", "y", 0.05, 3, constants)
    feeds = {"x": numbers(2, 9, INPUTS)}
    proto = model(nodes, feeds, "y", constants)
    want = reference(proto, feeds)["y"]
    _, report = lowered(proto, tmp_path)
    for delegate in (True, False):
        steps = np.abs(found(proto, feeds, tmp_path, delegate)["y"] - want) / 0.05
        assert steps.max() < 1.01 and (steps < 0.5).mean() > (0.8 if kind == "asymmetric" else 0.99)
    assert any("asymmetric" in note for note in report.notes) == (kind == "asymmetric")
    assert report.operators.count("QUANTIZE") == (2 if kind == "rows" else 1)


@pytest.mark.parametrize("kind", ["tensor", "columns", "rows", "asymmetric"])
@pytest.mark.parametrize("rounded", [True, False])
def test_integer_weights_of_float_layers_are_exact_and_stay_small(kind: str, rounded: bool, tmp_path: Path) -> None:
    constants: dict[str, Any] = {}
    before = pair("x", "v", 0.03, -5, constants) if rounded else []
    nodes = [*before, weights(kind, constants), node("MatMul", f"{'v' if rounded else 'x'} w", "y")]
    feeds = {"x": numbers(2, 9, INPUTS)}
    proto = model(nodes, feeds, "y", constants)
    kinds, _ = agreeing(proto, feeds, tmp_path)
    assert kinds["FULLY_CONNECTED"] == 1 and len(lowered(proto, tmp_path)[0]) < 2 * INPUTS * OUTPUTS


@pytest.mark.parametrize("dtype", ["int4", "uint4"])
def test_weights_of_4_bits_are_kept_in_8(dtype: str, tmp_path: Path) -> None:
    zero = 8 if dtype == "uint4" else 0
    small = getattr(ml_dtypes, dtype)
    w = numbers(INPUTS, OUTPUTS)
    scale = (np.abs(w).max(axis=0) / 7).astype(np.float32)
    integers = (np.clip(np.rint(w / scale), -7, 7) + zero).astype(small)
    constants = {"w/q": integers, "s": scale, "z": np.full(OUTPUTS, zero).astype(small)}
    feeds = {"x": numbers(9, INPUTS)}
    proto = model([node("DequantizeLinear", "w/q s z", "w", axis=1), node("MatMul", "x w", "y")], feeds, "y", constants)
    agreeing(proto, feeds, tmp_path)
    assert len(lowered(proto, tmp_path)[0]) < 2 * INPUTS * OUTPUTS


def test_weights_in_blocks_become_floats(tmp_path: Path) -> None:
    w = numbers(INPUTS, OUTPUTS)
    scale = (np.abs(w).reshape(INPUTS // 16, 16, OUTPUTS).max(axis=1) / 127).astype(np.float32)
    integers = np.clip(np.rint(w / np.repeat(scale, 16, axis=0)), -127, 127).astype(np.int8)
    nodes = [node("DequantizeLinear", "w/q s", "w", axis=0, block_size=16), node("MatMul", "x w", "y")]
    feeds = {"x": numbers(9, INPUTS)}
    agreeing(model(nodes, feeds, "y", {"w/q": integers, "s": scale}), feeds, tmp_path)


def test_weights_of_half_precision_stay_half(tmp_path: Path) -> None:
    feeds = {"x": numbers(9, INPUTS)}
    w = numbers(INPUTS, OUTPUTS).astype(np.float16)
    proto = model([node("Cast", "h", "w", to=1), node("MatMul", "x w", "y")], feeds, "y", {"h": w})
    kinds, _ = agreeing(proto, feeds, tmp_path)
    assert kinds == {"DEQUANTIZE": 1, "FULLY_CONNECTED": 1} and len(lowered(proto, tmp_path)[0]) < 3 * INPUTS * OUTPUTS


@pytest.mark.parametrize("zero", [0, 3])
@pytest.mark.parametrize("bounded", [False, True])
def test_quantised_batches_are_within_a_step(zero: int, bounded: bool, tmp_path: Path) -> None:
    constants: dict[str, Any] = {}
    nodes = [*pair("a", "s", 0.03, 4, constants), *pair("b", "t", 0.02, zero, constants), node("MatMul", "s t", "m")]
    nodes += (
        [node("Relu", "m", "r"), *pair("r", "y", 0.07, -128, constants)] if bounded else pair("m", "y", 0.07, -3, constants)
    )
    feeds = {"a": numbers(2, 3, 6, 8), "b": numbers(2, 3, 8, 5)}
    proto = model(nodes, feeds, "y", constants)
    want = reference(proto, feeds)["y"]
    for delegate in (True, False):
        steps = np.abs(found(proto, feeds, tmp_path, delegate)["y"] - want) / 0.07
        assert steps.max() < 1.01 and (steps < 0.5).mean() > 0.98
    # XNNPACK multiplies integers where the right operand's zero is 0; else floats are faster and as close.
    assert lowered(proto, tmp_path)[1].operators.count("DEQUANTIZE") == (1 if zero == 0 and not bounded else 3)


@pytest.mark.parametrize("per_channel", [True, False])
def test_products_rounded_at_run_time_keep_their_integer_weights(per_channel: bool, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    feeds = {"x": numbers(2, 9, INPUTS)}
    nodes = [node("MatMul", "x w", "m"), node("Add", "m b", "n"), node("Relu", "n", "y")]
    proto = model(nodes, feeds, "y", {"w": numbers(INPUTS, OUTPUTS), "b": numbers(OUTPUTS)})
    quantize_dynamic(proto, tmp_path / "dynamic.onnx", per_channel=per_channel, weight_type=QuantType.QInt8)
    dynamic = onnx.load(tmp_path / "dynamic.onnx")
    data, report = lowered(dynamic, tmp_path)
    assert report.operators == ("FULLY_CONNECTED",) and len(data) < 2 * INPUTS * OUTPUTS
    assert len(report.notes) == 1 and "row by row" in report.notes[0]
    exact = reference(proto, feeds)["y"]
    error = np.abs(reference(dynamic, feeds)["y"] - exact).mean()
    for delegate in (True, False):
        assert np.abs(runtime().run(data, feeds, delegate)["y"] - exact).mean() < 1.2 * error


# -- tables ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["half", "rows", "rows with zeros", "columns", "tensor"])
def test_tables_of_embeddings_stay_small_and_exact(kind: str, tmp_path: Path) -> None:
    table, feeds = numbers(2000, 24), {"i": np.array([[1, 5, -1, 1999, 0]])}
    constants: dict[str, Any] = {"t": table.astype(np.float16).astype(np.float32)}
    nodes = [node("Gather", "t i", "y")]
    if kind != "half":
        axis = 1 if kind == "columns" else 0
        scale = np.abs(table).max(axis=1 - axis) / 127 if kind != "tensor" else np.array(0.03)
        zero = np.arange(len(table)) % 5 if kind == "rows with zeros" else np.zeros(scale.shape)
        spread = scale[:, None] if kind.startswith("rows") else scale
        constants = {"t/q": np.clip(np.rint(table / spread), -127, 127).astype(np.int8)}
        constants |= {"s": scale.astype(np.float32), "z": zero.astype(np.int8)}
        nodes = [node("DequantizeLinear", "t/q s z", "t", axis=axis), *nodes]
    proto = model(nodes, feeds, "y", constants)
    agreeing(proto, feeds, tmp_path)
    assert len(lowered(proto, tmp_path)[0]) < 2.2 * table.size
