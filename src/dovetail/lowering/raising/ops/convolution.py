"""Convolutions: channels first, weights ``[outputs, inputs, height, width]``."""

from __future__ import annotations

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.lowering.litert_file import LiteRtOperator, LiteRtTensor
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.ops.common import NCHW, finish, require_rank, weights, windows
from dovetail.lowering.raising.values import Constant, is_quantised
from dovetail.lowering.tensors import Order, Quant


def conv_2d(graph: Graph, op: LiteRtOperator) -> None:
    """CONV_2D; groups show in how many channels a filter has."""
    x, w = op.input(0), op.input(1)
    require_rank(op, w, 4)
    group, rest = divmod(x.shape[-1], w.shape[3])
    if rest:
        raise ModelError(f"CONV_2D {op.output.name!r} has {x.shape[-1]} channels for filters of {w.shape[3]}")
    _convolve(graph, op, (0, 3, 1, 2), group)


def depthwise_conv_2d(graph: Graph, op: LiteRtOperator) -> None:
    """DEPTHWISE_CONV_2D: one group for each channel."""
    require_rank(op, op.input(1), 4)
    _convolve(graph, op, (3, 0, 1, 2), op.input(0).shape[-1])


def _convolve(graph: Graph, op: LiteRtOperator, order: Order, group: int) -> None:
    x, w = op.input(0), op.input(1)
    require_rank(op, x, 4)
    dilations = (op.get("dilationHFactor", 1), op.get("dilationWFactor", 1))
    attributes = windows(graph, op, x, w.shape[1:3], dilations)
    operands = [graph.real(x, NCHW), weights(graph, x, w, order), *bias(graph, op, 2, x, w)]
    finish(graph, op, graph.node("Conv", operands, dilations=list(dilations), group=group, **attributes), NCHW)


def transpose_conv(graph: Graph, op: LiteRtOperator) -> None:
    """TRANSPOSE_CONV; what its output has beyond all windows is output padding."""
    w, x = op.input(1), op.input(2)
    require_rank(op, w, 4)
    strides = (op.get("strideH", 0), op.get("strideW", 0))
    begin, end, beyond = [], [], []
    for size, wanted, k, s in zip(graph.fixed(op, x)[1:3], graph.fixed(op, op.output)[1:3], w.shape[1:3], strides, strict=True):
        spare = (size - 1) * s + k - wanted
        begin.append(max(spare, 0) // 2 if op.get("padding") == "SAME" else 0)
        end.append(max(spare, 0) - begin[-1])
        beyond.append(max(-spare, 0))
    operands = [graph.real(x, NCHW), weights(graph, x, w, (3, 0, 1, 2)), *bias(graph, op, 3, x, w)]
    sizes = {"kernel_shape": list(w.shape[1:3]), "strides": list(strides), "pads": begin + end, "output_padding": beyond}
    finish(graph, op, graph.node("ConvTranspose", operands, **sizes), NCHW)


def bias(graph: Graph, op: LiteRtOperator, index: int, x: LiteRtTensor, w: LiteRtTensor) -> list[str]:
    """The bias operand, or none: integers in the scale of the products, whatever scale the file writes beside them."""
    if not op.has(index):
        return []
    tensor = op.input(index)
    found = graph.known(tensor)
    if found is None:
        return [graph.real(tensor)]
    data = found.data.reshape(-1)
    kernel = graph.known(w)
    if data.dtype.kind == "f":
        return [graph.initializer(data, tensor.name)]
    if not is_quantised(x) or kernel is None or kernel.quant is None:
        flat = Constant(data, None if found.quant is None else found.quant.at(0))
        return [graph.initializer(flat.reals.data.astype(np.float32), tensor.name)]
    assert x.quant is not None
    scale = (kernel.quant.scale.astype(np.float64) * x.quant.scale.astype(np.float64)).astype(np.float32)
    quant = Quant(scale=scale, zero_point=np.zeros(scale.size, np.int64), dtype=data.dtype.name)
    limits = np.iinfo(np.int32)
    if data.size and (data.min() < limits.min or data.max() > limits.max):
        return [graph.initializer(quant.dequantise(data), tensor.name)]
    stored = graph.initializer(data.astype(np.int32, copy=False), tensor.name)
    if scale.size == 1:
        return [graph.node("DequantizeLinear", [stored, graph.initializer(scale.reshape(()), "scale")])]
    return [graph.node("DequantizeLinear", [stored, graph.initializer(scale, "scale")], axis=0)]


TABLE = {"CONV_2D": conv_2d, "DEPTHWISE_CONV_2D": depthwise_conv_2d, "TRANSPOSE_CONV": transpose_conv}
