"""What is known of each value of a graph: type, shape, and the value itself where it is small and fixed.

Shapes come from the standard's own inference, one node at a time. Small integers that shapes are computed from are evaluated on
the way, so that graphs which compute their shapes at run time still get concrete ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.reference.ops
import onnx.shape_inference
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, TypeProto, helper, numpy_helper

from dovetail.core.errors import ModelError
from dovetail.workloads import graphs
from dovetail.workloads.load import dtype_name
from dovetail.workloads.structure import tensor_bytes

_VALUE_LIMIT = 1024
"""Values with more elements than this are not followed."""

_BOUNDED_BY_INPUT = frozenset({"NonZero", "Unique", "Compress"})
_NOT_FIXED = frozenset({
    "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
})  # fmt: skip

# Operators of ONNX Runtime whose first output has the type and shape of their first input.
_SAME_AS_INPUT = frozenset({
    "BiasAdd", "BiasGelu", "FastGelu", "Gelu", "MultiHeadAttention", "QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax",
    "QuickGelu", "RotaryEmbedding", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
})  # fmt: skip
# Fused operators of ONNX Runtime whose shapes are those of a standard operator with this many inputs.
_STANDARD_FORM = {"FusedConv": ("Conv", 3), "FusedGemm": ("Gemm", 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What is known of one value.

    Attributes:
        type: its type with whatever dimensions are known; ``None`` when nothing is.
        value: the value itself where it is small and the same in every call at these input shapes.
        constant: stored in the model (an initialiser or a ``Constant``).
        fixed: computed from constants alone: runtimes do it once, when they load the model.
        stored_bytes: bytes of the constants it is, or is computed from.
    """

    type: TypeProto | None = None
    value: NDArray[Any] | None = None
    constant: bool = False
    fixed: bool = False
    stored_bytes: int = 0

    @property
    def elem_type(self) -> int:
        """ONNX element type; 0 when it is unknown or no tensor."""
        return 0 if self.type is None else int(self.type.tensor_type.elem_type)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Concrete shape; ``None`` when any part of it is unknown."""
        if self.type is None or not self.type.tensor_type.HasField("shape"):
            return None
        dims = self.type.tensor_type.shape.dim
        return tuple(dim.dim_value for dim in dims) if all(dim.HasField("dim_value") for dim in dims) else None

    @property
    def n_elements(self) -> int | None:
        """Number of elements; ``None`` when unknown."""
        return None if self.shape is None else math.prod(self.shape)

    @property
    def n_bytes(self) -> int | None:
        """Bytes in memory; ``None`` when unknown, for strings too."""
        if self.n_elements is None or self.elem_type in (TensorProto.UNDEFINED, TensorProto.STRING):
            return None
        return tensor_bytes(self.elem_type, self.n_elements)


def tensor_fact(elem_type: int, shape: Sequence[int | str | None] | None, **known: Any) -> Fact:
    """A fact about a tensor, from its element type and shape."""
    return Fact(type=helper.make_tensor_type_proto(elem_type, shape), **known)


def constant_fact(tensor: TensorProto) -> Fact:
    """What is known of a stored tensor: all, though the value of a large one is not kept."""
    small = math.prod(tensor.dims) <= _VALUE_LIMIT and tensor.data_location != TensorProto.EXTERNAL
    value = numpy_helper.to_array(tensor) if small else None
    fact = tensor_fact(tensor.data_type, list(tensor.dims), value=value, constant=True, fixed=True)
    return replace(fact, stored_bytes=fact.n_bytes or 0)


class Inference:
    """Infers the outputs of single nodes.

    Args:
        opsets: version by domain.
        ir_version: of the model.
    """

    def __init__(self, opsets: Mapping[str, int], ir_version: int) -> None:
        self._opsets = opsets
        self._imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        self._ir_version = ir_version

    def outputs(self, node: NodeProto, inputs: Sequence[Fact | None], declared: Mapping[str, Fact]) -> list[Fact]:
        """Facts about each output of a node without nested graphs.

        Args:
            node: the node.
            inputs: facts about its inputs; ``None`` for one that is left out.
            declared: what the model's annotations say, used where inference knows nothing.
        """
        types = self._types(node, inputs)
        repeatable = node.op_type not in _NOT_FIXED
        fixed = repeatable and all(fact is None or fact.fixed for fact in inputs)
        stored = sum(fact.stored_bytes for fact in inputs if fact is not None) if fixed else 0
        values = self._values(node, inputs, types) if repeatable else [None] * len(node.output)
        facts = []
        for name, type_, value in zip(node.output, types, values, strict=True):
            if value is not None:
                type_ = helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            elif type_ is None or not _has_shape(type_):
                type_ = declared[name].type if name in declared else type_
            fact = Fact(type=type_, value=value, fixed=fixed, constant=node.op_type == "Constant", stored_bytes=stored)
            facts.append(replace(fact, stored_bytes=fact.n_bytes or 0) if fact.constant else fact)
        return facts

    def _types(self, node: NodeProto, inputs: Sequence[Fact | None]) -> list[TypeProto | None]:
        domain = graphs.domain(node.domain)
        if domain == "com.microsoft" and node.op_type in _SAME_AS_INPUT and inputs and inputs[0] is not None:
            return [inputs[0].type, *[None] * (len(node.output) - 1)]
        if domain == "com.microsoft" and node.op_type in _STANDARD_FORM:
            node, inputs = _standard_form(node, inputs)
            domain = ""
        known = {name: fact for name, fact in zip(node.input, inputs, strict=True) if name and fact is not None}
        if any(fact.type is None for fact in known.values()):
            return [None] * len(node.output)
        values = {name: numpy_helper.from_array(fact.value, name) for name, fact in known.items() if fact.value is not None}
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opsets.get(domain, 1), domain)
            found = onnx.shape_inference.infer_node_outputs(
                schema,
                node,
                {name: fact.type for name, fact in known.items()},
                values,
                opset_imports=self._imports,
                ir_version=self._ir_version,
            )
        except (
            onnx.checker.ValidationError, onnx.defs.SchemaError, onnx.shape_inference.InferenceError, RuntimeError, KeyError,
        ):  # fmt: skip
            return [None] * len(node.output)  # an unknown shape is an answer: its operators are listed as uncounted
        return [found.get(name) if name else None for name in node.output]

    def _values(
        self, node: NodeProto, inputs: Sequence[Fact | None], types: Sequence[TypeProto | None]
    ) -> list[NDArray[Any] | None]:
        """Evaluates a node whose inputs are all known and whose outputs are small."""
        unknown: list[NDArray[Any] | None] = [None] * len(node.output)
        if node.op_type in ("Shape", "Size") and inputs and inputs[0] is not None and inputs[0].shape is not None:
            return [_shape_value(node, inputs[0].shape)]
        if any(fact is not None and fact.value is None for fact in inputs):
            return unknown
        sizes = [Fact(type=type_).n_elements for type_ in types]
        if node.op_type not in _BOUNDED_BY_INPUT and any(size is None or size > _VALUE_LIMIT for size in sizes):
            return unknown
        results = self._evaluate(node, [None if fact is None else fact.value for fact in inputs])
        values = [result if isinstance(result, np.ndarray) else None for result in results]
        return values if len(values) == len(node.output) else unknown

    def _evaluate(self, node: NodeProto, values: Sequence[NDArray[Any] | None]) -> tuple[Any, ...]:
        domain = graphs.domain(node.domain)
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        try:
            operator: Any = onnx.reference.ops.load_op(domain, node.op_type, self._opsets.get(domain, 1))
            with np.errstate(all="ignore"):
                result = operator.eval(*values, **attributes)
        except Exception:  # the reference evaluator is incomplete and raises anything; an unknown value is an answer
            return ()
        return result if isinstance(result, tuple) else (result,)


def _standard_form(node: NodeProto, inputs: Sequence[Fact | None]) -> tuple[NodeProto, Sequence[Fact | None]]:
    kind, n_inputs = _STANDARD_FORM[node.op_type]
    standard = NodeProto()
    standard.CopyFrom(node)
    standard.op_type, standard.domain = kind, ""
    del standard.input[n_inputs:]
    known = onnx.defs.get_schema(kind).attributes
    for attribute in [attribute for attribute in standard.attribute if attribute.name not in known]:
        standard.attribute.remove(attribute)
    return standard, inputs[:n_inputs]


def _has_shape(type_: TypeProto) -> bool:
    return type_.WhichOneof("value") != "tensor_type" or bool(type_.tensor_type.HasField("shape"))


def _shape_value(node: NodeProto, shape: tuple[int, ...]) -> NDArray[Any]:
    if node.op_type == "Size":
        return np.array(math.prod(shape), dtype=np.int64)
    bounds = {attribute.name: attribute.i for attribute in node.attribute}
    return np.array(shape[bounds.get("start", 0) : bounds.get("end", len(shape))], dtype=np.int64)


def dtype_of(fact: Fact) -> str:
    """The numpy name of a value's element type, ``unknown`` when it has none."""
    try:
        return dtype_name(fact.elem_type)
    except ModelError:
        return "unknown"
