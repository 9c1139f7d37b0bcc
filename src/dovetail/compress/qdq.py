"""Inserts QuantizeLinear/DequantizeLinear (QDQ) pairs, given the range of every activation.

Which pairs ONNX Runtime can fuse decides the speed: a convolution needs a pair on its output, a matrix product does not (it
then returns float from its 8-bit kernel), and a ReLU disappears when the zero point sits at the bottom of the grid.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from dovetail.compress.calibration import Histogram
from dovetail.compress.onnx_file import constants
from dovetail.core.errors import ModelError

CHAIN_TYPES = frozenset({
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "MaxPool", "Relu",
    "Clip", "LeakyRelu", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Pad", "Resize",
    "DepthToSpace",
})  # fmt: skip
"""Operators with 8-bit kernels in ONNX Runtime: a chain of them never leaves 8 bits."""
PRODUCT_TYPES = frozenset({"MatMul", "Gemm"})
SENTINEL = 1e9
"""From this magnitude on a value is a mask, not a quantity; a grid that reached it would resolve nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Integer types, and how values map to them.

    Attributes:
        activation: ``uint8``, ``int8`` or ``int16``.
        weight: ``int8`` or ``uint8``.
        per_channel: one weight scale per output channel.
        symmetric_activation: zero point in the middle.
        reduce_range: 7-bit weights.
    """

    activation: str
    weight: str
    per_channel: bool
    symmetric_activation: bool
    reduce_range: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which operators are quantised.

    Attributes:
        types: operator types.
        exclude: names of operators that stay float.
        float_products: matrix products return float, and only those with a constant operand are quantised.
    """

    types: frozenset[str]
    exclude: frozenset[str]
    float_products: bool

    def covers(self, node: Any) -> bool:
        """Whether this node is to be quantised."""
        return node.op_type in self.types and node.name not in self.exclude


def scope(
    proto: Any, scheme: str, include_types: Collection[str], exclude_types: Collection[str], exclude: Collection[str]
) -> Scope:
    """Resolves ``scheme`` (``chain``, ``products`` or ``auto``) for a graph.

    ``auto`` quantises whole chains, except where two activations are multiplied as in attention: there LayerNormalization,
    Softmax and masks break every chain, and only products with constant weights gain.
    """
    weights = constants(proto)
    attention = any(n.op_type == "MatMul" and not set(n.input) & set(weights) for n in proto.graph.node)
    products = scheme == "products" or (scheme == "auto" and attention)
    types = frozenset(include_types) or (PRODUCT_TYPES if products else CHAIN_TYPES)
    return Scope(types=types - frozenset(exclude_types), exclude=frozenset(exclude), float_products=products)


def activations(proto: Any, where: Scope) -> list[str]:
    """Float tensors, constants apart, that quantised operators read or write, in graph order."""
    infos = [*proto.graph.value_info, *proto.graph.input, *proto.graph.output]
    floats = {v.name for v in infos if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT} - set(constants(proto))
    nodes = [n for n in proto.graph.node if where.covers(n)]
    return list(dict.fromkeys(t for n in nodes for t in (*n.input, *n.output) if t in floats))


def masks(proto: Any, found: Mapping[str, Histogram]) -> set[str]:
    """Names of operators that touch a tensor which carries mask values."""
    masked = {name for name, h in found.items() if max(-h.low, h.high) >= SENTINEL}
    return {n.name for n in proto.graph.node if masked & {*n.input, *n.output}}


class _Quantizer(QDQQuantizer):  # type: ignore[misc]
    """ONNX Runtime's quantiser, except that some activations keep their float values."""

    loose: frozenset[str] = frozenset()

    def quantize_activation_tensor(self, tensor_name: str) -> None:
        if tensor_name not in self.loose:
            super().quantize_activation_tensor(tensor_name)


def quantize(proto: Any, ranges: Mapping[str, tuple[float, float]], grid: Grid, where: Scope) -> Any:
    """The quantised model; ``proto`` (``onnx.ModelProto`` with inferred shapes) is left as it is.

    Raises:
        ModelError: nothing in the graph can be quantised, or ONNX Runtime's quantiser refuses it.
    """
    if not any(where.covers(node) for node in proto.graph.node):
        raise ModelError("no operator can be quantised", hint=f"types looked for: {', '.join(sorted(where.types))}")
    source = onnx.ModelProto()
    source.CopyFrom(proto)
    _mark_inferred(source)
    options = {
        "ActivationSymmetric": grid.symmetric_activation,
        "WeightSymmetric": grid.weight == "int8",
        "MatMulConstBOnly": where.float_products,
        "OpTypesToExcludeOutputQuantization": sorted(PRODUCT_TYPES) if where.float_products else [],
    }
    try:
        quantizer = _Quantizer(
            source,
            grid.per_channel,
            grid.reduce_range,
            _quant_type(grid.weight),
            _quant_type(grid.activation),
            _tensors_data(ranges),
            [],
            sorted(where.exclude | _variable_products(proto, where)),
            sorted(where.types),
            options,
        )
        quantizer.loose = _loose_products(proto, where)
        quantizer.quantize_model()
    except Exception as exc:
        raise ModelError(f"onnxruntime.quantization refuses this graph: {exc}") from exc
    quantised = _in_order(quantizer.model.model)
    _guard_islands(quantised)
    del quantised.metadata_props[:]
    quantised.metadata_props.extend(proto.metadata_props)
    return quantised


def _in_order(proto: Any) -> Any:
    """Every operator behind what it reads, as ONNX demands: ONNX Runtime's quantiser may add pairs behind their readers."""
    model = ir.from_proto(proto)
    model.graph.sort()
    return ir.to_proto(model)


def _quant_type(name: str) -> Any:
    return {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8, "int16": QuantType.QInt16}[name]


def _tensors_data(ranges: Mapping[str, tuple[float, float]]) -> Any:
    pairs = {name: (np.array(low, np.float32), np.array(high, np.float32)) for name, (low, high) in ranges.items()}
    return TensorsData(CalibrationMethod.MinMax, {n: TensorData(lowest=low, highest=high) for n, (low, high) in pairs.items()})


def _mark_inferred(proto: Any) -> None:
    """Tells the quantiser that shapes are inferred already, which saves a round trip through the disk."""
    entry = proto.metadata_props.add()
    entry.key, entry.value = "onnx.infer", "onnxruntime.quant"


def _variable_products(proto: Any, where: Scope) -> set[str]:
    """Products of two activations, which ``float_products`` leaves in float."""
    if not where.float_products:
        return set()
    weights = constants(proto)
    return {n.name for n in proto.graph.node if n.op_type in PRODUCT_TYPES and n.input[1] not in weights}


def _loose_products(proto: Any, where: Scope) -> frozenset[str]:
    """Outputs of quantised products that no quantised operator reads: a pair there would only cost time and precision."""
    read = {t for n in proto.graph.node if where.covers(n) for t in n.input}
    return frozenset(n.output[0] for n in proto.graph.node if where.covers(n) and n.op_type in PRODUCT_TYPES) - read


def _guard_islands(quantised: Any) -> None:
    """Keeps ONNX Runtime from quantising float layers inside an 8-bit chain when it loads the model.

    Its graph optimiser gives 8-bit weights, one scale per tensor, to every Conv, ConvTranspose and Gemm that reads a
    DequantizeLinear with a scalar scale (``core/optimizer/qdq_transformer/weight_bias_quantization.cc``). Such layers get a
    DequantizeLinear of their own that repeats the scale for each channel: the same values, which the optimiser leaves alone.
    """
    stored = constants(quantised)
    producers = {n.output[0]: n for n in quantised.graph.node if n.op_type == "DequantizeLinear"}
    for node in list(quantised.graph.node):
        source = producers.get(node.input[0]) if node.op_type in ("Conv", "ConvTranspose", "Gemm") else None
        if source is None or node.input[1] not in stored or source.input[0] in stored:
            continue
        channels = _input_channels(node, stored[node.input[1]].dims)
        own = onnx.NodeProto()
        own.CopyFrom(source)
        own.name = f"{node.name}_float_input"
        own.output[0] = own.name
        for index in (1, 2):
            own.input[index] = f"{own.name}_{index}"
            repeated = np.repeat(numpy_helper.to_array(stored[source.input[index]]).reshape(1), channels)
            quantised.graph.initializer.append(numpy_helper.from_array(repeated, own.input[index]))
        del own.attribute[:]
        own.attribute.append(onnx.helper.make_attribute("axis", 1))
        node.input[0] = own.name
        quantised.graph.node.insert(list(quantised.graph.node).index(node), own)


def _input_channels(node: Any, dims: Any) -> int:
    """Length of axis 1 of a layer's input, from the shape of its weights."""
    attributes = {a.name: a.i for a in node.attribute}
    if node.op_type == "Conv":
        return int(dims[1] * attributes.get("group", 1))
    if node.op_type == "Gemm":
        return int(dims[1] if attributes.get("transB") else dims[0])
    return int(dims[0])
