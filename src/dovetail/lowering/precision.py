"""Reals of other precisions are computed in single precision; inputs and outputs keep the type that the model gives them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from dovetail.core.protocols import Array

OTHERS = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16, "float64": TensorProto.DOUBLE}
_TYPED = frozenset({"to", "dtype", "output_dtype", "stash_type", "softmax_precision"})
"""Attributes that name a type."""


def to_single(model: onnx.ModelProto, constants: dict[str, Array], types: Mapping[str, str]) -> list[str]:
    """Changes a graph in place to compute in single precision, with casts at its border.

    Args:
        model: nodes, inputs and outputs.
        constants: changed too.
        types: value → numpy's name of its type.

    Returns:
        What was changed, one phrase; nothing for a graph in single precision.
    """
    found = {types[name] for name in types if types[name] in OTHERS}
    if not found:
        return []
    for name, value in constants.items():
        if value.dtype.name in OTHERS:
            with np.errstate(over="ignore"):
                constants[name] = value.astype(np.float32)
    inputs = [v.name for v in model.graph.input if types.get(v.name) in OTHERS]
    outputs = [v.name for v in model.graph.output if types.get(v.name) in OTHERS and v.name not in inputs]
    renamed = {name: f"{name}/float32" for name in (*inputs, *outputs)}
    constants.update({renamed[name]: constants.pop(name) for name in outputs if name in constants})
    first = [helper.make_node("Cast", [name], [renamed[name]], to=TensorProto.FLOAT) for name in inputs]
    last = [helper.make_node("Cast", [renamed[name]], [name], to=OTHERS[types[name]]) for name in outputs]
    middle = [_changed(node, renamed) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend((*first, *middle, *last))
    return [f"computed in float32, where the model has {' and '.join(sorted(found))}"]


def _changed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    new = onnx.NodeProto()
    new.CopyFrom(node)
    new.input[:] = [names.get(name, name) for name in node.input]
    new.output[:] = [names.get(name, name) for name in node.output]
    for attribute in new.attribute:
        if attribute.name in _TYPED and attribute.i in OTHERS.values():
            attribute.i = TensorProto.FLOAT
    return new
