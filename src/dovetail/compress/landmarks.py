"""Inner tensors that a network still shares with the one it was made from, for distillation to compare."""

from __future__ import annotations

from typing import Any

Shape = tuple[int, ...]
MAKERS = frozenset({"Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish", "Elu", "Mul", "Add"})
"""Kinds of operators whose outputs are compared."""


def landmarks(student: Any, teacher: Any) -> tuple[tuple[str, str], ...]:
    """The last shared map of every resolution, as (student's tensor, teacher's tensor), in execution order.

    Rewrites keep the names of what they leave in place. A tensor is shared where its name, its maker's name and kind, and its
    shape are the same, the batch apart. Only maps ``[N, C, H, W]`` behind an activation or a sum count.

    Args:
        student: ``onnx.ModelProto``.
        teacher: ``onnx.ModelProto``.
    """
    ours, theirs = _maps(student), _maps(teacher)
    last: dict[Shape, str] = {}
    for name, (maker, shape) in theirs.items():
        if ours.get(name) == (maker, shape):
            last.pop(shape, None)
            last[shape] = name
    return tuple((name, name) for name in last.values())


def _maps(proto: Any) -> dict[str, tuple[tuple[str, str], Shape]]:
    """Maps by name, in execution order: name and kind of the maker, and channels, height, width."""
    import onnx

    shapes = {}
    for value in onnx.shape_inference.infer_shapes(proto).graph.value_info:
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if len(sizes) == 4 and all(sizes[1:]) and sizes[2] * sizes[3] > 1:
            shapes[value.name] = tuple(sizes[1:])
    return {
        name: ((node.name, node.op_type), shapes[name])
        for node in proto.graph.node
        if node.op_type in MAKERS
        for name in node.output
        if name in shapes
    }
