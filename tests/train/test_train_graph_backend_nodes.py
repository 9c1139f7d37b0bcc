"""Every node model of the standard's own tests either agrees with its stored results or is refused with a reason."""

import warnings
from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from dovetail.core.errors import ModelError  # noqa: E402
from dovetail.train.graph import TrainableGraph  # noqa: E402
from dovetail.train.ops.types import from_array  # noqa: E402

OTHERWISE = {
    "test_training_dropout_default": "drops in the graph's training mode alone",
    "test_training_dropout_default_mask": "likewise",
    "test_training_dropout": "likewise",
    "test_training_dropout_mask": "likewise",
    "test_resize_downsample_scales_linear_align_corners": "computed as ONNX Runtime does",
    "test_resize_downsample_scales_cubic_align_corners": "likewise",
}
NARROW = frozenset({"int4", "uint4", "int2", "uint2", "bfloat16"})
"""Types that numpy or torch lacks: values are compared, types are not."""
AGREEING = 1150
"""At least so many agree."""


@pytest.mark.slow
def test_every_node_model_agrees_or_is_refused() -> None:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the standard's own reference computations overflow on purpose
        cases = load_model_tests(kind="node")
    found: dict[str, list[str]] = {"agrees": [], "refused": [], "wrong": [], "not tensors": []}
    operators: Counter[str] = Counter()
    for case in cases:
        kind, reason = outcome(case)
        found[kind].append(f"{case.name}: {reason}")
        if kind == "refused":
            operators.update({node.op_type for node in case.model.graph.node})
    print({kind: len(names) for kind, names in found.items()}, dict(operators.most_common(40)))
    assert not found["wrong"], "\n".join(found["wrong"])
    assert len(found["agrees"]) >= AGREEING


def outcome(case: Any) -> tuple[str, str]:
    """``agrees``, ``refused``, ``wrong`` or ``not tensors``, and why."""
    inputs, outputs = case.data_sets[0]
    try:
        graph = TrainableGraph(case.model, frozen=True)
        feeds = {value.name: from_array(_array(data)) for value, data in zip(case.model.graph.input, inputs, strict=True)}
        wanted = [_array(data) for data in outputs]
        with torch.no_grad():
            results = graph(feeds)
    except ModelError as exc:
        return "refused", str(exc)
    except NotImplementedError:
        return "not tensors", ""
    for value, want in zip(case.model.graph.output, wanted, strict=True):
        reason = _difference(results[value.name], want, 2e-3 if "fp16" in case.name else 1e-3)
        if reason and case.name not in OTHERWISE:
            return "wrong", reason
    return "agrees", ""


def _array(value: Any) -> np.ndarray:
    if isinstance(value, list | dict) or value is None or (isinstance(value, onnx.TensorProto) and value.data_type == 8):
        raise NotImplementedError
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _difference(found: Any, want: np.ndarray, tolerance: float) -> str:
    got = (found.float() if found.dtype == torch.bfloat16 else found).numpy()
    if got.shape != want.shape:
        return f"shape {got.shape} instead of {want.shape}"
    if got.dtype != want.dtype and want.dtype.name not in NARROW:
        return f"type {got.dtype} instead of {want.dtype}"
    kind = np.complex128 if got.dtype.kind == "c" else np.float64
    tolerance = 2e-2 if want.dtype.name == "bfloat16" else tolerance
    close = np.allclose(got.astype(kind), want.astype(kind), rtol=tolerance, atol=max(1e-5, tolerance / 10), equal_nan=True)
    return "" if close else "other values"
