"""Moves preprocessing into the graph, so that the deployed model takes raw input: ``y = (x · scale - mean) / std``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from dovetail.compress import settings
from dovetail.compress.graph import affine, files, simplify
from dovetail.compress.graph.edit import new_constant, new_node
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Array, Model, Pass, PassContext

DTYPES = {"uint8": ir.DataType.UINT8, "int8": ir.DataType.INT8, "float32": ir.DataType.FLOAT}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldInputConfig:
    """The declared preprocessing of one input.

    Attributes:
        input: name of the input; may be left out where the model has one.
        dtype: element type of the raw input.
        layout: ``NHWC`` when the raw input has its channels last (the model has them on axis 1).
        scale: factor applied first: one number, or a list with one per channel.
        mean: subtracted next, in scaled units.
        std: divisor applied last.
        fold: moves what is exact into the first convolution or matrix product; otherwise all stays as operators in front.
    """

    input: str = ""
    dtype: Literal["uint8", "int8", "float32"] = "uint8"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    scale: tuple[str, ...] = ("1",)
    mean: tuple[str, ...] = ("0",)
    std: tuple[str, ...] = ("1",)
    fold: bool = True


class FoldInput(Pass):
    """Changes the input's type and layout; outputs for raw input equal those for preprocessed input up to rounding.

    Factors always fold into the first linear operator. Offsets fold where it does not pad with zeros: a padded convolution
    would see the offset beyond the border too, so in front of it one Add of ``-mean / scale`` stays.
    """

    name: ClassVar[str] = "fold_input"

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes the model with raw input; parameters as in :class:`FoldInputConfig`.

        Raises:
            InputError: a parameter is malformed or does not fit the input.
            ModelError: the model has no such float input.
        """
        given = {k: (v,) if isinstance(v, int | float) and k != "fold" else v for k, v in ctx.config.items()}
        config = settings.read(FoldInputConfig, given, self.name)
        graph_model = files.load(model)
        value = _find(graph_model.graph, config.input)
        scale, mean, std = (_vector(getattr(config, key), key, value) for key in ("scale", "mean", "std"))
        if not np.all(scale) or not np.all(std):
            raise InputError("scale and std are not zero", where=self.name)
        insert(graph_model.graph, value, config, scale / std, -mean / std)
        if config.fold:
            simplify.apply_rules(graph_model, [affine.fold_before])
        return files.save(simplify.simplify(graph_model), ctx.workdir)


def insert(graph: ir.Graph, value: ir.Value, config: FoldInputConfig, factor: Array, offset: Array) -> None:
    """Replaces a graph input by a raw one, followed by Transpose, Cast, Mul and Add as far as they are needed.

    Args:
        graph: main graph.
        value: the float input, channels on axis 1.
        config: element type and layout of the raw input.
        factor: ``float64[1]`` or ``float64[channels]``.
        offset: the same; ``y = factor · x + offset``.
    """
    assert value.shape is not None
    dims = list(value.shape)
    raw_dims = [dims[0], *dims[2:], dims[1]] if config.layout == "NHWC" else dims
    name = value.name
    raw = ir.Value(name=name, type=ir.TensorType(DTYPES[config.dtype]), shape=ir.Shape(raw_dims))
    readers = list(value.uses())
    value.name = f"{name}_preprocessed"
    graph.inputs[list(graph.inputs).index(value)] = raw
    nodes: list[ir.Node] = []
    if config.layout == "NHWC":  # first, while elements are small
        nodes.append(new_node("Transpose", [raw], {"perm": [0, len(dims) - 1, *range(1, len(dims) - 1)]}))
        nodes[-1].outputs[0].type, nodes[-1].outputs[0].shape = raw.type, ir.Shape(dims)
    if config.dtype != "float32":
        nodes.append(new_node("Cast", [nodes[-1].outputs[0] if nodes else raw], {"to": ir.DataType.FLOAT}, like=value))
    anchor = readers[0][0]
    for op_type, vector, neutral in (("Mul", factor, 1.0), ("Add", offset, 0.0)):
        if np.any(vector != neutral):
            array = vector.astype(np.float32).reshape(-1, *(1,) * (len(dims) - 2))
            operand = new_constant(anchor, array, f"{name}_{op_type.lower()}")
            nodes.append(new_node(op_type, [nodes[-1].outputs[0] if nodes else raw, operand], like=value))
    result = nodes[-1].outputs[0] if nodes else raw
    for reader, position in readers:
        reader.replace_input_with(position, result)
    if nodes:
        graph.insert_before(graph[0], nodes)


def _find(graph: ir.Graph, name: str) -> ir.Value:
    known = [str(v.name) for v in graph.inputs]
    if not name and len(known) > 1:
        raise InputError("the model has several inputs", where="fold_input.input", hint=f"name one of: {', '.join(known)}")
    if name and name not in known:
        raise InputError(f"the model has no input {name!r}", where="fold_input.input", hint=f"inputs: {', '.join(known)}")
    value: ir.Value = graph.inputs[known.index(name) if name else 0]
    if value.dtype != ir.DataType.FLOAT or value.shape is None or len(value.shape) < 2:
        raise ModelError(f"input {value.name!r} is not a float32 tensor with channels on axis 1", where="fold_input")
    if value.is_graph_output() or not value.uses():
        raise ModelError(f"input {value.name!r} goes to no operator", where="fold_input")
    return value


def _vector(entries: tuple[str, ...], key: str, value: ir.Value) -> Array:
    where = f"fold_input.{key}"
    try:
        vector = np.array([float(e) for e in entries])
    except ValueError as exc:
        raise InputError(f"{', '.join(entries)} are not numbers", where=where) from exc
    assert value.shape is not None
    channels = value.shape[1]
    settings.require(bool(vector.size) and bool(np.isfinite(vector).all()), "one finite number, or one per channel", where)
    settings.require(vector.size in (1, channels), f"{vector.size} numbers for {channels} channels of {value.name!r}", where)
    return vector
