"""Models and helpers for the tests of trainable graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

Arrays = Mapping[str, np.ndarray]
TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL, "int8": TensorProto.INT8}


def node(kind: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    """A node; names of tensors are separated by spaces, ``-`` is one left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    domain = attributes.pop("domain", "")
    return helper.make_node(kind, names, outputs.split(), domain=domain, **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    feeds: Arrays,
    stored: Arrays | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    types: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """A model whose sizes are free."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim)
        for name, value in feeds.items()
    ]
    results = [helper.make_tensor_value_info(name, TYPES[(types or {}).get(name, "float32")], None) for name in outputs]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (stored or {}).items()]
    graph = helper.make_graph(list(nodes), "g", inputs, results, tensors)
    domains = [helper.make_opsetid("", opset)]
    if any(step.domain == "com.microsoft" for step in nodes):
        domains.append(helper.make_opsetid("com.microsoft", 1))
    return helper.make_model(graph, opset_imports=domains, ir_version=9)


def reference(proto: onnx.ModelProto, feeds: Arrays, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """What ONNX Runtime computes with its optimisations off; ``names`` are inner tensors to return too."""
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    have = {value.name for value in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in have)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, dict(feeds)), strict=True))


def tensors(feeds: Arrays) -> dict[str, Any]:
    """Feeds as torch takes them."""
    import torch

    return {name: torch.from_numpy(np.array(value)) for name, value in feeds.items()}


def difference(got: Any, want: np.ndarray) -> float:
    """Greatest difference, relative to the largest value that is wanted."""
    found = got.detach().numpy()
    assert found.shape == want.shape and found.dtype == want.dtype
    scale = float(np.abs(want.astype(np.float64)).max(initial=0.0)) or 1.0
    return float(np.abs(found.astype(np.float64) - want.astype(np.float64)).max(initial=0.0)) / scale


def images(data: Path, count: int, standard: bool) -> np.ndarray:
    """CIFAR-10 test images ``[N, 3, 32, 32]``, 0 to 255, or standardised."""
    x = np.load(data / "cifar10/cifar10_test_mini1000.npz")["x"][:count].astype(np.float32).transpose(0, 3, 1, 2)
    if standard:
        mean, spread = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
        x = (x / 255 - mean[:, None, None]) / spread[:, None, None]
    return np.ascontiguousarray(x, np.float32)
