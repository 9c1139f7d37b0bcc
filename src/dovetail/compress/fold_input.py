"""Moves preprocessing into the graph, so that the deployed model takes raw input: ``y = (x · scale - mean) / std``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir

from dovetail.compress import settings
from dovetail.compress.graph import affine, files, simplify
from dovetail.compress.graph.edit import new_constant, new_node
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Array, Model, Pass, PassContext

DTYPES = {
    "uint8": ir.DataType.UINT8,
    "int8": ir.DataType.INT8,
    "int16": ir.DataType.INT16,
    "int32": ir.DataType.INT32,
    "float32": ir.DataType.FLOAT,
}
_AXES_AS_INPUT = 13
"""Opset from which Unsqueeze takes its axes as an input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldInputConfig:
    """The declared preprocessing of one input.

    Attributes:
        input: name of the input; may be left out where the model has one.
        dtype: element type of the raw input.
        layout: axis letters of the raw input and of the model's, ``NHWC->NCHW``; a letter that is new on the right is an axis
            of 1 (``NHW->NCHW``); empty where both are the same.
        scale: factor applied first: one number, or a list with one per channel.
        mean: subtracted next, in scaled units.
        std: divisor applied last.
        fold: moves what is exact into the first convolution or matrix product; otherwise all stays as operators in front.
    """

    input: str = ""
    dtype: Literal["uint8", "int8", "int16", "int32", "float32"] = "uint8"
    layout: str = ""
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
        layout = _layout(config.layout, value)
        scale, mean, std = (_vector(getattr(config, key), key, value, layout) for key in ("scale", "mean", "std"))
        if not np.all(scale) or not np.all(std):
            raise InputError("scale and std are not zero", where=self.name)
        _insert(graph_model, value, config, layout, (scale / std, -mean / std))
        if config.fold:
            simplify.apply_rules(graph_model, [affine.fold_before])
        return files.save(simplify.simplify(graph_model), ctx.workdir)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Axes of the raw input and of the model's, batch first.

    Attributes:
        raw: letters of the raw axes; empty where nothing moves.
        own: letters of the model's axes.
    """

    raw: str = ""
    own: str = ""

    @property
    def kept(self) -> str:
        """The raw letters in the model's order."""
        return "".join(letter for letter in self.own if letter in self.raw)

    @property
    def order(self) -> list[int]:
        """Permutation from raw axes to :attr:`kept`."""
        return [self.raw.index(letter) for letter in self.kept]

    @property
    def new(self) -> list[int]:
        """The model's axes that raw input lacks."""
        return [axis for axis, letter in enumerate(self.own) if letter not in self.raw]

    def channel_axis(self, dims: Sequence[object], count: int) -> int:
        """The model's axis that ``count`` channels lie on: the letter ``C``, else the first or last of that length."""
        if "C" in self.own:
            return self.own.index("C")
        return len(dims) - 1 if dims[1] != count and dims[-1] == count else 1


def _insert(
    model: ir.Model, value: ir.Value, config: FoldInputConfig, layout: _Layout, affine_map: tuple[Array, Array]
) -> None:
    """Replaces a graph input by a raw one, followed by Transpose, Unsqueeze, Cast, Mul and Add as far as they are needed.

    Axes move first, while elements are small.
    """
    graph, dims, name = model.graph, list(value.shape or ()), value.name
    letters = dict(zip(layout.own, dims, strict=True)) if layout.raw else {}
    raw_dims = [letters[letter] for letter in layout.raw] if layout.raw else dims
    raw = ir.Value(name=name, type=ir.TensorType(DTYPES[config.dtype]), shape=ir.Shape(raw_dims))
    readers = list(value.uses())
    value.name = f"{name}_preprocessed"
    graph.inputs[list(graph.inputs).index(value)] = raw
    anchor = readers[0][0]
    nodes: list[ir.Node] = []

    def add(op_type: str, *operands: ir.Value, like: ir.Value, shape: Sequence[Any], **attributes: Any) -> None:
        source = nodes[-1].outputs[0] if nodes else raw
        nodes.append(new_node(op_type, [source, *operands], attributes, like=like, shape=shape))

    if layout.order != sorted(layout.order):
        add("Transpose", like=raw, shape=[letters[letter] for letter in layout.kept], perm=layout.order)
    if layout.new and files.opset(model) >= _AXES_AS_INPUT:
        add("Unsqueeze", new_constant(anchor, np.array(layout.new), f"{name}_axes"), like=raw, shape=dims)
    elif layout.new:
        add("Unsqueeze", like=raw, shape=dims, axes=layout.new)
    if config.dtype != "float32":
        add("Cast", like=value, shape=dims, to=ir.DataType.FLOAT)
    for op_type, vector, neutral in zip(("Mul", "Add"), affine_map, (1.0, 0.0), strict=True):
        if np.any(vector != neutral):
            array = vector.astype(np.float32).reshape(_spread(vector.size, dims, layout))
            add(op_type, new_constant(anchor, array, f"{name}_{op_type.lower()}"), like=value, shape=dims)
    result = nodes[-1].outputs[0] if nodes else raw
    for reader, position in readers:
        reader.replace_input_with(position, result)
    if nodes:
        graph.insert_before(graph[0], nodes)


def _spread(count: int, dims: Sequence[object], layout: _Layout) -> list[int]:
    """Shape of a vector over the channels that broadcasts against the input."""
    axis = layout.channel_axis(dims, count)
    return [-1, *(1 for _ in dims[axis + 1 :])]


def _layout(text: str, value: ir.Value) -> _Layout:
    """Reads ``NHWC->NCHW``; the batch is on axis 0 on both sides whether it is named or not."""
    if not text:
        return _Layout()
    raw, arrow, own = text.replace(" ", "").upper().partition("->")
    raw, own = ("N" + side.replace("N", "") for side in (raw, own))
    good = bool(arrow) and len(set(raw)) == len(raw) and len(set(own)) == len(own) and not set(raw) - set(own)
    settings.require(good, f"{text!r} is not two lists of axes like NHWC->NCHW", "fold_input.layout")
    dims = list(value.shape or ())
    fits = len(own) == len(dims)
    settings.require(fits, f"{text!r} names {len(own)} axes of {value.name!r}, which has {len(dims)}", "fold_input.layout")
    layout = _Layout(raw, own)
    longer = [axis for axis in layout.new if dims[axis] != 1]
    settings.require(not longer, f"an axis that raw input lacks has length 1; {value.name!r} is {dims}", "fold_input.layout")
    return layout


def _find(graph: ir.Graph, name: str) -> ir.Value:
    known = [str(v.name) for v in graph.inputs]
    if not name and len(known) > 1:
        raise InputError("the model has several inputs", where="fold_input.input", hint=f"name one of: {', '.join(known)}")
    if name and name not in known:
        raise InputError(f"the model has no input {name!r}", where="fold_input.input", hint=f"inputs: {', '.join(known)}")
    value: ir.Value = graph.inputs[known.index(name) if name else 0]
    if value.dtype != ir.DataType.FLOAT or value.shape is None or len(value.shape) < 2:
        raise ModelError(f"input {value.name!r} is not a float32 tensor with axes beside the batch", where="fold_input")
    if value.is_graph_output() or not value.uses():
        raise ModelError(f"input {value.name!r} goes to no operator", where="fold_input")
    return value


def _vector(entries: tuple[str, ...], key: str, value: ir.Value, layout: _Layout) -> Array:
    where = f"fold_input.{key}"
    try:
        vector = np.array([float(e) for e in entries])
    except ValueError as exc:
        raise InputError(f"{', '.join(entries)} are not numbers", where=where) from exc
    assert value.shape is not None
    channels = value.shape[layout.channel_axis(value.shape, vector.size)]
    settings.require(bool(vector.size) and bool(np.isfinite(vector).all()), "one finite number, or one per channel", where)
    settings.require(vector.size in (1, channels), f"{vector.size} numbers for {channels} channels of {value.name!r}", where)
    return vector
