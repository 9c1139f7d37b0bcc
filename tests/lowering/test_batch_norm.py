"""Batch normalisation that no weights take up is a product and a sum, which bounds the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written import agreeing, lowered, model, node, numbers

from dovetail.core.errors import ModelError

CONSTANTS: dict[str, Any] = {
    "g": numbers(6), "b": numbers(6, seed=1), "m": numbers(6, seed=2), "v": np.abs(numbers(6, seed=3)) + 0.1,
    "w": numbers(4, 6, 3, 3),
}  # fmt: skip
NORM = "x g b m v"


@pytest.mark.parametrize("shape", [(2, 6, 5, 4), (2, 6, 7), (3, 6), (1, 6, 3, 4, 2)])
def test_a_bound_is_fused(shape: tuple[int, ...], tmp_path: Path) -> None:
    nodes = [node("BatchNormalization", NORM, "n", epsilon=1e-3), node("Relu", "n", "y")]
    feeds = {"x": numbers(*shape)}
    kinds, _ = agreeing(model(nodes, feeds, "y", CONSTANTS), feeds, tmp_path)
    assert kinds == {"MUL": 1, "ADD": 1}


def test_normalised_before_a_convolution(tmp_path: Path) -> None:
    nodes = [
        node("BatchNormalization", NORM, "n"), node("Relu", "n", "r"), node("Conv", "r w", "c", pads=(1, 1, 1, 1)),
        node("Add", "c first", "y"),
    ]  # fmt: skip
    feeds = {"x": numbers(1, 6, 8, 8)}
    kinds, _ = agreeing(model(nodes, feeds, "y", {**CONSTANTS, "first": numbers(1, 4, 1, 1)}), feeds, tmp_path)
    assert kinds == {"TRANSPOSE": 2, "MUL": 1, "ADD": 2, "CONV_2D": 1}


@pytest.mark.parametrize(("training", "words"), [(1, "statistics of its batch"), (0, "parameters at run time")])
def test_other_forms_are_refused(training: int, words: str, tmp_path: Path) -> None:
    feeds = {"x": numbers(2, 6, 5, 4)}
    constants = dict(CONSTANTS)
    if not training:
        feeds["g"] = constants.pop("g")
    outputs = "y mean variance" if training else "y"
    proto = model([node("BatchNormalization", NORM, outputs, training_mode=training)], feeds, "y", constants)
    with pytest.raises(ModelError, match=words):
        lowered(proto, tmp_path)
