"""What the installed ONNX Runtime takes at most. It does not tell, so it is asked with models of one node."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import onnx
from onnx import TensorProto, helper


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeLimits:
    """Newest opset of the default domain and newest IR version that ONNX Runtime ``version`` loads."""

    version: str
    opset: int
    ir_version: int


@cache
def runtime_limits() -> RuntimeLimits:
    """Probes from the newest versions that onnx knows downwards; a few milliseconds, once per process."""
    import onnxruntime

    oldest_opset, oldest_ir = 15, 8
    opset = next(v for v in range(onnx.defs.onnx_opset_version(), 0, -1) if v == oldest_opset or _loads(v, oldest_ir))
    ir_version = next(v for v in range(onnx.IR_VERSION, 0, -1) if v == oldest_ir or _loads(oldest_opset, v))
    return RuntimeLimits(version=onnxruntime.__version__, opset=opset, ir_version=ir_version)


def _loads(opset: int, ir_version: int) -> bool:
    import onnxruntime

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "probe",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # its exception types are private; refusing is the answer
        return False
    return True
