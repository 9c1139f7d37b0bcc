"""Concrete shapes for a model's inputs: what is given, and documented assumptions for the rest.

The assumptions are those of :func:`dovetail.core.sizes.assumed_size`. An unnamed dimension is called ``input[axis]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import GraphProto, TensorShapeProto, ValueInfoProto

from dovetail.core.errors import InputError
from dovetail.core.sizes import assumed_size
from dovetail.workloads.shapes import Fact, tensor_fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Concrete inputs of a graph.

    Attributes:
        facts: input name → what is known of it.
        shapes: input name → concrete shape, of the tensors among them.
        assumed: symbolic dimension → size that was assumed.
    """

    facts: Mapping[str, Fact]
    shapes: Mapping[str, tuple[int, ...]]
    assumed: Mapping[str, int]


def bind_shapes(graph: GraphProto, given: Mapping[str, Sequence[int]]) -> Binding:
    """Gives every tensor input a concrete shape.

    Args:
        graph: the main graph.
        given: input name → shape, for any of the inputs.

    Raises:
        InputError: a given shape has another rank or contradicts the model or another given shape.
    """
    stored = {tensor.name for tensor in graph.initializer} | {sparse.values.name for sparse in graph.sparse_initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    _check_names(inputs, given)
    sizes: dict[str, int] = {}
    for value in inputs:
        if value.name in given:
            _bind_given(value, given[value.name], sizes)
    assumed: dict[str, int] = {}
    facts = {value.name: _fact(value, given.get(value.name), sizes, assumed) for value in inputs}
    shapes = {name: fact.shape for name, fact in facts.items() if fact.shape is not None}
    return Binding(facts=facts, shapes=shapes, assumed=assumed)


def _check_names(inputs: Sequence[ValueInfoProto], given: Mapping[str, Sequence[int]]) -> None:
    names = [value.name for value in inputs]
    for name in given:
        if name not in names:
            raise InputError(f"the model has no input {name!r}", hint=f"its inputs are: {', '.join(names) or 'none'}")


def _bind_given(value: ValueInfoProto, shape: Sequence[int], sizes: dict[str, int]) -> None:
    where = f"shape {tuple(shape)} of input {value.name!r}"
    if any(size < 0 for size in shape):
        raise InputError("a size is negative", where=where)
    if not value.type.tensor_type.HasField("shape"):
        return
    dims = value.type.tensor_type.shape.dim
    if len(dims) != len(shape):
        raise InputError(f"the model declares {len(dims)} dimensions", where=where)
    for dim, size in zip(dims, shape, strict=True):
        expected = dim.dim_value if dim.HasField("dim_value") else sizes.get(dim.dim_param, size)
        if expected != size:
            raise InputError(f"dimension {dim.dim_param or dim.dim_value} is {expected}, not {size}", where=where)
        if dim.dim_param:
            sizes[dim.dim_param] = size


def _fact(value: ValueInfoProto, given: Sequence[int] | None, sizes: dict[str, int], assumed: dict[str, int]) -> Fact:
    tensor = value.type.tensor_type
    if value.type.WhichOneof("value") != "tensor_type" or (given is None and not tensor.HasField("shape")):
        return Fact(type=value.type)
    if given is not None:
        return tensor_fact(tensor.elem_type, list(given))
    rank = len(tensor.shape.dim)
    shape = [_size(value.name, axis, rank, dim, sizes, assumed) for axis, dim in enumerate(tensor.shape.dim)]
    return tensor_fact(tensor.elem_type, shape)


def _size(
    name: str, axis: int, rank: int, dim: TensorShapeProto.Dimension, sizes: dict[str, int], assumed: dict[str, int]
) -> int:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    label = dim.dim_param or f"{name}[{axis}]"
    if label not in sizes:
        sizes[label] = assumed[label] = assumed_size(dim.dim_param, axis, rank)
    return sizes[label]
