"""Conversions between types of numbers."""

from __future__ import annotations

import numpy as np
import onnx

from dovetail.core.errors import ModelError
from dovetail.lowering.litert_file import LiteRtOperator
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.values import is_quantised

_FAKE_BITS = 8


def cast(graph: Graph, op: LiteRtOperator) -> None:
    """CAST of what is stored: integers that stand for reals are cast as integers."""
    x = op.input(0)
    order = graph.order(x)
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(op.output.dtype))
    graph.bind_stored(op.output, graph.node("Cast", [graph.stored(x, order)], to=kind), order)


def quantize(graph: Graph, op: LiteRtOperator) -> None:
    """QUANTIZE, of reals or from one scale to another."""
    order = graph.order(op.input(0))
    graph.bind(op, op.output, graph.real(op.input(0), order), order)


def dequantize(graph: Graph, op: LiteRtOperator) -> None:
    """DEQUANTIZE; of half-precision constants, which become single precision."""
    x = op.input(0)
    found = graph.known(x)
    if found is not None and found.data.dtype == np.float16:
        graph.fix(op.output, found.data.astype(op.output.dtype))
    elif found is not None:
        graph.fix(op.output, found.data, found.quant)
    elif is_quantised(x):
        order = graph.order(x)
        graph.bind(op, op.output, graph.real(x, order), order)
    else:
        cast(graph, op)


def densify(graph: Graph, op: LiteRtOperator) -> None:
    """DENSIFY: sparse constants were written out in full as the file was read."""
    found = graph.known(op.input(0))
    if found is None:
        raise ModelError(f"DENSIFY {op.output.name!r} takes a computed tensor")
    graph.fix(op.output, found.data, found.quant)


def fake_quant(graph: Graph, op: LiteRtOperator) -> None:
    """FAKE_QUANT to 8 bits: a pair of quantisation, its range moved so that zero is one of its steps."""
    if op.get("numBits", _FAKE_BITS) != _FAKE_BITS:
        raise ModelError(f"FAKE_QUANT {op.output.name!r} has {op.get('numBits')} bits; 8 are imported")
    low, high = float(op.get("min", 0.0)), float(op.get("max", 0.0))
    least, greatest = int(op.get("narrowRange", False)), 255
    if not low <= 0.0 <= high or low == high:
        raise ModelError(f"FAKE_QUANT {op.output.name!r} has the range {low} to {high}")
    scale = (high - low) / (greatest - least)
    zero = int(np.clip(np.floor(least - low / scale + 0.5), least, greatest))
    order = graph.order(op.input(0))
    limits = [graph.number((limit - zero) * scale) for limit in (least, greatest)]
    name = graph.node("Clip", [graph.real(op.input(0), order), *limits])
    parameters = [graph.number(scale), graph.initializer(np.array(zero, np.uint8), "zero_point")]
    name = graph.node("QuantizeLinear", [name, *parameters])
    graph.bind(op, op.output, graph.node("DequantizeLinear", [name, *parameters]), order)


TABLE = {"CAST": cast, "QUANTIZE": quantize, "DEQUANTIZE": dequantize, "DENSIFY": densify, "FAKE_QUANT": fake_quant}
