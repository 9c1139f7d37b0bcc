"""What is kept of a trained network."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dovetail.core.protocols import Model
from dovetail.export.trained import NETWORK, RECIPE, WEIGHTS, trained_files
from dovetail.search.space import spec
from dovetail.testing.models import conv_net


def test_the_network_its_weights_and_its_recipe_are_kept(tmp_path: Path) -> None:
    tensors = pytest.importorskip("safetensors.numpy")
    proto = conv_net().proto
    onnx.save(proto, tmp_path / "model.onnx")
    files = trained_files(Model(path=tmp_path / "model.onnx"), (spec("prune_blocks", count=1), spec("distil", epochs=2)))
    assert onnx.load_from_string(files[NETWORK]) == proto
    weights = tensors.load(files[WEIGHTS])
    assert {t.name for t in proto.graph.initializer} == set(weights)
    for tensor in proto.graph.initializer:
        np.testing.assert_array_equal(weights[tensor.name], numpy_helper.to_array(tensor))
    assert [step["name"] for step in json.loads(files[RECIPE])["passes"]] == ["prune_blocks", "distil"]
