"""The network as training left it, for those who go on training it: ONNX, its weights alone, and how they came to be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from dovetail.core.protocols import Model
from dovetail.core.recipe import PassSpec

NETWORK, WEIGHTS, RECIPE = "trained.onnx", "trained.safetensors", "trained.json"
"""Beside the variant's own model."""


def trained_files(model: Model, passes: Sequence[PassSpec]) -> Mapping[str, bytes]:
    """File name → content: the network, its tensors by name, and the passes that led to it in order.

    Args:
        model: an ONNX file, as the last of the passes left it.
        passes: from the original to it.
    """
    import onnx
    from onnx import numpy_helper
    from safetensors.numpy import save

    proto = onnx.load(model.path)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    steps = [step.to_json() for step in passes]
    return {
        NETWORK: proto.SerializeToString(),
        WEIGHTS: save({name: value.copy() for name, value in weights.items()}, metadata={"format": "onnx initializers"}),
        RECIPE: json.dumps({"schema": 1, "passes": steps}, indent=1).encode(),
    }
