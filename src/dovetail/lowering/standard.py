"""Brings a graph into the forms that are lowered, by the standard's own definitions, before anything else is read from it.

Operators on integers with their scales become pairs of quantisation around the operator on reals; operators that the standard
defines by others become those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import onnx
import onnx.inliner
from onnx import helper

from dovetail.core.errors import ModelError
from dovetail.lowering.names import free_name

EXPANDED = frozenset({
    "AffineGrid", "CenterCropPad", "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss", "SwiGLU",
})  # fmt: skip
"""Operators that the standard defines by others and that have no better form here."""
_CONTRIB = "com.microsoft"
_ADOPTED = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""Operators of that domain that the standard has too; quantisers write them for types that its older versions lack."""
Replacement = Callable[["_Names", onnx.NodeProto], Iterator[onnx.NodeProto]]


class _Names:
    """Names of new values."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._taken = {name for node in graph.node for name in (*node.input, *node.output)}

    def free(self, wanted: str) -> str:
        name = free_name(wanted, self._taken)
        self._taken.add(name)
        return name


def expand(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replaces what is defined by other operators; the same model where there is nothing of that.

    Args:
        model: with the types of all inputs; weights may be inputs too, which keeps it small.

    Raises:
        ModelError: a definition does not fit the operator.
    """
    names, nodes, changed = _Names(model.graph), [], False
    for node in model.graph.node:
        if node.domain == _CONTRIB and node.op_type in _ADOPTED:
            node.domain = ""
        if node.op_type == "MeanVarianceNormalization" and not node.attribute:
            node.attribute.append(helper.make_attribute("axes", [0, 2, 3]))  # without its default, onnx infers no shape
        replacement = _INTEGERS.get(node.op_type) if node.domain in ("", "ai.onnx", _CONTRIB) else None
        changed = changed or replacement is not None
        nodes += [node] if replacement is None else list(replacement(names, node))
    if changed:
        _set_nodes(model, nodes)
    expanded = any(node.op_type in EXPANDED and node.domain in ("", "ai.onnx") for node in model.graph.node)
    return _inlined(model) if expanded else model


def _set_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    known = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:  # this code looks for types among inputs alone
        if tensor.name not in known:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    try:
        chosen = [("", op) for op in sorted(EXPANDED)]
        return onnx.inliner.inline_selected_functions(model, chosen, inline_schema_functions=True)
    except Exception as exc:  # native code raises unrelated types
        raise ModelError(f"an operator cannot be replaced by its definition: {str(exc).strip().splitlines()[-1]}") from exc


# -- pooling -------------------------------------------------------------------------------------------------------------


def exact_windows(node: onnx.NodeProto, shape: Sequence[int]) -> onnx.NodeProto | None:
    """Pooling with ceil_mode in terms of padding; ``None`` where it is not that, or would change what a mean counts.

    A last window that starts in the padding at the end is left out, as the standard says; onnx infers shapes by that from
    opset 22 alone, ONNX Runtime goes by it always.

    Args:
        node: the operator.
        shape: of its input.
    """
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type not in ("MaxPool", "AveragePool", "LpPool") or not given.get("ceil_mode"):
        return None
    kernel, n = given["kernel_shape"], len(shape) - 2
    strides, dilations = (list(given.get(key) or [1] * n) for key in ("strides", "dilations"))
    pads = list(given.get("pads") or [0] * (2 * n))
    if given.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    partial, ends = False, []
    for axis, size in enumerate(shape[2:]):
        reach, whole = (kernel[axis] - 1) * dilations[axis] + 1, pads[axis] + size
        count = -(-(whole + pads[n + axis] - reach) // strides[axis]) + 1
        count -= (count - 1) * strides[axis] >= whole
        end = (count - 1) * strides[axis] + reach - whole
        partial = partial or end > pads[n + axis]
        ends.append(max(end, 0))
    counted = partial and bool(given.get("count_include_pad"))
    fixed = {**given, "pads": [*pads[:n], *(min(e, p) if counted else e for e, p in zip(ends, pads[n:], strict=True))]}
    fixed["ceil_mode"] = int(counted)
    new = helper.make_node(node.op_type, node.input, node.output, name=node.name, **fixed)
    return None if counted and fixed["pads"] == pads else new


# -- operators on integers -----------------------------------------------------------------------------------------------


def _real(names: _Names, value: str, scale: str, zero: str, axis: int | None = None) -> tuple[onnx.NodeProto, str]:
    out = names.free(f"{value}/real")
    attributes = {} if axis is None else {"axis": axis}
    return helper.make_node("DequantizeLinear", [value, scale, zero][: 3 if zero else 2], [out], **attributes), out


def _stored(names: _Names, node: onnx.NodeProto, scale: str, zero: str) -> tuple[onnx.NodeProto, str]:
    real = names.free(f"{node.output[0]}/real")
    return helper.make_node("QuantizeLinear", [real, scale, zero], [node.output[0]]), real


def _operator(node: onnx.NodeProto, op: str, inputs: list[str], output: str, *dropped: str) -> onnx.NodeProto:
    made = helper.make_node(op, inputs, [output], name=node.name)
    made.attribute.extend(a for a in node.attribute if a.name not in dropped)
    return made


def _bias(names: _Names, rest: Sequence[str], x_scale: str, w_scale: str) -> tuple[list[onnx.NodeProto], list[str]]:
    """The bias of a product, if there is one: its scale is that of its operands multiplied."""
    if not rest or not rest[0]:
        return [], []
    scale = names.free(f"{rest[0]}/scale")
    dequantise, real = _real(names, rest[0], scale, "", axis=0)
    return [helper.make_node("Mul", [x_scale, w_scale], [scale]), dequantise], [real]


def _convolution(names: _Names, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    x, xs, xz, w, ws, wz, ys, yz, *rest = node.input
    (dx, real_x), (dw, real_w) = _real(names, x, xs, xz), _real(names, w, ws, wz, axis=0)
    q, real_y = _stored(names, node, ys, yz)
    yield from (dx, dw)
    extra, bias = _bias(names, rest, xs, ws)
    yield from (*extra, _operator(node, "Conv", [real_x, real_w, *bias], real_y), q)


def _product(names: _Names, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    a, a_s, az, b, bs, bz, ys, yz = node.input
    (da, real_a), (db, real_b) = _real(names, a, a_s, az, axis=-2), _real(names, b, bs, bz, axis=-1)
    q, real_y = _stored(names, node, ys, yz)
    yield from (da, db, _operator(node, "MatMul", [real_a, real_b], real_y), q)


def _gemm(names: _Names, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    a, a_s, az, b, bs, bz, *rest = node.input
    turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    (da, real_a), (db, real_b) = _real(names, a, a_s, az), _real(names, b, bs, bz, axis=0 if turned else 1)
    yield from (da, db)
    extra, bias = _bias(names, rest, a_s, bs)
    yield from extra
    inputs = [real_a, real_b, *bias]
    if len(rest) > 1 and rest[1]:
        q, real_y = _stored(names, node, rest[1], rest[2])
        yield from (_operator(node, "Gemm", inputs, real_y), q)
    else:
        yield _operator(node, "Gemm", inputs, node.output[0])


def _of(op: str, operands: int, *dropped: str) -> Replacement:
    """Operators whose inputs are values, each with scale and zero point, and the scale and zero point of the result."""

    def replace(names: _Names, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        if any(attribute.name == "channels_last" and attribute.i for attribute in node.attribute):
            raise ModelError(f"{node.op_type} {node.output[0]!r} stores channels last, which the standard does not")
        inputs = []
        for start in range(0, 3 * operands, 3):
            dequantise, real = _real(names, *node.input[start : start + 3])
            inputs.append(real)
            yield dequantise
        q, real_y = _stored(names, node, *node.input[3 * operands : 3 * operands + 2])
        yield from (_operator(node, op, inputs, real_y, *dropped), q)

    return replace


def _concat(names: _Names, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    ys, yz, *rest = node.input
    inputs = []
    for start in range(0, len(rest), 3):
        dequantise, real = _real(names, *rest[start : start + 3])
        inputs.append(real)
        yield dequantise
    q, real_y = _stored(names, node, ys, yz)
    yield from (_operator(node, "Concat", inputs, real_y), q)


_INTEGERS: dict[str, Replacement] = {
    "QLinearConv": _convolution,
    "QLinearMatMul": _product,
    "QGemm": _gemm,
    "QLinearAdd": _of("Add", 2),
    "QLinearMul": _of("Mul", 2),
    "QLinearSigmoid": _of("Sigmoid", 1),
    "QLinearLeakyRelu": _of("LeakyRelu", 1),
    "QLinearSoftmax": _of("Softmax", 1, "opset"),
    "QLinearGlobalAveragePool": _of("GlobalAveragePool", 1, "channels_last"),
    "QLinearAveragePool": _of("AveragePool", 1, "channels_last"),
    "QLinearConcat": _concat,
}
