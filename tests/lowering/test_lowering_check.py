"""When a lowered model counts as equal to the one it came from."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pairs import pair
from test_lowering_networks import apply
from written import model, node, numbers

from dovetail.core.errors import ModelError
from dovetail.lowering.check import Difference, difference, examples
from dovetail.lowering.source import Info


def test_positions_and_labels_count_by_how_many_are_equal() -> None:
    """One near tie lets two positions change places; the greatest label says nothing about that."""
    want = np.arange(200)
    got = want.copy()
    got[[3, 4]] = got[[4, 3]]
    assert difference("y", want, got, 0, quantised=False).unequal == 0
    got[9] = 0
    assert difference("y", want, got, 0, quantised=False).unequal == 3 / 200
    assert difference("y", np.array([True, False]), np.array([True, True]), 0, quantised=False).unequal == 0.5
    assert difference("y", want.astype(np.int8), got.astype(np.int8), 0, quantised=True).unequal is None


def test_coordinates_of_boxes_do_not_hide_the_scores_beside_them() -> None:
    want = np.abs(numbers(1, 50, 6))
    want[..., :4] *= 640 / want[..., :4].max()
    want[..., 4:] /= want[..., 4:].max()
    for axes in ((0, 1, 2), (0, 2, 1)):
        got = want.copy()
        got[0, 7, 5] += 0.05
        found = difference("y", want.transpose(axes), got.transpose(axes), 0, quantised=False)
        assert found.relative == pytest.approx(0.05 / 640, rel=1e-3)
        assert found.sliced == pytest.approx(0.05 / 64, rel=1e-3)


def test_what_remains_where_numbers_cancel_is_no_scale() -> None:
    want = numbers(1, 40, 8)
    want[..., 2] *= 1e-7
    got = want + 5e-6 * np.abs(want).max() * np.sign(want)
    assert difference("y", want, got, 0, quantised=False).sliced < 1e-4


@pytest.mark.parametrize("shape", [(1, 10), (4, 10), (3,), ()])
def test_a_few_numbers_are_no_slice(shape: tuple[int, ...]) -> None:
    want = np.abs(numbers(*shape))
    assert difference("y", want, want + 1e-3, 0, quantised=False).sliced == 0


def test_nothing_finite_is_nothing_equal() -> None:
    nothing = np.full((2, 3), np.nan, np.float32)
    assert difference("y", nothing, nothing, 0, quantised=False).relative == np.inf
    some = np.array([1.0, -np.inf], np.float32)
    assert difference("y", some, some, 0, quantised=False).relative == 0
    assert difference("y", some, np.array([1.0, 2.0], np.float32), 0, quantised=False).relative == np.inf


@pytest.mark.parametrize(
    ("quantised", "found", "own", "accepted"),
    [
        (False, {"unequal": 0.001}, {}, True), (False, {"unequal": 0.0011}, {}, False), (True, {"unequal": 0.04}, {}, True),
        (True, {"unequal": 0.09}, {"unequal": 0.05}, True), (True, {"unequal": 0.09}, {"unequal": 0.04}, False),
        (True, {"unequal": 0.6}, {"unequal": 0.5}, False), (True, {"unequal": 0.6, "relative": 0.02}, {}, False),
        (True, {"unequal": 0.6, "relative": 0.02, "narrow": True}, {}, True),
        (False, {"unequal": 0.6, "relative": 0.02, "narrow": True}, {}, False),
        (False, {"sliced": 9e-5}, {}, True), (False, {"sliced": 2e-4}, {}, False), (True, {"sliced": 0.9}, {}, True),
        (False, {"relative": np.inf}, {}, False), (True, {"relative": np.inf}, {"relative": np.inf}, False),
    ],
)  # fmt: skip
def test_what_is_permitted(
    quantised: bool, found: Any, own: Any, accepted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given how far outputs lie apart, which no small model does by itself."""
    for name, values in (("differences", found), ("own_differences", own)):
        made = Difference(**{"output": "y", "relative": 0.0, **values})
        monkeypatch.setattr(f"dovetail.lowering.check.{name}", lambda *_, made=made: [made])
    constants: dict[str, Any] = {}
    nodes = pair("x", "y", 0.1, "int8", constants) if quantised else [node("Relu", "x", "y")]
    proto = model(nodes, {"x": numbers(1, 4)}, "y", constants)
    with contextlib.nullcontext() if accepted else pytest.raises(ModelError, match="ONNX Runtime's"):
        apply(proto, tmp_path)


def test_without_data_masks_are_ones_and_indices_stay_inside(tmp_path: Path) -> None:
    """Divided by how many elements a mask of zeros lets through, nothing would be left to compare."""
    ids, mask = np.zeros((1, 3), np.int64), np.zeros((1, 3), np.int64)
    nodes = [
        node("Gather", "table ids", "e"), node("Cast", "mask", "m", to=onnx.TensorProto.FLOAT),
        node("Unsqueeze", "m last", "w"), node("Mul", "e w", "s"), node("ReduceSum", "s middle", "t"),
        node("ReduceSum", "w middle", "n"), node("Div", "t n", "y"),
    ]  # fmt: skip
    constants = {"last": np.array([2]), "middle": np.array([1])}
    for rows, first in ((5, 1), (1, 0)):
        proto = model(nodes, {"ids": ids, "mask": mask}, "y", {**constants, "table": numbers(rows, 4)})
        onnx.save(proto, str(tmp_path / "model.onnx"))
        infos = {name: Info(shape=(1, 3), dtype="int64") for name in ("ids", "mask")}
        (feeds,) = examples(tmp_path / "model.onnx", infos, None, 0)
        assert (feeds["ids"] == first).all() and (feeds["mask"] == 1).all()
    apply(model(nodes, {"ids": ids, "mask": mask}, "y", {**constants, "table": numbers(5, 4)}), tmp_path)


def test_a_model_that_makes_no_number_is_refused(tmp_path: Path) -> None:
    nodes = [node("Abs", "x", "a"), node("Neg", "a", "n"), node("Sub", "n one", "m"), node("Log", "m", "y")]
    with pytest.raises(ModelError, match="finite nowhere"):
        apply(model(nodes, {"x": numbers(1, 4)}, "y", {"one": np.float32(1)}), tmp_path)
