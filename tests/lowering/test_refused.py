"""What is not lowered is refused in one sentence that says what, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from written import lowered, model, node, numbers

from dovetail.core.errors import InputError, ModelError
from dovetail.lowering.lower import lower

BOXES = [
    node("NonMaxSuppression", "boxes scores most", "chosen"), node("Shape", "chosen", "s"), node("Gather", "s first", "n"),
    node("Unsqueeze", "n axes", "u"), node("ConstantOfShape", "u", "zeros"), node("Gather", "chosen two", "which", axis=1),
    node("NonZero", "which", "places"), node("Relu", "zeros", "y"), node("Det", "boxes", "nobody"),
]  # fmt: skip
"""The end of a detector: what comes after its first operator has no shape that is known in advance."""


def test_all_operators_without_a_form_are_named_though_shapes_are_unknown(tmp_path: Path) -> None:
    feeds = {"boxes": numbers(1, 9, 4), "scores": numbers(1, 1, 9)}
    constants: dict[str, Any] = {"most": np.array([5]), "first": np.array(0), "axes": np.array([0]), "two": np.array([2])}
    proto = helper.make_model(
        helper.make_graph(
            BOXES, "boxes",
            [helper.make_tensor_value_info(name, 1, value.shape) for name, value in feeds.items()],
            [helper.make_empty_tensor_value_info(name) for name in ("y", "places")],
            [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
        ), opset_imports=[helper.make_opsetid("", 21)], ir_version=10,
    )  # fmt: skip
    with pytest.raises(ModelError, match="^no LiteRT form for NonMaxSuppression, NonZero$"):
        lowered(proto, tmp_path)


def test_a_shape_that_shows_at_run_time_is_named_with_what_makes_it(tmp_path: Path) -> None:
    nodes = [node("Reshape", "x s", "m"), node("Relu", "m", "y")]
    with pytest.raises(ModelError, match="the shape of 'm', made by Reshape, is not known in advance"):
        lowered(model(nodes, {"x": numbers(2, 6), "s": np.array([3, 4])}, "y"), tmp_path)


def sized(*shape: int | str) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info("x", 1, shape), helper.make_empty_tensor_value_info("y")]
    graph = helper.make_graph([node("Relu", "x", "y")], "sized", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize(
    ("shape", "dims", "made"),
    [
        (("batch", 3), {}, (1, 3)), (("batch", 3), {"batch": 4}, (4, 3)), (("batch", 3), {"x:0": 4}, (4, 3)),
        ((2, 3), {"x:0": 2}, (2, 3)), ((2, "tokens"), {"x:0": 2, "tokens": 5}, (2, 5)),
    ],
)  # fmt: skip
def test_sizes_that_have_a_place(shape: Any, dims: dict[str, int], made: tuple[int, ...], tmp_path: Path) -> None:
    onnx.save(sized(*shape), str(tmp_path / "model.onnx"))
    assert lower(tmp_path / "model.onnx", tmp_path / "model.tflite", dims).inputs["x"].shape == made


@pytest.mark.parametrize(
    ("shape", "dims", "hint"),
    [
        (("batch", "tokens"), {"batchh": 8, "tokens": 2}, "'batchh'\n.*symbolic: batch, tokens"),
        (("batch", 3), {"x:1": 4}, "'x:1'\n.*symbolic: batch"), ((2, 3), {"batch": 2}, "'batch'\n.*fixed already"),
    ],
)  # fmt: skip
def test_sizes_that_have_none_are_refused(shape: Any, dims: dict[str, int], hint: str, tmp_path: Path) -> None:
    onnx.save(sized(*shape), str(tmp_path / "model.onnx"))
    with pytest.raises(InputError, match=f"no symbolic dimension {hint}"):
        lower(tmp_path / "model.onnx", tmp_path / "model.tflite", dims)
