"""Small models written out node by node, lowered and compared with ONNX Runtime with and without XNNPACK."""

from __future__ import annotations

import atexit
import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from lowered import Arrays, LiteRT, difference, reference, too_low
from onnx import helper, numpy_helper

from dovetail.lowering.lower import Report, lower

SEED = 7


def numbers(*shape: int, seed: int = SEED) -> np.ndarray:
    """Normal floats."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node; names are separated by blanks, ``-`` is one left out."""
    names = [["" if name == "-" else name for name in given.split()] for given in (inputs, outputs)]
    return helper.make_node(op, *names, **attributes)


def model(
    nodes: Sequence[onnx.NodeProto], feeds: Arrays, outputs: str, constants: Mapping[str, Any] | None = None, opset: int = 21
) -> onnx.ModelProto:
    """A model whose inputs have the shapes and types of some feeds."""
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    made = [helper.make_empty_tensor_value_info(name) for name in outputs.split()]
    graph = helper.make_graph(list(nodes), "written", given, made, stored)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(proto)


def lowered(proto: onnx.ModelProto, folder: Path) -> tuple[bytes, Report]:
    """The LiteRT file and what was said about it."""
    source, out = folder / "model.onnx", folder / "model.tflite"
    source.write_bytes(proto.SerializeToString())
    report = lower(source, out)
    assert not too_low(out)
    return out.read_bytes(), report


@functools.cache
def runtime() -> LiteRT:
    """One for all tests of a process."""
    made = LiteRT()
    atexit.register(made.close)
    return made


def found(proto: onnx.ModelProto, feeds: Arrays, folder: Path, delegate: bool = True) -> dict[str, np.ndarray]:
    """What LiteRT computes."""
    return runtime().run(lowered(proto, folder)[0], feeds, delegate)


def agreeing(proto: onnx.ModelProto, feeds: Arrays, folder: Path, want: Arrays | None = None) -> tuple[Counter[str], Report]:
    """Operators of the lowered model, once both ways of running it give what ONNX Runtime gives, or what is wanted."""
    data, report = lowered(proto, folder)
    expected = reference(proto, feeds) if want is None else want
    for delegate in (True, False):
        got = runtime().run(data, feeds, delegate)
        for name, value in expected.items():
            reason = difference(value, got[name])
            assert reason is None, f"{name} is {reason}, delegate={delegate}"
    return Counter(report.operators), report
