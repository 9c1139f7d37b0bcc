"""Images in another size."""

from __future__ import annotations

from dovetail.core.errors import ModelError
from dovetail.lowering.litert_file import LiteRtOperator, LiteRtTensor
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.ops.common import NCHW, require_rank


def resize_bilinear(graph: Graph, op: LiteRtOperator) -> None:
    """RESIZE_BILINEAR."""
    _resize(graph, op, mode="linear")


def resize_nearest(graph: Graph, op: LiteRtOperator) -> None:
    """RESIZE_NEAREST_NEIGHBOR: rounds down, and halves up where coordinates are centres or corners."""
    plain = not op.get("alignCorners", False) and not op.get("halfPixelCenters", False)
    _resize(graph, op, mode="nearest", nearest_mode="floor" if plain else "round_prefer_ceil")


def _resize(graph: Graph, op: LiteRtOperator, **attributes: str) -> None:
    x = op.input(0)
    require_rank(op, x, 4)
    height, width = (int(size) for size in graph.constant(op, 1, "size").reshape(-1))
    corners, centres = op.get("alignCorners", False), op.get("halfPixelCenters", False)
    if corners and centres:
        raise ModelError(f"{op.code} {op.output.name!r} aligns corners and centres at once")
    where = "align_corners" if corners else "half_pixel" if centres else "asymmetric"
    image = graph.real(x, NCHW)
    operands = [image, "", "", _sizes(graph, x, image, [height, width])]
    graph.bind(op, op.output, graph.node("Resize", operands, coordinate_transformation_mode=where, **attributes), NCHW)


def _sizes(graph: Graph, x: LiteRtTensor, image: str, target: list[int]) -> str:
    """Sizes of the result, those of batch and channels from the operand where they are open."""
    known = [graph.sizes(x)[0], graph.sizes(x)[3]]
    if -1 not in known:
        return graph.integers([*known, *target], "sizes")
    shape = graph.node("Slice", [graph.node("Shape", [image]), graph.integers([0]), graph.integers([2])])
    return graph.node("Concat", [shape, graph.integers(target, "sizes")], axis=0)


TABLE = {"RESIZE_BILINEAR": resize_bilinear, "RESIZE_NEAREST_NEIGHBOR": resize_nearest}
