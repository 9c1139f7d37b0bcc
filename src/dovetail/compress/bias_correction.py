"""Removes the shift that rounding the weights causes in the mean output of each channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from dovetail.compress.calibration import open_session, sweep
from dovetail.compress.onnx_file import constants
from dovetail.core.errors import DataError, ModelError
from dovetail.core.protocols import Array, Dataset


def corrected(proto: Any, quantised: Any, dataset: Dataset, samples: int) -> Any:
    """A float model whose Conv and Gemm biases make up for the rounding of their weights.

    With ``W̃ = W + ε`` the expected output moves by ``E[W̃x] - E[Wx] = ε E[x]``, which is subtracted from the bias (Nagel, van
    Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
    arXiv:1906.04721, section 4.2). The layer being linear, ``ε E[x]`` is the layer with weights ``ε`` run on the mean input,
    padding included. Shifts from clipped activations are not covered.

    Args:
        proto: the float ``onnx.ModelProto``.
        quantised: the same after QDQ quantisation, with the same node names.
        dataset: calibration samples.
        samples: how many of them at most.

    Raises:
        DataError: samples differ in shape, so that their inputs have no mean.
        ModelError: no convolution or Gemm is quantised.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    errors = _weight_errors(proto, quantised)
    if not errors:
        raise ModelError("there is no bias to correct: no convolution or Gemm with constant weights is quantised")
    nodes = [n for n in result.graph.node if n.name in errors]
    means = _means(proto, [n.input[0] for n in nodes], dataset, samples)
    for node in nodes:
        _add_to_bias(result, node, -_mean_response(proto, node, errors[node.name], means[node.input[0]]))
    return result


def _weight_errors(proto: Any, quantised: Any) -> dict[str, Array]:
    """Node name → ``ε``, the rounded weight less the weight, of every quantised Conv and Gemm."""
    weights, stored = constants(proto), constants(quantised)
    producers = {n.output[0]: n for n in quantised.graph.node if n.op_type == "DequantizeLinear"}
    dequantised = {n.name: producers.get(n.input[1]) for n in quantised.graph.node if n.op_type in ("Conv", "Gemm")}
    return {
        node.name: _dequantise(source, stored) - numpy_helper.to_array(weights[node.input[1]])
        for node in proto.graph.node
        if (source := dequantised.get(node.name)) is not None and source.input[0] in stored
    }


def _dequantise(node: Any, stored: Mapping[str, Any]) -> Array:
    """``scale (q - zero_point)`` of a constant; ``axis`` as in the operator's definition."""
    integers, scale, zero_point = (numpy_helper.to_array(stored[name]) for name in node.input)
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    shape = [-1 if i == axis % integers.ndim else 1 for i in range(integers.ndim)] if scale.ndim else []
    values: Array = (integers.astype(np.float32) - zero_point.astype(np.float32).reshape(shape)) * scale.reshape(shape)
    return values


def _means(proto: Any, tensors: Sequence[str], dataset: Dataset, samples: int) -> dict[str, Array]:
    """Mean over samples of each tensor, with a batch axis of 1."""
    sums: dict[str, Array] = {}
    count = 0
    for values in sweep(proto, tensors, dataset, samples):
        count += 1
        for name, value in values.items():
            mean = value.mean(axis=0, keepdims=True, dtype=np.float64)
            if name in sums and sums[name].shape != mean.shape:
                raise DataError("bias correction needs calibration samples of one shape", where=dataset.name)
            sums[name] = sums.get(name, 0.0) + mean
    return {name: (total / count).astype(np.float32) for name, total in sums.items()}


def _mean_response(proto: Any, node: Any, weight: Array, mean: Array) -> Array:
    """Mean output per channel, ``float64[channels]``, of a layer with other weights and no bias."""
    layer = onnx.NodeProto()
    layer.CopyFrom(node)
    del layer.input[2:]
    inputs = [helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, mean.shape)]
    outputs = [onnx.ValueInfoProto(name=node.output[0])]
    graph = helper.make_graph([layer], "layer", inputs, outputs, [numpy_helper.from_array(weight, node.input[1])])
    model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    output = open_session(model).run(None, {node.input[0]: mean})[0]
    response: Array = output.mean(axis=tuple(i for i in range(output.ndim) if i != 1), dtype=np.float64)
    return response


def _add_to_bias(proto: Any, node: Any, shift: Array) -> None:
    """Gives a node a bias of its own, moved by ``shift`` (``[channels]``)."""
    present = constants(proto).get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if present is None and len(node.input) > 2 and node.input[2]:
        return  # computed by the graph; nothing constant to correct
    beta = next((a.f for a in node.attribute if a.name == "beta"), 1.0)
    old = numpy_helper.to_array(present) if present is not None else np.zeros(shift.shape, np.float32)
    name = f"{node.name}_corrected_bias"
    proto.graph.initializer.append(numpy_helper.from_array((old + shift / beta).astype(np.float32), name))
    del node.input[2:]
    node.input.append(name)
